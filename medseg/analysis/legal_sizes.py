"""Which image sizes a network accepts and gives back."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch import nn

from medseg.analysis.trace import trace
from medseg.errors import ConfigError

_LARGEST_STEP = 256

_IsLegal = Callable[[int, int], bool]  # axis, length


@dataclass(frozen=True, kw_only=True)
class SizeRule:
    """Sizes along one axis: `least, least + step, least + 2·step, …`.

    Args:
        least: The smallest legal size.
        step: Distance of one legal size to the next.
    """

    least: int
    step: int

    def __str__(self) -> str:
        if self.step == 1:
            return f"any from {self.least}"
        rest = self.least % self.step
        kind = f"multiples of {self.step}" if rest == 0 else f"{rest} more than {self.step}·n"
        return f"{kind} from {self.least}"


def legal_sizes(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[SizeRule | None, ...]:
    """The sizes along each axis at which logits come out, on the image's grid if they can.

    Args:
        network: Image → logits.
        in_channels: Channels of the image.
        size: A legal size, at which the other axes stay.

    Returns:
        One rule per axis; None where no two legal sizes are found.

    Raises:
        ConfigError: `size` itself is not legal.
    """
    keeps_grid = _grid(network, in_channels, size) == tuple(size)

    def is_legal(axis: int, length: int) -> bool:
        tried = [*size[:axis], length, *size[axis + 1 :]]
        try:
            grid = _grid(network, in_channels, tried)
        except ConfigError:
            return False
        return not keeps_grid or grid == tuple(tried)

    return tuple(_rule(axis, length, is_legal) for axis, length in enumerate(size))


def nearest_legal_size(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[int, ...] | None:
    """The next larger size that passes, all axes rounded up to multiples of a power of two."""
    step = 1
    while step <= _LARGEST_STEP:
        tried = tuple(-(-length // step) * step for length in size)
        try:
            _grid(network, in_channels, tried)
        except ConfigError:
            step *= 2
        else:
            return tried
    return None


def _grid(network: nn.Module, in_channels: int, size: Sequence[int]) -> tuple[int, ...]:
    return trace(network, in_channels, size).logits.shape[2:]


def _rule(axis: int, length: int, is_legal: _IsLegal) -> SizeRule | None:
    step = next((s for s in _steps() if is_legal(axis, length + s)), None)
    if step is None:
        return None
    for smaller in [d for d in range(1, step) if step % d == 0]:
        if is_legal(axis, length + smaller):
            step = smaller
            break
    return SizeRule(least=_least(axis, length, step, is_legal), step=step)


def _steps() -> Iterator[int]:
    """Powers of two, then their multiples by small odd numbers."""
    for odd in (1, 3, 5, 7, 9):
        step = odd
        while step <= _LARGEST_STEP:
            yield step
            step *= 2


def _least(axis: int, length: int, step: int, is_legal: _IsLegal) -> int:
    """By bisection: what is legal stays so as it grows by steps."""
    low, high = 0, (length - 1) // step  # steps below `length`; `low` of them is legal
    while low < high:
        middle = (low + high + 1) // 2
        if is_legal(axis, length - middle * step):
            low = middle
        else:
            high = middle - 1
    return length - low * step
