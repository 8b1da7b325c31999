"""An operator on numbers small enough to follow: one channel, computed by torch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.explain.operator import Operator, Sizes
from medseg.layers.deformable import deformable_conv
from medseg.layers.ndim import linear_mode
from medseg.layers.resampling import Nails, depth_to_space

_CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_PAINT = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_MEAN = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_UNPOOL = {1: functional.max_unpool1d, 2: functional.max_unpool2d, 3: functional.max_unpool3d}
_COARSE = {1: 6, 2: 4, 3: 2}
_PERIODS = {1: 6, 2: 5, 3: 3}
_FINE = {1: 12, 2: 8, 3: 5}
_ENTRIES = 16_000_000

Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One array `(*S)` of an example, with what it is."""

    title: str
    values: Tensor


def small(operator: Operator, caps: dict[int, int] | None = None) -> Operator:
    """The same operator on a grid that can be drawn: cut down where it is larger.

    Raises:
        ConfigError: even the smallest grid that its kernel fits on is too large.
    """
    caps = caps or (_COARSE if operator.about.upsamples else _FINE)
    least = [s - 2 * p for s, p in zip(operator.span, operator.padding, strict=True)]
    if operator.about.family != "conv":
        least = [1] * operator.dims
    size = [min(n, max(caps[operator.dims], m)) for n, m in zip(operator.size, least, strict=True)]
    cut = replace(operator, size=tuple(size), times=1)
    voxels = math.prod(cut.size)
    entries = voxels * max(voxels, math.prod(cut.output))
    if max(entries, math.prod(cut.kernel)) > _ENTRIES:
        raise ConfigError(
            f"kernel={_spaced(operator.kernel)} on {_spaced(cut.size)} voxels is too large to "
            "draw; choose a smaller kernel or stride, or fewer dimensions"
        )
    return cut


def spatial_map(operator: Operator) -> Map:
    """What the operator does to images of one channel `(N, 1, *S)`, weighted by `kernel_of`."""
    return _MAPS.get(operator.kind, _convolve)(operator)


def matrix(operator: Operator) -> Tensor:
    """`(output voxels, input voxels)`: the operator as a matrix.

    Of a maximum, which is not linear, the derivative at `image_of`: the choice that it makes.
    """
    apply = spatial_map(operator)
    if operator.kind == "max_pool":
        jacobian = torch.autograd.functional.jacobian(apply, image_of(operator))
        assert isinstance(jacobian, Tensor)
        return jacobian.reshape(-1, math.prod(operator.size))
    units = torch.eye(math.prod(operator.size), dtype=torch.float64)
    with torch.no_grad():
        return apply(units.reshape(-1, 1, *operator.size)).flatten(1).T


def weights_of_output(operator: Operator, place: Sequence[int]) -> Tensor:
    """`(*S)`: the row of the matrix that belongs to one output voxel."""
    image = image_of(operator).requires_grad_()
    value = spatial_map(operator)(image)[(0, 0, *place)]
    return torch.autograd.grad(value, image)[0][0, 0]


def painted_by_input(operator: Operator, place: Sequence[int]) -> Tensor:
    """`(*S')`: the column of the matrix that belongs to one input voxel."""
    unit = torch.zeros(1, 1, *operator.size, dtype=torch.float64)
    unit[(0, 0, *place)] = 1
    return spatial_map(operator)(unit)[0, 0]


def uses_of(operator: Operator) -> Step:
    """How many inputs paint each output voxel; for others, how many outputs read each input.

    An upsampling is shown on a grid that is large enough for its pattern.
    """
    upsamples = operator.about.upsamples
    if upsamples:
        operator = replace(operator, size=(_PERIODS[operator.dims],) * operator.dims)
    cut = windowed(small(operator, _PERIODS if upsamples else _FINE))
    used = (matrix(cut) != 0).double()
    if upsamples:
        counts = used.sum(1).reshape(cut.output)
        return Step(title="inputs that paint each output voxel", values=counts)
    return Step(title="outputs that read each input voxel", values=used.sum(0).reshape(cut.size))


def windowed(operator: Operator) -> Operator:
    """For a maximum, the mean over the same window: which voxels it looks at."""
    return replace(operator, kind="average_pool") if operator.kind == "max_pool" else operator


def image_of(operator: Operator) -> Tensor:
    """`(1, 1, *S)`: 1, 2, 3 … in array order; for a maximum in an order that jumps about."""
    voxels = math.prod(operator.size)
    values = torch.arange(voxels)
    if operator.kind == "max_pool":
        values = _jumping(voxels)
    return (values + 1).double().reshape(1, 1, *operator.size)


def kernel_of(operator: Operator) -> Tensor:
    """`(*kernel)`: 1, 2, 3 … in array order; for a separable one an outer product."""
    if operator.kind == "spatially_separable":
        product = torch.ones((1,) * operator.dims, dtype=torch.float64)
        for axis, taps in enumerate(operator.kernel):
            product = product * factor_of(operator, axis, taps)
        return product
    return (torch.arange(math.prod(operator.kernel)) + 1).double().reshape(operator.kernel)


def factor_of(operator: Operator, axis: int, taps: int) -> Tensor:
    """One factor of a separable kernel: binomial coefficients along an axis."""
    factor = torch.tensor([math.comb(taps - 1, i) for i in range(taps)], dtype=torch.float64)
    return factor.reshape([taps if a == axis else 1 for a in range(operator.dims)])


def offsets_of(operator: Operator) -> Tensor:
    """`(1, taps, d, *S)`: displacements in voxels, quarters between -3/4 and 3/4."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, math.prod(operator.kernel), operator.dims, *operator.size)
    return torch.randint(-3, 4, shape, generator=generator).double() / 4


def worked(operator: Operator) -> list[Step]:
    """The arrays of an example in their order: input, weights, what happens, output."""
    image, apply = image_of(operator), spatial_map(operator)
    steps = [Step(title="input", values=image[0, 0])]
    if operator.kind == "max_unpool":
        fine = _encoder_image(operator)
        steps.append(Step(title="what the encoder pooled", values=fine[0, 0]))
    elif operator.about.family in ("conv", "transposed") and "pool" not in operator.kind:
        steps.append(Step(title="kernel", values=kernel_of(operator)))
    steps += _between(operator, image)
    return [*steps, Step(title="output", values=apply(image)[0, 0])]


def _between(operator: Operator, image: Tensor) -> list[Step]:
    if operator.kind == "transposed" and any(operator.padding + operator.output_padding):
        zeros = (0,) * operator.dims
        whole = spatial_map(replace(operator, padding=zeros, output_padding=zeros))(image)
        return [Step(title="painted, before trimming", values=whole[0, 0])]
    if operator.kind == "spatially_separable":
        steps, x = [], image
        for axis, taps in enumerate(operator.kernel[:-1]):
            padding = [p if a == axis else 0 for a, p in enumerate(operator.padding)]
            x = _CONV[operator.dims](
                x, factor_of(operator, axis, taps)[None, None], padding=padding
            )
            steps.append(Step(title=f"after axis {axis + 1}", values=x[0, 0]))
        return steps
    if operator.kind == "pixel_shuffle":
        phases = _phases(operator, image)
        return [
            Step(title=f"channel {number}", values=phase)
            for number, phase in enumerate(phases[0], start=1)
        ]
    return []


def _convolve(operator: Operator) -> Map:
    weight = kernel_of(operator)[None, None]
    return lambda x: _CONV[operator.dims](
        x, weight, stride=operator.stride, padding=operator.padding, dilation=operator.dilation
    )


def _paint(operator: Operator) -> Map:
    weight = kernel_of(operator)[None, None]
    return lambda x: _PAINT[operator.dims](
        x,
        weight,
        stride=operator.stride,
        padding=operator.padding,
        output_padding=operator.output_padding,
        dilation=operator.dilation,
    )


def _deform(operator: Operator) -> Map:
    weight, offsets = kernel_of(operator)[None, None], offsets_of(operator)
    if operator.dims > 1:
        return lambda x: deformable_conv(x, weight, _for_each(x, offsets))
    flat = torch.stack([torch.zeros_like(offsets[:, :, 0]), offsets[:, :, 0]], dim=2)
    # one row of a plane, since torch samples no lines
    return lambda x: deformable_conv(
        x[:, :, None], weight[:, :, None], _for_each(x, flat[:, :, :, None])
    )[:, :, 0]


def _resize(operator: Operator) -> Map:
    mode = "nearest" if operator.kind == "nearest" else linear_mode(operator.dims)
    corners = None if operator.kind == "nearest" else False
    return lambda x: functional.interpolate(
        x, size=list(operator.output), mode=mode, align_corners=corners
    )


def _pool(operator: Operator) -> Map:
    table = _MAX if operator.kind == "max_pool" else _MEAN
    return lambda x: table[operator.dims](x, operator.kernel, operator.stride, operator.padding)


def _unpool(operator: Operator) -> Map:
    fine = _encoder_image(operator)
    _, places = _MAX[operator.dims](fine, operator.stride, return_indices=True)
    return lambda x: _UNPOOL[operator.dims](x, _for_each(x, places), operator.stride)


def _shuffle(operator: Operator) -> Map:
    return lambda x: depth_to_space(_phases(operator, x), operator.stride)


def _phases(operator: Operator, x: Tensor) -> Tensor:
    """What the convolution before a shuffle makes: taps that all weigh 1, 2, 3 … by channel."""
    gains = (torch.arange(math.prod(operator.stride)) + 1).double()
    ones = torch.ones(1, 1, *operator.kernel, dtype=torch.float64)
    weight = gains.reshape(-1, *[1] * (operator.dims + 1)) * ones
    return _CONV[operator.dims](x, weight, padding=operator.padding)


def _flatten(operator: Operator) -> Map:
    weights = image_of(operator)
    return lambda x: (x * weights).flatten(1).sum(1).reshape(-1, 1, *operator.output)


def _encoder_image(operator: Operator) -> Tensor:
    fine = operator.output
    return (_jumping(math.prod(fine)) + 1).double().reshape(1, 1, *fine)


def _for_each(x: Tensor, one: Tensor) -> Tensor:
    """What belongs to one image, for every image of a batch."""
    return one.expand(len(x), *one.shape[1:])


def _jumping(count: int) -> Tensor:
    """0 … count − 1 in an order that is mixed and always the same."""
    step = next(s for s in range(max(1, count * 5 // 8), 2 * count + 2) if math.gcd(s, count) == 1)
    return torch.arange(count) * step % count


_MAPS: dict[str, Callable[[Operator], Map]] = {
    "transposed": _paint,
    "deformable": _deform,
    "nearest": _resize,
    "linear": _resize,
    "bed_of_nails": lambda operator: Nails(operator.stride),
    "pixel_shuffle": _shuffle,
    "max_pool": _pool,
    "average_pool": _pool,
    "max_unpool": _unpool,
    "dense": _flatten,
}


def _spaced(numbers: Sequence[int] | Sizes) -> str:
    return "×".join(str(number) for number in numbers)
