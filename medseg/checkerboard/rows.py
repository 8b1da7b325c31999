"""Layers of a network as rows of a record: every measure of its weights."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import nn

from medseg.checkerboard.gradients import strided_layers
from medseg.checkerboard.gridding import dilated_rows
from medseg.checkerboard.layers import (
    InputMoments,
    UpsamplingLayer,
    refining_layers,
    spatial_dims_of,
)
from medseg.checkerboard.registry import measure
from medseg.record import LayerRow


def upsampling_rows(
    network: nn.Module,
    moments: Mapping[str, InputMoments] | None = None,
    only: Collection[str] | None = None,
) -> list[LayerRow]:
    """Every upsampling layer of a network, in its own order.

    Layers that data steers, that are not linear, that repeat with no stride, or whose weights are
    not finite, are listed with the reason; layers that keep the grid are left out.

    Args:
        network: Any module, those of MONAI and nnU-Net too.
        moments: Features before the layers on real images, see `input_moments`.
        only: Names of the measures; None: all.

    >>> layer = nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> (row,) = upsampling_rows(layer)
    >>> row.values["dc_gain"], row.values["noise_gain"], row.values["sum_rule_order"]
    (0.19, 0.19, 0)
    """
    dims, known = spatial_dims_of(network), moments or {}
    layers = (UpsamplingLayer(n, m, dims, known.get(n)) for n, m in refining_layers(network))
    return [_row("layers", each, _stride(each), only) for each in layers if _refines(each)]


def gradient_rows(network: nn.Module) -> list[LayerRow]:
    """Every convolution and pooling with a stride, by the gradient that it passes on.

    >>> layer = nn.Conv2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> [row.values["gradient_imbalance"] for row in gradient_rows(layer)]
    [0.19]
    """
    layers = strided_layers(network)
    return [_row("gradients", each, each.stride, note=each.condition) for each in layers]


def gridding_rows(network: nn.Module) -> list[LayerRow]:
    """Every row of dilated convolutions.

    >>> network = nn.Sequential(*(nn.Conv1d(4, 4, 3, dilation=2) for _ in range(3)))
    >>> (row,) = gridding_rows(network)
    >>> row.operator, row.values["gridding_imbalance"]
    ('dilations 2, 2, 2', 0.5)
    """
    return [_row("dilated", each, each.period) for each in dilated_rows(network)]


def _row(
    of: str,
    layer: Any,
    stride: Sequence[int],
    only: Collection[str] | None = None,
    note: str = "",
) -> LayerRow:
    values, reasons = measure(of, layer, only)
    return LayerRow(
        layer=layer.name,
        operator=layer.operator,
        stride=list(stride),
        values=values,
        note=next(iter(reasons.values()), note),
    )


def _stride(layer: UpsamplingLayer) -> tuple[int, ...]:
    """Empty where it is no whole number, or unknown."""
    try:
        return layer.stride
    except (TypeError, ValueError):
        return ()


def _refines(layer: UpsamplingLayer) -> bool:
    return max(_stride(layer), default=2) > 1
