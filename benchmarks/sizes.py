"""Sizes at which blocks are measured."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

_TINY_CHANNELS, _TINY_SIDE = 16, 8


@dataclass(frozen=True)
class Problem:
    """An input of a block."""

    channels: int
    size: tuple[int, ...]
    batch: int

    @property
    def dims(self) -> int:
        """Spatial dimensions."""
        return len(self.size)

    @property
    def voxels(self) -> int:
        """Voxels of one item."""
        return math.prod(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        """`(batch, channels, *size)`."""
        return (self.batch, self.channels, *self.size)

    @property
    def label(self) -> str:
        """The problem in words."""
        sides = "×".join(map(str, self.size))
        return f"{self.dims}-D, {self.channels} ch, {sides}, batch {self.batch}"


VOLUMES = tuple(
    Problem(channels, (side,) * 3, batch)
    for channels, side, batch in ((32, 48, 2), (64, 32, 2), (128, 16, 2), (32, 96, 1))
)
PLANES = (Problem(64, (128, 128), 4), Problem(16, (128, 128), 8))
MIDDLE = (Problem(64, (32, 32, 32), 2), Problem(64, (128, 128), 4))
"""The size of each dimension at which all options of a slot are measured."""


def chosen(problems: Iterable[Problem], dims: Iterable[int], *, quick: bool) -> list[Problem]:
    """The problems of some dimensions; one tiny one of each if quick."""
    kept = [p for p in problems if p.dims in tuple(dims)]
    if quick:
        kept = [Problem(_TINY_CHANNELS, (_TINY_SIDE,) * p.dims, 1) for p in kept]
    return list(dict.fromkeys(kept))
