"""Taps of an upsampling on its output grid."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.layers.upsampling import Upsampling
from medseg.metrics.checkerboard.phases import require_finite
from medseg.metrics.checkerboard.weights.answers import kernel_of_composite, kernel_of_interpolation
from medseg.metrics.torus import Transposed

AnyUpsampling = Transposed | nn.Upsample | Upsampling
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def upsampling_kernel(
    layer: nn.Module, spatial_dims: int | None = None
) -> Float[Tensor, "inputs outputs *taps"]:
    """`h` of `y[n] = Σ_m h[n − s·m] x[m] + b`, in double precision, without gradient.

    Of a transposed convolution its weights, with zeros between dilated taps and between groups;
    of an interpolation, and of layers that `medseg.layers.upsampling.Upsampling` holds together,
    their answer to impulses. The first tap is on phase 0, up to the padding of the layer, which
    only relabels phases. Interpolation works channel by channel: one input and one output.

    Args:
        layer: An upsampling that is linear and repeats with its stride.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it.

    Raises:
        TypeError: any other layer.
        ValueError: layers that are not linear or do not repeat with their stride, a scale that is
            no whole number, or axes that nobody knows.

    >>> layer = nn.ConvTranspose1d(1, 1, kernel_size=2, stride=3, dilation=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> upsampling_kernel(layer).tolist()
    [[[1.0, 0.0, 1.0]]]
    """
    if isinstance(layer, Transposed):
        return kernel_of_weight(layer.weight, layer.groups, layer.dilation)
    if isinstance(layer, nn.Upsample):
        return kernel_of_interpolation(layer, upsampling_stride(layer, spatial_dims))
    if isinstance(layer, Upsampling):
        return kernel_of_composite(layer)
    raise no_upsampling(layer)


def upsampling_stride(layer: nn.Module, spatial_dims: int | None = None) -> tuple[int, ...]:
    """Factor per axis by which a layer refines its grid.

    Args:
        layer: A transposed convolution, an `nn.Upsample` or an `Upsampling`.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it.

    Raises:
        TypeError: any other layer.
        ValueError: a scale that is no whole number, or axes that nobody knows.

    >>> upsampling_stride(nn.Upsample(scale_factor=2, mode="trilinear"))
    (2, 2, 2)
    >>> upsampling_stride(nn.Upsample(scale_factor=2), spatial_dims=2)  # nearest
    (2, 2)
    """
    if isinstance(layer, Transposed):
        return tuple(layer.stride)
    if isinstance(layer, Upsampling):
        return layer.scale
    if not isinstance(layer, nn.Upsample):
        raise no_upsampling(layer)
    scale = _whole(layer)
    if isinstance(scale, tuple):
        return scale
    axes = _AXES.get(layer.mode, spatial_dims)
    if axes is None:
        raise ValueError(
            f"{layer} has one scale for all axes and does not say how many there are; "
            "pass spatial_dims"
        )
    return (scale,) * axes


def no_upsampling(layer: nn.Module) -> TypeError:
    """Why a layer is refused."""
    return TypeError(
        f"{type(layer).__name__} is no upsampling that is linear and stride-periodic; "
        "hold its layers together in an Upsampling"
    )


def has_stride(layer: AnyUpsampling) -> bool:
    """Whether the scale is a whole number, without which no pattern repeats with it."""
    if not isinstance(layer, nn.Upsample):
        return True
    scale = layer.scale_factor
    factors = scale if isinstance(scale, tuple) else (scale,)
    return all(factor is not None and factor >= 1 and factor % 1 == 0 for factor in factors)


def kernel_of_weight(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """`(inputs, outputs / groups, *kernel)` → `(inputs, outputs, *taps)`."""
    weight = weight.detach().cpu().double()
    require_finite(weight, "weights")
    blocks = spread_taps(weight, dilation).unflatten(0, (groups, -1))
    inputs, outputs = blocks.shape[1:3]
    kernel = blocks.new_zeros(groups, inputs, groups, outputs, *blocks.shape[3:])
    group = torch.arange(groups)
    kernel[group, :, group] = blocks
    return kernel.flatten(2, 3).flatten(0, 1)


def spread_taps(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """Taps on the grid, with the zeros that dilation leaves between them."""
    lead = weight.ndim - len(dilation)
    taps = zip(weight.shape[lead:], dilation, strict=True)
    spread = weight.new_zeros(*weight.shape[:lead], *((k - 1) * d + 1 for k, d in taps))
    spread[(..., *(slice(None, None, rate) for rate in dilation))] = weight
    return spread


def _whole(layer: nn.Upsample) -> int | tuple[int, ...]:
    scale = layer.scale_factor
    if not has_stride(layer):
        raise ValueError(
            f"{layer} has no whole scale_factor, so that its pattern repeats with no stride; "
            "give whole numbers as scale_factor"
        )
    return tuple(int(s) for s in scale) if isinstance(scale, tuple) else int(scale or 1)
