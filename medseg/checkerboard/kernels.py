"""Kernel, stride and DC gains of an upsampling, whatever it is made of."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float
from monai.networks.blocks.upsample import SubpixelUpsample
from torch import Tensor, nn

from medseg.checkerboard.imbalance import kernel_gains
from medseg.checkerboard.phases import phase_means, require_finite
from medseg.checkerboard.torus import Transposed, reach, torus
from medseg.conversion.kernels import (
    CONV_ND,
    dilated_as_dense,
    grouped_as_dense,
    shuffle_as_transposed,
)
from medseg.conversion.reading import read_upsampling
from medseg.layers.resampling import BoxBlur, DepthToSpace, Upsampling

Composite = Upsampling | SubpixelUpsample
AnyUpsampling = Transposed | nn.Upsample | Composite
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def upsampling_kernel(
    layer: nn.Module, spatial_dims: int | None = None
) -> Float[Tensor, "inputs outputs *taps"]:
    """`h` of `y[n] = Σ_m h[n − s·m] x[m] + b`, in double precision, without gradient.

    Of a transposed convolution its weights, with zeros between dilated taps and between groups;
    of layers that `medseg.layers.resampling.Upsampling` or MONAI's `SubpixelUpsample` holds
    together, and of an interpolation, their response to impulses. The first tap is on phase 0, up
    to the padding of the layer, which only relabels phases. Interpolation works channel by
    channel: one input and one output.

    Args:
        layer: An upsampling that is linear and repeats with its stride.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it.

    Raises:
        TypeError: any other layer.
        ValueError: layers that are not linear or do not repeat with their stride, a scale that is
            no whole number, or an unknown number of axes.

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
        whole = _held_together(layer)
        read = read_kernel(whole)
        return kernel_of_composite(whole) if read is None else read
    raise no_upsampling(layer)


def upsampling_stride(layer: nn.Module, spatial_dims: int | None = None) -> tuple[int, ...]:
    """Factor per axis by which a layer refines its grid.

    Args:
        layer: A transposed convolution, an `nn.Upsample`, an `Upsampling` or a `SubpixelUpsample`.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it.

    Raises:
        TypeError: any other layer.
        ValueError: a scale that is no whole number, or an unknown number of axes.

    >>> upsampling_stride(nn.Upsample(scale_factor=2, mode="trilinear"))
    (2, 2, 2)
    >>> upsampling_stride(nn.Upsample(scale_factor=2), spatial_dims=2)  # nearest
    (2, 2)
    """
    if isinstance(layer, Transposed):
        return tuple(layer.stride)
    if isinstance(layer, Upsampling):
        return layer.scale
    if isinstance(layer, SubpixelUpsample):
        return (layer.scale_factor,) * layer.dimensions
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


def phase_gains(
    layer: nn.Module, spatial_dims: int | None = None
) -> Float[Tensor, " phases inputs outputs"]:
    """DC gain of each output phase, from every input to every output channel.

    From the taps, or, of an interpolation and of layers whose taps cannot be read, from the
    response to constants. Interpolation works channel by channel: one input and one output.

    Args:
        layer: An upsampling that is linear and repeats with its stride.
        spatial_dims: Number of axes, for an `nn.Upsample` that does not know it; None: one axis
            stands for all, which are equal.

    Raises:
        TypeError: any other layer.
        ValueError: layers that are not linear, a scale that is no whole number, only zeros, or a
            weight that is not finite.

    >>> phase_gains(nn.Upsample(scale_factor=2), spatial_dims=2).flatten().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    if isinstance(layer, nn.Upsample):
        return gains_of_interpolation(layer, upsampling_stride(layer, spatial_dims or 1))
    if isinstance(layer, Composite) and read_kernel(whole := _held_together(layer)) is None:
        return gains_of_composite(whole)
    return kernel_gains(upsampling_kernel(layer), upsampling_stride(layer))


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


def kernel_of_weight(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """`(inputs, outputs / groups, *kernel)` → `(inputs, outputs, *taps)`, in double precision.

    Raises:
        ValueError: a weight that is not finite.

    >>> kernel_of_weight(torch.tensor([[[1.0]], [[2.0]]]), groups=2, dilation=(1,)).tolist()
    [[[1.0], [0.0]], [[0.0], [2.0]]]
    """
    weight = weight.detach().cpu().double()
    require_finite(weight, "weights")
    return grouped_as_dense(dilated_as_dense(weight, dilation), groups)


@torch.no_grad()
def read_kernel(layer: Upsampling) -> Tensor | None:
    """`(inputs, outputs, *taps)` from the weights; None if the layers are no shuffled convolution.

    Raises:
        ValueError: a weight that is not finite.

    >>> conv = nn.Conv1d(1, 2, kernel_size=1)
    >>> _ = nn.init.ones_(conv.weight)
    >>> shuffle = nn.Sequential(conv, DepthToSpace((2,)), BoxBlur((2,)))
    >>> read_kernel(Upsampling(shuffle, 1, (2,))).tolist()
    [[[0.5, 1.0, 0.5]]]
    """
    try:
        read = read_upsampling(layer.layers, layer.in_channels, len(layer.scale))
    except ValueError:
        return None
    require_finite(read.weight, "weights")
    kernel, _, _ = shuffle_as_transposed(read.weight.cpu(), None, read.scale)
    if read.blur:
        box = kernel.new_full((1, 1, *read.scale), 1 / math.prod(read.scale))
        wide = CONV_ND[len(read.scale)](
            kernel.flatten(0, 1).unsqueeze(1), box, padding=[step - 1 for step in read.scale]
        )
        kernel = wide.reshape(*kernel.shape[:2], *wide.shape[2:])
    return kernel[_support(kernel, read.scale)]


def _held_together(layer: Composite) -> Upsampling:
    """The layer as an `Upsampling`.

    Raises:
        ValueError: a `SubpixelUpsample` whose inner block is no convolution.
    """
    if isinstance(layer, Upsampling):
        return layer
    conv, scale = layer.conv_block, upsampling_stride(layer)
    if not isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise ValueError(
            f"a SubpixelUpsample with the conv_block {type(conv).__name__} has no known "
            "kernel, since only a convolution with stride 1 is sure to be linear; hold it together "
            "with what follows it in an Upsampling"
        )
    blurs = [] if isinstance(layer.pad_pool, nn.Identity) else [BoxBlur(scale)]
    return Upsampling(nn.Sequential(conv, DepthToSpace(scale), *blurs), conv.in_channels, scale)


def _whole(layer: nn.Upsample) -> int | tuple[int, ...]:
    scale = layer.scale_factor
    if not has_stride(layer):
        raise ValueError(
            f"{layer} has no whole scale_factor, so that its pattern repeats with no stride; "
            "give whole numbers as scale_factor"
        )
    return tuple(int(s) for s in scale) if isinstance(scale, tuple) else int(scale or 1)


_CONSTANTS_AT_ONCE = 32
_IMPULSES_AT_ONCE = 4  # their grids are larger
_CELLS = 9  # taps of an interpolation lie at most two cells to either side
_ROUNDING = 1e-9
_Response = Callable[[Tensor], Tensor]


@torch.no_grad()
def gains_of_interpolation(layer: nn.Upsample, stride: Sequence[int]) -> Tensor:
    """DC gains `(phases, 1, 1)`, channel by channel.

    >>> gains_of_interpolation(nn.Upsample(scale_factor=2, mode="linear"), (2,)).tolist()
    [[[1.0]], [[1.0]]]
    """
    return phase_means(layer(torch.ones((1, 1, *[4] * len(stride)), dtype=torch.float64)), stride)


@torch.no_grad()
def kernel_of_interpolation(layer: nn.Upsample, stride: Sequence[int]) -> Tensor:
    """`(1, 1, *taps)`.

    Raises:
        ValueError: aligned corners.

    >>> kernel_of_interpolation(nn.Upsample(scale_factor=2, mode="linear"), (2,)).tolist()
    [[[0.0, 0.25, 0.75, 0.75, 0.25]]]
    """
    if layer.align_corners:
        raise ValueError(
            f"{layer} aligns the corners (align_corners=True), so that its taps do "
            "not repeat with the stride; measure it with align_corners=False"
        )
    impulse = torch.zeros((1, 1, *[_CELLS] * len(stride)), dtype=torch.float64)
    impulse[(0, 0, *[_CELLS // 2] * len(stride))] = 1
    response = layer(impulse)
    return response[_support(response, stride)].clone()


@torch.no_grad()
def gains_of_composite(layer: Upsampling) -> Tensor:
    """DC gains `(phases, inputs, outputs)`.

    Raises:
        ValueError: layers that are not linear, or weights that are not finite.

    >>> gains_of_composite(Upsampling(nn.Upsample(scale_factor=2), 1, (2,))).tolist()
    [[[1.0]], [[1.0]]]
    """
    cells = max(1, *(reach(m) for m in layer.modules()))
    grid = [cells] * len(layer.scale)

    def constants(some: Tensor) -> Tensor:
        return some.reshape(*some.shape, *[1] * len(grid)).expand(*some.shape, *grid)

    with _linear(layer, grid) as respond:
        eye = torch.eye(layer.in_channels, dtype=torch.float64)
        responses = [respond(constants(some)) for some in eye.split(_CONSTANTS_AT_ONCE)]
    return torch.cat([phase_means(each, layer.scale) for each in responses], dim=1)


@torch.no_grad()
def kernel_of_composite(layer: Upsampling) -> Tensor:
    """`(inputs, outputs, *taps)`.

    Raises:
        ValueError: layers that are not linear, or weights that are not finite.

    >>> kernel_of_composite(Upsampling(nn.Upsample(scale_factor=2), 1, (2,))).tolist()
    [[[1.0, 1.0]]]
    """
    # so many cells that no response meets itself on the way around the torus
    cells = 2 * sum(reach(m) for m in layer.modules()) + 3
    grid = [cells] * len(layer.scale)
    middle = [cells // 2] * len(grid)

    def impulses(some: Tensor) -> Tensor:
        x = torch.zeros(*some.shape, *grid, dtype=torch.float64)
        x[(..., *middle)] = some
        return x

    with _linear(layer, grid) as respond:
        # all channels together respond wherever any of them does
        support = _support(respond(impulses(_noise(1, layer.in_channels))), layer.scale)
        eye = torch.eye(layer.in_channels, dtype=torch.float64)
        parts = [respond(impulses(some))[support] for some in eye.split(_IMPULSES_AT_ONCE)]
    return torch.cat(parts)


@contextmanager
def _linear(layer: Upsampling, grid: Sequence[int]) -> Iterator[_Response]:
    """The layer on a torus without its bias; refused if it is not linear."""
    probe = copy.deepcopy(layer).double().cpu().eval()
    with torus(probe):
        zero = torch.zeros(1, layer.in_channels, *grid, dtype=torch.float64)
        bias = probe(zero)
        require_finite(bias, "responses to zeros")

        def respond(x: Tensor) -> Tensor:
            response = probe(x) - bias
            require_finite(response, "responses")
            return response

        _require_linear(layer, respond, zero)
        yield respond


def _require_linear(layer: Upsampling, respond: _Response, zero: Tensor) -> None:
    x = _noise(*zero.shape)
    # a factor of −2 tells rectifiers and odd saturations alike
    once, twice = respond(x), respond(-2 * x)
    if (twice + 2 * once).abs().max() > _ROUNDING * once.abs().max():
        raise ValueError(
            f"{type(layer.layers).__name__} in an Upsampling does not map −2·x to −2 times "
            "the response to x, so it is not linear and has no kernel; measure its linear part"
        )


def _noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _support(response: Tensor, stride: Sequence[int]) -> tuple[slice, ...]:
    """Where it is not 0; from the first voxel of a cell, which keeps the order of phases."""
    support = [slice(None)] * 2
    for axis, step in enumerate(stride, start=2):
        others = [a for a in range(response.ndim) if a != axis]
        used = (response != 0).sum(dim=others).nonzero().flatten().tolist() or [0]
        support.append(slice(used[0] // step * step, used[-1] + 1))
    return tuple(support)
