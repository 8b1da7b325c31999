"""Carries variations of patches out, on whatever device they are."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_MOST_ROWS = 2**16
_MOST_COUNTED = 2**24  # whole numbers that float32 tells apart
_TOGETHER = 48  # places along an axis that are interpolated at once


class Variation(NamedTuple):
    """What is done to one patch: plain numbers, the same on every device.

    Args:
        matrix: `(axes, axes)`, from an offset to the patch's middle to the offset at which the
            image is read, in voxels; None: the same.
        displacement: `(axes, *control points)` of an elastic deformation in voxels; None: none.
        flips: Axes that are mirrored.
        swapped: Pairs of classes that change places.
        steps: Image `(channels, *S)` → image, in order.
    """

    matrix: np.ndarray | None = None
    displacement: np.ndarray | None = None
    flips: Sequence[int] = ()
    swapped: Sequence[Sequence[int]] = ()
    steps: Sequence[Callable[[Tensor], Tensor]] = ()

    def region(
        self, middle: Sequence[float], patch_size: Sequence[int], grid: Sequence[int]
    ) -> tuple[slice, ...]:
        """The part of a grid that a patch reads.

        Args:
            middle: The patch's middle on the grid, in voxels.
            patch_size: Its size.
            grid: Voxels per axis; what lies beyond is left out.
        """
        half = np.asarray([(n - 1) / 2 for n in patch_size])
        if self.matrix is not None:
            half = np.abs(self.matrix) @ half
        if self.displacement is not None:
            half = half + np.abs(self.displacement).reshape(len(half), -1).max(1)
        return tuple(
            slice(math.floor(max(m - h, 0)), math.ceil(min(m + h, n - 1)) + 1)
            for m, h, n in zip(middle, half.tolist(), grid, strict=True)
        )

    def apply(
        self, image: Tensor, label: Tensor, middle: Sequence[float], patch_size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Makes the varied patch.

        Args:
            image: `(channels, *region)`, what the patch may read.
            label: `(1, *region)`.
            middle: The patch's middle in the region, in voxels.
            patch_size: Size of what is returned.

        Beyond the region its last voxels go on. Labels are those of the nearest voxels.
        """
        if self.matrix is not None or self.displacement is not None:
            image, label = self._moved(image, label, middle, patch_size)
        for step in self.steps:
            image = step(image)
        if self.flips:
            axes = [1 + axis for axis in self.flips]
            image, label = image.flip(axes), label.flip(axes)
        if self.swapped:
            old, label = label, label.clone()
            for left, right in self.swapped:
                label[old == left], label[old == right] = right, left
        return image, label

    def _moved(
        self, image: Tensor, label: Tensor, middle: Sequence[float], patch_size: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        dims = len(patch_size)
        matrix = np.eye(dims) if self.matrix is None else self.matrix
        axes = [torch.arange(n, dtype=torch.float32, device=image.device) - (n - 1) / 2
                for n in patch_size]  # fmt: skip
        ends = [n - 1 for n in image.shape[1:]]
        if self.displacement is None and not (matrix - np.diag(np.diag(matrix))).any():
            along = [
                (m + float(matrix[axis, axis]) * offsets).clamp_(0, end)
                for axis, (m, offsets, end) in enumerate(zip(middle, axes, ends, strict=True))
            ]
            for axis, places in enumerate(along, start=1):
                image = _along(image, axis, places)
            return image, _nearest(label, [_across(p, a, dims) for a, p in enumerate(along)])
        displaced = None if self.displacement is None else _spline(self.displacement, axes)
        places = torch.empty((dims, *patch_size), device=image.device)
        for row, place in enumerate(places):
            total = torch.full([1] * dims, float(middle[row]), device=image.device)
            for column, offsets in reversed(list(enumerate(axes))):
                ramp = _across(float(matrix[row, column]) * offsets, column, dims)
                total = torch.add(ramp, total, out=place if column == 0 else None)
            if displaced is not None:
                place.add_(displaced[row])
            place.clamp_(0, ends[row])
        return _linear(image, places), _nearest(label, places)


def add_noise(image: Tensor, *, sigma: float, seed: int) -> Tensor:
    """Adds Gaussian noise, drawn by the CPU so that it is the same on every device."""
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed))
    return torch.add(image, noise.to(image.device), alpha=sigma)


def smooth_gaussian(image: Tensor, *, sigmas: Mapping[int, Sequence[float]]) -> Tensor:
    """Smooths channels by Gaussians of σ voxels per axis; the border goes on."""
    image = image.clone()
    for channel, own in sigmas.items():
        for axis, sigma in enumerate(own):
            image[channel] = _gaussian(image[channel], axis, sigma)
    return image


def change_brightness(image: Tensor, *, factors: Sequence[float]) -> Tensor:
    """Multiplies each channel by its factor."""
    return image * _per_channel(factors, image)


def change_contrast(image: Tensor, *, factors: Sequence[float]) -> Tensor:
    """Multiplies each channel's distances to its mean; its range is kept."""
    axes = tuple(range(1, image.ndim))
    mean = image.mean(axes, keepdim=True)
    low, high = image.amin(axes, keepdim=True), image.amax(axes, keepdim=True)
    factor = _per_channel(factors, image)
    # a third of the time of `lerp` and `clamp` with tensors on a CPU
    changed = (image * factor).add_(mean * (1 - factor))
    return torch.minimum(torch.maximum(changed, low, out=changed), high, out=changed)


def lower_resolution(image: Tensor, *, shares: Mapping[int, Sequence[float]]) -> Tensor:
    """Takes channels at a share of their resolution, and interpolates them linearly."""
    image = image.clone()
    size = image.shape[1:]
    for channel, own in shares.items():
        less = [max(1, round(n * share)) for n, share in zip(size, own, strict=True)]
        part = functional.interpolate(image[None, channel, None], less, mode="nearest-exact")[0]
        for axis, n in reversed(list(enumerate(size))):
            voxels = torch.arange(n, device=image.device)
            places = (voxels + 0.5) * (less[axis] / n) - 0.5
            part = _along(part, axis + 1, places.clamp_(0, less[axis] - 1))
        image[channel] = part[0]
    return image


def change_gamma(image: Tensor, *, exponents: Sequence[float], inverted: bool = False) -> Tensor:
    """Raises each channel, from its lowest value on, to its power; mean and deviation are kept.

    Args:
        image: `(channels, *S)`.
        exponents: One for each channel.
        inverted: Whether the negative is taken, whose lowest value is the highest of the channel.
    """
    result = torch.empty_like(image)
    for channel, exponent in enumerate(exponents):
        source, curved = image[channel].flatten(), result[channel].flatten()
        low, high = source.amin(), source.amax()
        mean = source.mean()
        deviation = _deviation(torch.sub(source, mean, out=curved))
        torch.sub(*((high, source) if inverted else (source, low)), out=curved)
        curved.log2_().mul_(exponent).exp2_()  # a third of the time of `pow_` on a CPU
        spread = _deviation(curved.sub_(curved.mean()))
        gain = deviation / spread.clamp_min(torch.finfo(spread.dtype).tiny)
        curved.mul_(-gain if inverted else gain).add_(mean)
    return result


def _deviation(rest: Tensor) -> Tensor:
    """Of flat values whose mean is 0; by a product, which is faster than `std` on a CPU."""
    return (torch.dot(rest, rest) / max(len(rest) - 1, 1)).sqrt()


def _per_channel(values: Sequence[float], image: Tensor) -> Tensor:
    return image.new_tensor(values).reshape(-1, *[1] * (image.ndim - 1))


def _gaussian(image: Tensor, axis: int, sigma: float) -> Tensor:
    """A sum of shifted images, which is faster than MONAI's convolutions on a CPU."""
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    taps /= taps.sum()
    length = image.shape[axis]
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, length - 1, 1)
    wide = torch.cat([first] * radius + [image] + [last] * radius, axis)
    result = wide.narrow(axis, 0, length) * taps[0]
    for index, tap in enumerate(taps[1:], 1):
        result.add_(wide.narrow(axis, index, length), alpha=tap)
    return result


def _linear(image: Tensor, places: Tensor) -> Tensor:
    """Linear interpolation of `(channels, *S)` at `places` `(axes, *T)`, in voxels of the image."""
    if image.device.type == "cpu" and len(places) == 3:
        depth, height, _ = image.shape[1:]
        if depth > 1 and depth * height <= _MOST_ROWS:
            return _linear_between_slices(image, places)
    last = places.new_tensor([n - 1 for n in image.shape[1:]]).reshape(-1, *[1] * len(places))
    grid = (places * (2 / last.clamp_min(1)) - 1).flip(0).movedim(0, -1)[None]
    return functional.grid_sample(image[None], grid, padding_mode="border", align_corners=True)[0]


def _linear_between_slices(image: Tensor, places: Tensor) -> Tensor:
    """The same in 3-D: bilinear in the slices below and above, then linear between the two.

    On a CPU torch has vector instructions for the sampling of planes and none for that of volumes.
    All slices are read as one plane, one below the other; rows' numbers, in float32, are exact to
    1/250 voxel up to `_MOST_ROWS`.
    """
    channels, depth, height, width = image.shape
    below = places[0].floor().clamp_max_(depth - 2)
    grid, origin = torch.empty_like(places[1:]), places.new_tensor(-1)
    torch.add(origin, places[2], alpha=2 / max(width - 1, 1), out=grid[0])
    rows = torch.add(places[1], below, alpha=height, out=grid[1])
    torch.add(origin, rows, alpha=2 / max((depth - 1) * height - 1, 1), out=rows)
    size, (stride, step) = below.shape, (depth * height * width, height * width)
    both = image.contiguous().as_strided(
        (channels, 2, (depth - 1) * height, width), (stride, step, width, 1)
    )  # the second of two channels is one slice further on
    flat = grid.reshape(2, -1, size[-1]).movedim(0, -1).expand(channels, -1, -1, -1)
    sampled = functional.grid_sample(both, flat, padding_mode="border", align_corners=True)
    lower, upper = sampled.reshape(channels, 2, *size).unbind(1)
    return torch.lerp(lower, upper, torch.sub(places[0], below, out=below))


def _nearest(label: Tensor, places: Iterable[Tensor]) -> Tensor:
    """Labels `(1, *S)` of the voxels nearest to `places`, which for each axis broadcast to `*S`."""
    index, count = torch.zeros((), device=label.device), 1
    for place, length in zip(places, label.shape[1:], strict=True):
        voxels, count = place.round(), count * length
        if count > _MOST_COUNTED:
            voxels, index = voxels.to(torch.int32), index.to(torch.int32)
        index = torch.add(voxels, index, alpha=length)
    chosen = label.flatten().index_select(0, index.flatten().to(torch.int32))
    return chosen.reshape(1, *index.shape)


def _along(image: Tensor, axis: int, places: Tensor) -> Tensor:
    """Linear interpolation along one axis at `places`, in voxels of the image."""
    if axis == image.ndim - 1 and image.device.type == "cpu":  # where picking voxels is slow
        voxels, parts = torch.arange(image.shape[axis]), []
        for some in places.split(_TOGETHER):
            ends = some.numpy()
            read = slice(int(ends.min()), int(ends.max()) + 2)
            weights = (voxels[read, None] - some).abs_().neg_().add_(1).clamp_min_(0)
            parts.append(image[..., read] @ weights)
        return torch.cat(parts, -1)
    below = places.floor().long()
    above, share = (below + 1).clamp_max(image.shape[axis] - 1), places - below
    share = _across(share, axis, image.ndim)
    return torch.lerp(image.index_select(axis, below), image.index_select(axis, above), share)


def _across(values: Tensor, axis: int, dims: int) -> Tensor:
    """Values along one of several axes, to be broadcast over the others."""
    return values.reshape([-1 if a == axis else 1 for a in range(dims)])


def _spline(points: np.ndarray, axes: Sequence[Tensor]) -> Tensor:
    """Cubic B-spline of control points `(axes, *points)` at every voxel (Rueckert et al. 1999)."""
    field = torch.as_tensor(points, dtype=torch.float32, device=axes[0].device)
    for axis, offsets in enumerate(axes, start=1):
        knots = field.shape[axis] - 3
        x = (offsets - offsets[0]) / max(len(offsets) - 1, 1) * knots
        distance = (x[:, None] - torch.arange(-1, knots + 2, device=x.device)).abs()
        near = 2 / 3 - distance**2 + distance**3 / 2
        far = (2 - distance).clamp_min(0) ** 3 / 6
        weights = torch.where(distance < 1, near, far)
        field = (field.movedim(axis, -1) @ weights.T).movedim(-1, axis)
    return field
