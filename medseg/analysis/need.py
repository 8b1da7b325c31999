"""What is asked of a tensor: one mask per axis."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from medseg.analysis.trace import Value
from medseg.analysis.windows import Mask

Need = tuple[Mask, ...]
"""The values asked for are those whose every index is; one mask per axis."""

Needs = Iterator[tuple[Value, Need]]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of a step.

    Args:
        need: The part of one of its outputs.
        output: Which output.
        queries: How many questions are asked at once.
    """

    need: Need
    output: int
    queries: int


def everything(value: Value, queries: int) -> Need:
    """All of a tensor."""
    return tuple(np.ones((queries, size), dtype=bool) for size in value.shape)


def united(first: Need | None, second: Need) -> Need:
    """What either asks for, axis by axis; an axis that asks for nothing voids the others."""
    second = only_where(np.logical_and.reduce([anywhere(mask) for mask in second]), second)
    if first is None:
        return second
    return tuple(a | b for a, b in zip(first, second, strict=True))


def anywhere(mask: Mask) -> Mask:
    """Whether any position is asked for, `(queries, 1)`."""
    return np.asarray(mask.any(axis=1, keepdims=True))


def only_where(queries: Mask, need: Need) -> Need:
    """The need of those questions alone; `queries` is `(queries, 1)`."""
    return tuple(mask & queries for mask in need)
