"""Bars for people at a terminal; silent everywhere else."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

T = TypeVar("T")


@contextmanager
def bar(
    total: float, what: str, *, unit: str = "", done: float = 0, delay: float = 0
) -> Iterator[Callable[..., None]]:
    """Shows how much of something is done, and the time left, while its block runs.

    Lines that are logged meanwhile stand above the bar.

    Args:
        total: How much there is to do.
        what: What is done, in front of the bar.
        unit: Of the total.
        done: How much is done already.
        delay: Seconds before it is shown.

    Yields:
        What to call when more is done: by how much (default 1), and `what` and `note` to replace
        the text before and after the bar.
    """
    if not is_terminal():
        yield lambda *_, **__: None
        return
    with (
        tqdm(
            total=total,
            initial=done,
            desc=what,
            unit=unit,
            leave=False,
            delay=delay,
            file=sys.stderr,
            smoothing=0,  # the time left by the mean so far: validations are spread over the steps
        ) as shown,
        logging_redirect_tqdm(),
    ):

        def step(amount: float = 1, *, what: str = "", note: str = "") -> None:
            if what:
                shown.set_description_str(what, refresh=False)
            if note:
                shown.set_postfix_str(note, refresh=False)
            shown.update(amount)

        yield step


def shown(items: Sequence[T], what: str) -> Iterator[T]:
    """Items one after another, under a bar that counts them."""
    with bar(len(items), what) as step:
        for item in items:
            yield item
            step()


def is_terminal() -> bool:
    """Whether standard error is a terminal."""
    return bool(sys.stderr and sys.stderr.isatty())
