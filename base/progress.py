"""The one protocol between a worker and the process that started it: JSON lines on the worker's standard output.

A worker creates one `Progress` and reports to it; the parent turns each line back into a `Message`. Any other output of a
worker, such as a library's warning or a traceback, is text.
"""

import json
import sys
from dataclasses import asdict, dataclass, field
from time import monotonic
from typing import TextIO

SECONDS_BETWEEN_REPORTS = 0.5
"""(ours) Often enough for a live line in a terminal."""


@dataclass(frozen=True)
class Message:
    """One line of a worker: how far it is, a sentence for the log, or the sentence that ends it."""

    done: float | None = None
    """Units that are finished, those of an earlier run included; None if the line is only text."""
    total: float = 0.0
    unit: str = ""
    """`images`, `bytes`, `epochs`."""
    text: str = ""
    """What to show besides the numbers: `epoch 3/20  loss 1.432`; a sentence for the log if `done` is None."""
    values: dict[str, float] = field(default_factory=dict)
    """Numbers for whoever records them: `loss`, `bytes`."""
    error: bool = False
    """Whether `text` is the `InputError` that ended the worker."""


class Progress:
    """Writes messages, at most one report every half second; sentences are never held back."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.out = out
        self.last_report = float("-inf")

    def due(self) -> bool:
        """Whether the next report will be written. A GPU is asked for its numbers only then."""
        return monotonic() - self.last_report >= SECONDS_BETWEEN_REPORTS

    def report(self, done: float, total: float, unit: str, text: str = "", **values: float) -> None:
        """Say how far the work is, if it is time to or if it is finished."""
        if self.due() or done >= total:
            self.last_report = monotonic()
            self._write(Message(done, total, unit, text, values))

    def say(self, text: str, error: bool = False) -> None:
        """Write a sentence for the log, or with `error` the one that ends the worker."""
        self._write(Message(text=text, error=error))

    def _write(self, message: Message) -> None:
        out = self.out or sys.stdout
        out.write(json.dumps(asdict(message)) + "\n")  # one write, because replicas share a pipe; print makes two
        out.flush()


class Part(Progress):
    """Reports one of several pieces of work of the same length as part of all of them."""

    def __init__(self, whole: Progress, number: int, total: int) -> None:
        super().__init__()
        self.whole, self.number, self.total = whole, number, total

    def due(self) -> bool:
        """Whether the next report will be written."""
        return self.whole.due()

    def report(self, done: float, total: float, unit: str, text: str = "", **values: float) -> None:
        """Report as part of the whole."""
        self.whole.report(self.number * total + done, self.total * total, unit, text, **values)

    def say(self, text: str, error: bool = False) -> None:
        """Say it as the whole does."""
        self.whole.say(text, error)


class Silent(Progress):
    """Writes nothing: for tests, benchmarks and every replica but the first."""

    def _write(self, message: Message) -> None:
        del message


def parse(line: str) -> Message:
    """Return what a line of a worker's output says; a line that is not of this protocol is a text."""
    if not line.startswith('{"done": '):
        return Message(text=line)
    try:
        return Message(**json.loads(line))
    except (TypeError, ValueError):
        return Message(text=line)
