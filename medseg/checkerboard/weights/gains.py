"""DC gains of all upsamplings of a network."""

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.phases import phase_sums, require_finite
from medseg.checkerboard.torus import Transposed
from medseg.checkerboard.weights.answers import gains_of_composite, gains_of_interpolation
from medseg.checkerboard.weights.composites import (
    Composite,
    composed_kernel_of,
    scale_of,
)
from medseg.checkerboard.weights.imbalance import dc_gain_imbalance
from medseg.checkerboard.weights.kernels import (
    AnyUpsampling,
    no_upsampling,
    upsampling_kernel,
    upsampling_stride,
)
from medseg.checkerboard.weights.taps import spread_taps
from medseg.checkerboard.weights.walk import spatial_dims_of, upsampling_layers
from medseg.layers.resampling import Upsampling


@dataclass(frozen=True, kw_only=True)
class UpsamplingGain:
    """DC-gain imbalance of one upsampling layer (0 flat, 1 worst).

    >>> UpsamplingGain(layer="up", operator="Interpolate", imbalance=0.0).imbalance
    0.0
    """

    layer: str
    operator: str
    imbalance: float


def phase_gains(
    layer: nn.Module, spatial_dims: int | None = None
) -> Float[Tensor, " phases inputs outputs"]:
    """DC gain of each output phase of an upsampling layer.

    Of a transposed convolution from its weights, within its groups: `(phases, inputs,
    outputs / groups)`; of several layers that `medseg.layers.resampling.Upsampling` or MONAI's
    `SubpixelUpsample` holds together, from theirs, or, as of an interpolation, from what they
    make of constants.

    Args:
        layer: An upsampling that is linear and repeats with its stride.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it; None: one axis
            stands for all, which are equal.

    Raises:
        TypeError: any other layer.
        ValueError: layers that are not linear, a scale that is no whole number, or a weight that
            is not finite.

    >>> phase_gains(nn.Upsample(scale_factor=2), spatial_dims=2).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if isinstance(layer, Transposed):
        weight = layer.weight.detach().cpu().double()
        require_finite(weight, "weights")
        return phase_sums(spread_taps(weight, layer.dilation), layer.stride)
    if isinstance(layer, nn.Upsample):
        return gains_of_interpolation(layer, upsampling_stride(layer, spatial_dims or 1))
    if isinstance(layer, Composite):
        return _gains_of_composite(layer)
    raise no_upsampling(layer)


def upsampling_gains(network: nn.Module) -> list[UpsamplingGain]:
    """DC-gain imbalance of every upsampling layer of a network, in its own order.

    Left out is what has none: layers that keep the grid, scales that are no whole number, layers
    held together that are not linear, and weights that are not finite.

    >>> upsampling_gains(nn.Sequential(nn.Upsample(scale_factor=2)))[0].imbalance
    0.0
    """
    found = [
        (name, layer, _imbalance(layer, spatial_dims_of(network)))
        for name, layer in upsampling_layers(network)
    ]
    return [
        UpsamplingGain(layer=name, operator=str(layer), imbalance=imbalance)
        for name, layer, imbalance in found
        if imbalance is not None
    ]


def lattice_period(network: nn.Module, spatial_dims: int | None = None) -> tuple[int, ...]:
    """Product of the strides of all upsampling layers, per axis; empty if there is none.

    That is the period of a network whose upsamplings follow one another. Scales that are no
    whole number repeat with no period and are not counted.

    Args:
        network: What holds the layers.
        spatial_dims: Number of axes; None: that of the network's convolutions.

    Raises:
        ValueError: an `nn.Upsample` with one scale for all axes, where nothing says how many.

    >>> lattice_period(nn.Sequential(nn.Conv3d(1, 1, 1), *[nn.Upsample(scale_factor=2)] * 2))
    (2, 2, 2)
    """
    dims = spatial_dims or spatial_dims_of(network)
    strides = [upsampling_stride(layer, dims) for _, layer in upsampling_layers(network)]
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))


def _gains_of_composite(layer: Composite) -> Tensor:
    kernel = composed_kernel_of(layer)
    if kernel is None and isinstance(layer, Upsampling):
        return gains_of_composite(layer)
    return phase_sums(upsampling_kernel(layer) if kernel is None else kernel, scale_of(layer))


def _imbalance(layer: AnyUpsampling, spatial_dims: int | None) -> float | None:
    try:
        return dc_gain_imbalance(phase_gains(layer, spatial_dims))
    except ValueError:
        return None
