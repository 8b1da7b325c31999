"""Carries variations of patches out, on whatever device they are."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.nn import functional


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
        self, middle: ArrayLike, patch_size: Sequence[int], grid: ArrayLike
    ) -> tuple[slice, ...]:
        """The part of a grid that a patch reads.

        Args:
            middle: The patch's middle on the grid, in voxels.
            patch_size: Its size.
            grid: Voxels per axis; what lies beyond is left out.
        """
        half = (np.asarray(patch_size, float) - 1) / 2
        if self.matrix is not None:
            half = np.abs(self.matrix) @ half
        if self.displacement is not None:
            half = half + np.abs(self.displacement).reshape(len(half), -1).max(1)
        place, last = np.asarray(middle, float), np.asarray(grid) - 1
        low = np.floor(np.clip(place - half, 0, None)).astype(int)
        high = np.ceil(np.minimum(place + half, last)).astype(int) + 1
        return tuple(map(slice, low.tolist(), high.tolist()))

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
        if self.displacement is None and not (matrix - np.diag(np.diag(matrix))).any():
            for axis, offsets in enumerate(axes):
                places = middle[axis] + float(matrix[axis, axis]) * offsets
                image = _along(image, axis + 1, places)
                label = _nearest_along(label, axis + 1, places)
            return image, label
        displaced = None if self.displacement is None else _spline(self.displacement, axes)
        places = torch.empty((dims, *patch_size), device=image.device)
        for row, place in enumerate(places):
            total = torch.full([1] * dims, float(middle[row]), device=image.device)
            for column, offsets in enumerate(axes):
                ramp = float(matrix[row, column]) * offsets
                total = total + ramp.reshape([-1 if a == column else 1 for a in range(dims)])
            place.copy_(total if displaced is None else total + displaced[row])
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
    return torch.lerp(mean, image, _per_channel(factors, image)).clamp(low, high)


def lower_resolution(image: Tensor, *, shares: Mapping[int, Sequence[float]]) -> Tensor:
    """Takes channels at a share of their resolution, and interpolates them linearly."""
    image = image.clone()
    mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[image.ndim - 1]
    for channel, own in shares.items():
        size = list(image.shape[1:])
        less = [max(1, round(n * share)) for n, share in zip(size, own, strict=True)]
        coarse = functional.interpolate(image[None, channel, None], less, mode="nearest-exact")
        image[channel] = functional.interpolate(coarse, size, mode=mode)[0, 0]
    return image


def change_gamma(image: Tensor, *, exponents: Sequence[float], inverted: bool = False) -> Tensor:
    """Raises each channel, brought to [0, 1], to its power; mean and deviation are kept.

    Args:
        image: `(channels, *S)`.
        exponents: One for each channel.
        inverted: Whether the negative is taken.
    """
    result = torch.empty_like(image)
    for channel, exponent in enumerate(exponents):
        source, curved = image[channel].flatten(), result[channel].flatten()
        low, high = torch.aminmax(source)
        extent = (high - low).clamp_min(1e-7)
        # of the negative, 0 is at the largest value
        torch.sub(high if inverted else low, source, out=curved)
        curved.div_(extent if inverted else -extent).pow_(exponent)
        mean, deviation = _mean_and_deviation(source)
        own_mean, own_deviation = _mean_and_deviation(curved)
        gain = deviation / own_deviation.clamp_min(1e-7) * (-1 if inverted else 1)
        curved.sub_(own_mean).mul_(gain).add_(mean)
    return result


def _mean_and_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    """Of a flat image; by a product, which is faster than `std` on a CPU."""
    mean = values.mean()
    rest = values - mean
    return mean, (torch.dot(rest, rest) / max(len(values) - 1, 1)).sqrt()


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
    """Linear interpolation of `(channels, *S)` at `places` `(axes, *T)`, in voxels."""
    last = places.new_tensor([n - 1 for n in image.shape[1:]]).reshape(-1, *[1] * len(places))
    grid = (places * (2 / last.clamp_min(1)) - 1).flip(0).movedim(0, -1)[None]
    return functional.grid_sample(image[None], grid, padding_mode="border", align_corners=True)[0]


def _nearest(label: Tensor, places: Tensor) -> Tensor:
    """Labels `(1, *S)` of the voxels that are nearest to `places` `(axes, *T)`."""
    index = None
    for place, length in zip(places, label.shape[1:], strict=True):
        own = place.round().clamp_(0, length - 1).to(torch.int32)
        index = own if index is None else index.mul_(length).add_(own)
    return label.flatten()[index][None]


def _along(image: Tensor, axis: int, places: Tensor) -> Tensor:
    """Linear interpolation along one axis at `places`, in voxels."""
    last = image.shape[axis] - 1
    places = places.clamp(0, last)
    below = places.floor().long()
    share = (places - below).reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    above = image.index_select(axis, (below + 1).clamp_max(last))
    return torch.lerp(image.index_select(axis, below), above, share)


def _nearest_along(label: Tensor, axis: int, places: Tensor) -> Tensor:
    last = label.shape[axis] - 1
    return label.index_select(axis, places.round().clamp(0, last).long())


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
