"""A limit of time that long calculations look at themselves, as they go from step to step."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_END = ContextVar("end of the time allowed, by the monotonic clock", default=float("inf"))


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Lets what is called inside take this long, and no longer than a limit around it allows."""
    token = _END.set(min(_END.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _END.reset(token)


def check_time() -> None:
    """Does nothing while there is time.

    Raises:
        TimeoutError: there is none left.
    """
    if time.monotonic() > _END.get():
        raise TimeoutError("the time allowed is over")
