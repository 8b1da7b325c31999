"""Valid input sizes: which images a network accepts, and which patches can be trained on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import nn

from medseg.analysis.trace import abstracted, trace
from medseg.errors import ConfigError
from medseg.models.unet import MultiscaleNetwork

_LARGEST_STEP = 256
_STEPS = [[odd << n for n in range(9) if odd << n <= _LARGEST_STEP] for odd in (1, 3, 5, 7, 9)]
"""Powers of two, then their multiples by small odd numbers."""
_INSTANCE_NORM = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)

_IsValid = Callable[[int, int], bool]  # axis, length


@dataclass(frozen=True, kw_only=True)
class SizeRule:
    """Valid sizes along one axis: `least, least + step, least + 2·step, …`.

    Args:
        least: The smallest valid size.
        step: Distance of one valid size to the next.
    """

    least: int
    step: int

    def __str__(self) -> str:
        if self.step == 1:
            return f"any from {self.least}"
        rest = self.least % self.step
        kind = f"multiples of {self.step}" if rest == 0 else f"{rest} more than {self.step}·n"
        return f"{kind} from {self.least}"


def valid_sizes(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[SizeRule | None, ...]:
    """The sizes along each axis at which logits come out, on the image's grid if they can.

    Args:
        network: Image → logits.
        in_channels: Channels of the image.
        size: A valid size, at which the other axes stay.

    Returns:
        One rule per axis; None where no two valid sizes are found.

    Raises:
        ConfigError: `size` itself is not valid.
    """
    keeps_grid = _grid(network, in_channels, size) == tuple(size)

    def is_valid(axis: int, length: int) -> bool:
        tried = [*size[:axis], length, *size[axis + 1 :]]
        try:
            grid = _grid(network, in_channels, tried)
        except ConfigError:
            return False
        return not keeps_grid or grid == tuple(tried)

    return tuple(_rule(axis, length, is_valid) for axis, length in enumerate(size))


def next_valid_size(
    network: nn.Module, in_channels: int, size: Sequence[int]
) -> tuple[int, ...] | None:
    """The next larger valid size, all axes rounded up to multiples of a power of two."""
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


def check_patch(
    network: nn.Module, in_channels: int, patch_size: Sequence[int], *, deep_supervision: bool
) -> None:
    """Makes sure that a patch passes the network in training, without computing anything.

    Raises:
        ConfigError: it does not; or it shrinks to a single voxel, whose variance is 0.
    """
    abstract = abstracted(network).train()
    patch = torch.empty((1, in_channels, *patch_size), device="meta")
    single: list[nn.Module] = []
    for norm in [m for m in abstract.modules() if isinstance(m, _INSTANCE_NORM)]:
        norm.register_forward_pre_hook(
            lambda norm, inputs: single.append(norm) if inputs[0][0, 0].numel() == 1 else None
        )
    try:
        with torch.no_grad():
            if deep_supervision and isinstance(abstract, MultiscaleNetwork):
                abstract.multiscale_logits(patch)
            abstract(patch)
    except (RuntimeError, ValueError) as error:
        if not single:
            reason = str(error).splitlines()[0]
            raise ConfigError(
                f"patch_size={list(patch_size)} with {in_channels} channels does not pass "
                f"{type(network).__name__}: {reason}"
            ) from error
    if single:
        raise ConfigError(
            f"patch_size={list(patch_size)} shrinks to a single voxel in the bottleneck, which "
            "cannot be normalised; choose a larger patch_size or fewer stages"
        )


def _grid(network: nn.Module, in_channels: int, size: Sequence[int]) -> tuple[int, ...]:
    return trace(network, in_channels, size).logits.shape[2:]


def _rule(axis: int, length: int, is_valid: _IsValid) -> SizeRule | None:
    small, *others = _STEPS
    step = next((s for s in small if is_valid(axis, length + s)), None)
    if step is None and is_valid(axis, length + math.lcm(*chain(*others))):
        step = next((s for s in chain(*others) if is_valid(axis, length + s)), None)
    if step is None:
        return None
    for smaller in [d for d in range(1, step) if step % d == 0]:
        if is_valid(axis, length + smaller):
            step = smaller
            break
    return SizeRule(least=_least(axis, length, step, is_valid), step=step)


def _least(axis: int, length: int, step: int, is_valid: _IsValid) -> int:
    """By bisection: a valid size stays valid as it grows by steps."""
    low, high = 0, (length - 1) // step  # steps below `length`; `low` of them is valid
    while low < high:
        middle = (low + high + 1) // 2
        if is_valid(axis, length - middle * step):
            low = middle
        else:
            high = middle - 1
    return length - low * step
