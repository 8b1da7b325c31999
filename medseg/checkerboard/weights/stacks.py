"""Sub-grids that the dilated convolutions of a network leave uneven or untouched."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from medseg.checkerboard.weights.gridding import (
    composed_kernel,
    coverage,
    gridding_imbalance,
)
from medseg.checkerboard.weights.kernels import AnyUpsampling
from medseg.layers.fast_conv import SharedSmoothing

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_Layer = _Conv | SharedSmoothing
_Row = list[tuple[str, _Layer]]
_Pool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d | nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d


@dataclass(frozen=True, kw_only=True)
class DilatedStack:
    """What one output of a row of convolutions with stride 1 sees of the input of the first.

    Args:
        layers: Names of the convolutions with more than one tap, in order.
        dilations: Dilation per axis of each.
        common_factor: Greatest common divisor of the dilations, per axis.
        largest_gap: `largest_gap` of the dilations, per axis.
        coverage: `coverage` of the composed kernel.
        period: Sub-grids that are compared: the common factor, or 2 where that is 1; 1 along
            axes with one tap.
        imbalance: `gridding_imbalance` of the composed kernel over the period; None for weights
            that are 0 or not finite, which have no coverage either.

    >>> DilatedStack(
    ...     layers=("0",), dilations=((2,),), common_factor=(2,), largest_gap=(2,), period=(2,)
    ... ).imbalance is None
    True
    """

    layers: tuple[str, ...]
    dilations: tuple[tuple[int, ...], ...]
    common_factor: tuple[int, ...]
    largest_gap: tuple[int, ...]
    period: tuple[int, ...]
    coverage: float | None = None
    imbalance: float | None = None


def dilated_stacks(network: nn.Module) -> list[DilatedStack]:
    """Every row of convolutions with stride 1 of which one is dilated, in network order.

    A row goes on as long as layers, in the order in which they were registered, take as many
    channels as the one before gives, and ends where the grid changes. The composed kernel is
    that of the mean magnitudes `E|w|` over channels: what an output sees if no signs cancel.
    Branches beside one another are told apart by their channels alone, and activations and
    shortcuts are not counted.

    >>> network = nn.Sequential(*(nn.Conv1d(4, 4, 3, dilation=2) for _ in range(3)))
    >>> (found,) = dilated_stacks(network)
    >>> found.common_factor, found.largest_gap, found.imbalance, round(found.coverage, 3)
    ((2,), (2,), 0.5, 0.538)
    """
    rows = (_with_taps(row) for row in _rows(network))
    return [_stack(row) for row in rows if any(max(_dilation(m)) > 1 for _, m in row)]


def largest_gap(rates: Sequence[int]) -> int:
    """HDC's `M₂`: the largest distance of two voxels that a stack sees and none in between.

    `Mₙ = rₙ`, `Mᵢ = max(Mᵢ₊₁ − 2rᵢ, 2rᵢ − Mᵢ₊₁, rᵢ)`; a stack of kernel k needs `M₂ ≤ k`, and
    rates without a common factor besides.

    Args:
        rates: Dilation of each convolution, in order.

    Raises:
        ValueError: no rate.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation", eq. 2.

    >>> largest_gap([1, 2, 5]), largest_gap([1, 2, 9])
    (2, 5)
    """
    if not rates:
        raise ValueError("rates=[] have no gap between them; give one dilation per convolution")
    gap = rates[-1]
    for rate in reversed(rates[1:-1]):
        gap = max(gap - 2 * rate, 2 * rate - gap, rate)
    return gap


def _rows(network: nn.Module) -> Iterator[_Row]:
    row: _Row = []
    smoothing: _Row = []  # belongs to the convolution that follows it
    channels: int | None = None
    for name, module in network.named_modules():
        if isinstance(module, SharedSmoothing):
            smoothing.append((name, module))
        elif isinstance(module, _Conv) and max(module.stride) == 1:
            follows = module.in_channels == channels
            if not follows and max(module.kernel_size) == 1:
                continue  # a shortcut beside the row
            if not follows:
                yield row
                row = []
            row += [*smoothing, (name, module)]
            smoothing, channels = [], module.out_channels
        elif isinstance(module, _Conv | _Pool | AnyUpsampling):
            yield row
            row, channels = [], None
    yield row


def _with_taps(row: _Row) -> _Row:
    return [(name, layer) for name, layer in row if max(layer.weight.shape[2:]) > 1]


def _dilation(layer: _Layer) -> tuple[int, ...]:
    return tuple(layer.dilation) if isinstance(layer, _Conv) else (1,) * (layer.weight.ndim - 2)


def _stack(row: _Row) -> DilatedStack:
    taps = [tuple(layer.weight.shape[2:]) for _, layer in row]
    dilations = tuple(_dilation(layer) for _, layer in row)
    along = list(zip(zip(*taps, strict=True), zip(*dilations, strict=True), strict=True))
    rates = [[d for k, d in zip(*axis, strict=True) if k > 1] or [1] for axis in along]
    factors = tuple(math.gcd(*axis) for axis in rates)
    period = tuple(
        max(2, factor) if max(sizes) > 1 else 1
        for factor, (sizes, _) in zip(factors, along, strict=True)
    )
    seen = _composed([layer.weight for _, layer in row], dilations)
    return DilatedStack(
        layers=tuple(name for name, _ in row),
        dilations=dilations,
        common_factor=factors,
        largest_gap=tuple(map(largest_gap, rates)),
        period=period,
        coverage=None if seen is None else coverage(seen),
        imbalance=None if seen is None else gridding_imbalance(seen, period),
    )


def _composed(weights: Sequence[Tensor], dilations: Sequence[Sequence[int]]) -> Tensor | None:
    sizes = [weight.detach().abs().mean(dim=(0, 1)) for weight in weights]
    if not all(bool(size.isfinite().all() and size.any()) for size in sizes):
        return None
    return composed_kernel([size / size.max() for size in sizes], dilations)
