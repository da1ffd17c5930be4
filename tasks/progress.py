"""How far a long step is, counted over all of its processes: a bar in the log and in the UI."""

from time import monotonic

from tasks.steps import Log, ProgressArtifact

SECONDS_BETWEEN_LINES = 5.0
WIDTH = 24
"""Of the bar in characters."""


class Bar:
    """Counts images and bytes as they are done, and says so every few seconds."""

    def __init__(self, name: str, total: int, done: int, log: Log) -> None:
        """Begin with what an earlier run had done; rates are of this run alone."""
        self.total, self.done, self.log = total, done, log
        self.images = self.bytes = 0
        self.start = self.last_line = monotonic()
        self.shown = ProgressArtifact(name, log, 100 * done / total)

    def add(self, images: int, num_bytes: int) -> None:
        """Count what a process has done."""
        self.done += images
        self.images += images
        self.bytes += num_bytes
        if monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or self.done == self.total:
            self.last_line = monotonic()
            self.log.info("%s", self.line(monotonic() - self.start))
            self.shown.update(100 * self.done / self.total)

    def line(self, seconds: float) -> str:
        """Return the bar, `seconds` after the start."""
        filled = WIDTH * self.done // self.total
        rate = max(self.images / seconds, 1e-9)
        return (
            f"{'█' * filled}{'░' * (WIDTH - filled)} {self.done / self.total:4.0%}  {self.done:,} of {self.total:,} images  "
            f"{rate:,.0f} images/s  {self.bytes / 1e6 / seconds:,.1f} MB/s  {duration((self.total - self.done) / rate)} left"
        )


def duration(seconds: float) -> str:
    """Return a time as people say it: `45 s`, `12 min`, `5 h 10 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
