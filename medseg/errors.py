"""What can go wrong, in the user's words, each with its exit code.

A message reads: the value, the rule it breaks, the remedy.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LACKS_MEMORY = ("not enough memory", "can't allocate memory", "out of memory", "Cannot allocate")


class MedsegError(Exception):
    """A fault that the user can act on; shown as one line, without a stack trace.

    Args:
        args: The message; of a fault with several parts, one for each, shown on lines of their own.
    """

    exit_code = 1

    def __str__(self) -> str:
        """Its lines, those after the first indented."""
        return "\n  ".join(map(str, self.args))


class ConfigError(MedsegError):
    """An impossible, unknown or contradictory choice; found before any data is read."""

    exit_code = 2


class DataError(MedsegError):
    """An input file or dataset that must not be used as it is."""

    exit_code = 3


class UnexpectedError(DataError):
    """What nobody foresaw while one input was worked on; its cause has the trace."""


class ResourceError(MedsegError):
    """The machine cannot do it: disk, memory, device or permission."""

    exit_code = 4


class SignalError(MedsegError):
    """A signal asked the program to stop; what was done so far is saved."""

    def __init__(self, signum: int):
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.exit_code = 128 + signum

    def __reduce__(self) -> tuple:
        return SignalError, (self.signum,)


@contextmanager
def one_volume(path: Path) -> Iterator[None]:
    """Makes whatever goes wrong in the block the failure of one volume.

    The trace of an error that nobody foresaw goes to the log files, not to the terminal.

    Raises:
        MedsegError: as it was raised in the block.
        DataError: anything else, in one line; `UnexpectedError` unless memory was short.
    """
    try:
        yield
    except MedsegError:
        raise
    except Exception as error:
        said = (str(error).strip() or "no message").splitlines()[0][:300]
        if isinstance(error, MemoryError) or any(text in said for text in _LACKS_MEMORY):
            raise DataError(
                f"{path}: needs more memory than is free ({said}); crop it, or use a machine with "
                "more memory"
            ) from error
        _log_trace(path, error)
        raise UnexpectedError(
            f"{path}: failed unexpectedly ({type(error).__name__}: {said}); check the volume, and "
            "if it is sound, report this with the trace in the log"
        ) from error


def _log_trace(path: Path, error: Exception) -> None:
    """Writes a trace to the log files of the process, which a terminal is none of."""
    root = logging.getLogger()
    trace = (type(error), error, error.__traceback__)
    record = root.makeRecord(__name__, logging.ERROR, "", 0, "%s", (path,), trace)
    for handler in root.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)
