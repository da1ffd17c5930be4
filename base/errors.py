"""The one exception that is meant for the user. Every package may raise it; the command line prints it as one sentence."""

import errno
from collections.abc import Sequence


class InputError(Exception):
    """Something that the user can correct: a missing file, a value out of range, two artefacts that do not fit together.

    The message says what was found, what was expected and what to do. Every other exception is a bug and keeps its traceback.
    """


ENVIRONMENT = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOSPC,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}
"""Errors of the operating system that no program can cause: permissions, disks, limits."""


def sentence_of(error: BaseException) -> str | None:
    """Return what to tell the user about `error` with its notes; None for a bug, which keeps its traceback."""
    notes = getattr(error, "__notes__", [])
    if isinstance(error, InputError):
        return "; ".join([str(error), *notes])
    if isinstance(error, OSError) and error.errno in ENVIRONMENT:
        reason = f"{error.strerror}: {error.filename}" if error.filename is not None else str(error.strerror)
        return "; ".join([reason, *notes])
    return None


def some(names: Sequence[str]) -> str:
    """Return how many there are, and the first three."""
    return f"{len(names):,} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})" if names else "none"
