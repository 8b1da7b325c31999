"""Taps of an upsampling on its output grid."""

from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.torus import Transposed
from medseg.checkerboard.weights.answers import kernel_of_composite, kernel_of_interpolation
from medseg.checkerboard.weights.composites import Composite, composed_kernel_of, scale_of
from medseg.checkerboard.weights.taps import kernel_of_weight
from medseg.layers.resampling import Upsampling

AnyUpsampling = Transposed | nn.Upsample | Composite
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def upsampling_kernel(
    layer: nn.Module, spatial_dims: int | None = None
) -> Float[Tensor, "inputs outputs *taps"]:
    """`h` of `y[n] = Σ_m h[n − s·m] x[m] + b`, in double precision, without gradient.

    Of a transposed convolution its weights, with zeros between dilated taps and between groups;
    of layers that `medseg.layers.resampling.Upsampling` or MONAI's `SubpixelUpsample` holds
    together, and of an interpolation, their answer to impulses. The first tap is on phase 0, up
    to the padding of the layer, which only relabels phases. Interpolation works channel by
    channel: one input and one output.

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
    if isinstance(layer, Composite):
        return _kernel_of_composite(layer)
    raise no_upsampling(layer)


def upsampling_stride(layer: nn.Module, spatial_dims: int | None = None) -> tuple[int, ...]:
    """Factor per axis by which a layer refines its grid.

    Args:
        layer: A transposed convolution, an `nn.Upsample`, an `Upsampling` or a `SubpixelUpsample`.
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
    if isinstance(layer, Composite):
        return scale_of(layer)
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
    """Why a layer is refused.

    >>> str(no_upsampling(nn.ReLU())).partition(";")[0]
    'ReLU is no upsampling that is linear and stride-periodic'
    """
    return TypeError(
        f"{type(layer).__name__} is no upsampling that is linear and stride-periodic; "
        "hold its layers together in an Upsampling"
    )


def has_stride(layer: AnyUpsampling) -> bool:
    """Whether the scale is a whole number, without which no pattern repeats with it.

    >>> has_stride(nn.Upsample(scale_factor=2)), has_stride(nn.Upsample(scale_factor=1.5))
    (True, False)
    """
    if not isinstance(layer, nn.Upsample):
        return True
    scale = layer.scale_factor
    factors = scale if isinstance(scale, tuple) else (scale,)
    return all(factor is not None and factor >= 1 and factor % 1 == 0 for factor in factors)


def _kernel_of_composite(layer: Composite) -> Tensor:
    composed = composed_kernel_of(layer)
    if composed is not None:
        return composed
    if isinstance(layer, Upsampling):
        return kernel_of_composite(layer)
    raise ValueError(
        f"a SubpixelUpsample with the conv_block {type(layer.conv_block).__name__} has no known "
        "kernel, since only a convolution with stride 1 is sure to be linear; hold it together "
        "with what follows it in an Upsampling"
    )


def _whole(layer: nn.Upsample) -> int | tuple[int, ...]:
    scale = layer.scale_factor
    if not has_stride(layer):
        raise ValueError(
            f"{layer} has no whole scale_factor, so that its pattern repeats with no stride; "
            "give whole numbers as scale_factor"
        )
    return tuple(int(s) for s in scale) if isinstance(scale, tuple) else int(scale or 1)
