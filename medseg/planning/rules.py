"""nnU-Net's rules: from spacings and sizes to spacing, patch, strides, kernels and batch.

Axes are those of nnU-Net's arrays: the coarsest first, the others from feet to head, from back to
front and across the body (`axis_order`). Where two axes are equal, the order decides between them.

Reference: Isensee et al. 2021, "nnU-Net", supplementary note 2; as its version 2 does it
(github.com/MIC-DKFZ/nnUNet, nnunetv2/experiment_planning, Apache-2.0).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

FIRST_WIDTH = 32
_ANISOTROPY = 3  # times the next spacing, from which an axis counts as coarse
_LEAST_EDGE = 4  # voxels of the coarsest stage
_LARGEST_WIDTH = {2: 512, 3: 320}
_FIRST_EDGE = {2: 2048, 3: 256}  # of the cube from which patches are made smaller
_REFERENCE_VALUES = {2: 85e6, 3: 560e6}  # of feature maps that count as 8 GB
_REFERENCE_BATCH = {2: 12, 3: 2}
_REFERENCE_GB = 8
_LEAST_BATCH = 2
_SHARE_IN_BATCH = 0.05  # of the dataset's voxels


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A patch and the network whose strides divide it.

    Args:
        patch: Voxels per axis.
        strides: Resolution step into each stage, per axis.
        kernels: Taps of each stage's convolutions, per axis: 1 while an axis is still coarse.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    kernels: tuple[tuple[int, ...], ...]

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each stage: doubled with each, up to a largest."""
        return widths(len(self.strides), len(self.patch), FIRST_WIDTH)

    @property
    def total_stride(self) -> tuple[int, ...]:
        """Of the coarsest stage, per axis."""
        return tuple(math.prod(axis) for axis in zip(*self.strides, strict=True))


def widths(stages: int, dims: int, first: int) -> tuple[int, ...]:
    """Channels of each stage: `first`, doubled with each, up to 10 (2-D: 16) times as many."""
    largest = _LARGEST_WIDTH[dims] * first // FIRST_WIDTH
    return tuple(min(largest, first * 2**stage) for stage in range(stages))


def axis_order(spacing: Sequence[float]) -> tuple[int, ...]:
    """The axes of a RAS volume in the order in which nnU-Net has them."""
    upwards = (2, 1, 0)
    coarsest = max(upwards, key=lambda axis: spacing[axis])
    return (coarsest, *(axis for axis in upwards if axis != coarsest))


def target_spacing(spacings: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The spacing to train on: the median, along a coarse axis of few voxels the finest tenth.

    Args:
        spacings: `(cases, axes)`, mm.
        sizes: `(cases, axes)`, voxels after cropping to what is not 0.
    """
    target, size = np.percentile(spacings, 50, 0), np.percentile(sizes, 50, 0)
    coarse = int(np.argmax(target))
    others = [axis for axis in range(len(target)) if axis != coarse]
    next_spacing = max(target[others])
    is_coarse = target[coarse] > _ANISOTROPY * next_spacing
    if is_coarse and size[coarse] * _ANISOTROPY < min(size[others]):
        finest = np.percentile(spacings[:, coarse], 10)
        target[coarse] = finest if finest >= next_spacing else next_spacing + 1e-5
    return target


def shape_for(spacing: Sequence[float], patch: Sequence[float]) -> Shape:
    """The network for a patch, which grows to the next multiple of its strides.

    An axis is halved while 4 voxels are left and its voxels are less than twice as long as the
    shortest; its kernels have 3 taps once they are.
    """
    dims = len(spacing)
    lengths, sizes = list(spacing), [float(n) for n in patch]
    strides, kernels, kernel = [(1,) * dims], [], [1] * dims
    while True:
        halved = [axis for axis in range(dims) if sizes[axis] >= 2 * _LEAST_EDGE]
        shortest = min((lengths[axis] for axis in halved), default=0.0)
        halved = [axis for axis in halved if lengths[axis] / shortest < 2]
        if not halved or (len(halved) == 1 and sizes[halved[0]] < 3 * _LEAST_EDGE):
            break
        kernel = [
            3 if taps == 3 or length / min(lengths) < 2 else 1
            for taps, length in zip(kernel, lengths, strict=True)
        ]
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in range(dims)))
        for axis in halved:
            lengths[axis] *= 2
            sizes[axis] = math.ceil(sizes[axis] / 2)
    if len(strides) == 1:  # however small the patch is, a U-Net has two stages
        kernels.append((3,) * dims)
        strides.append(tuple(2 if n > 1 or max(sizes) == 1 else 1 for n in sizes))
    kernels.append((3,) * dims)
    total = [math.prod(axis) for axis in zip(*strides, strict=True)]
    fitting = tuple(math.ceil(n / step) * step for n, step in zip(patch, total, strict=True))
    return Shape(patch=fitting, strides=tuple(strides), kernels=tuple(kernels))


def shapes(spacing: Sequence[float], median_size: Sequence[float]) -> Iterator[Shape]:
    """Patches from the largest on, each a step smaller along its longest axis.

    The first has the volume of a cube of 256 voxels (2-D: a square of 2048) and equal lengths in
    mm, and is no longer than the median case; the longest axis is the one that holds the largest
    share of that.
    """
    dims = len(spacing)
    per_mm = 1 / np.array(spacing)
    first = per_mm * (_FIRST_EDGE[dims] ** dims / np.prod(per_mm)) ** (1 / dims)
    shape = shape_for(
        spacing, [min(max(1, round(n)), m) for n, m in zip(first, median_size, strict=True)]
    )
    while True:
        yield shape
        patch = list(shape.patch)
        axis = int(np.argsort([n / m for n, m in zip(patch, median_size, strict=True)])[-1])
        smaller = list(patch)
        smaller[axis] -= shape.total_stride[axis]
        if smaller[axis] < 1:
            return
        # the step of the smaller patch may be smaller: from 256, 224 comes before 192
        patch[axis] -= shape_for(spacing, smaller).total_stride[axis]
        former, shape = shape, shape_for(spacing, patch)
        if math.prod(shape.patch) >= math.prod(former.patch):
            return


def feature_values(shape: Shape, num_classes: int) -> int:
    """Values of all feature maps for one patch, by which nnU-Net estimates memory.

    Args:
        shape: Patch and network, of two convolutions a stage.
        num_classes: Channels of the logits.
    """
    size, total, sizes = shape.patch, 0, []
    for steps, width in zip(shape.strides, shape.channels, strict=True):
        size = tuple(n // step for n, step in zip(size, steps, strict=True))
        sizes.append(math.prod(size))
        total += 2 * width * sizes[-1]
    # each stage of the decoder: what is upsampled, and two convolutions
    decoder = zip(sizes[:-1], shape.channels[:-1], strict=True)
    return total + sum(3 * width * voxels for voxels, width in decoder) + num_classes * sizes[0]


def largest_batch(patch: Sequence[int], dataset_voxels: float) -> int:
    """Patches of which a batch holds at most a twentieth of the dataset, at least 2."""
    share = dataset_voxels * _SHARE_IN_BATCH / math.prod(patch)
    return max(round(share), _LEAST_BATCH)


def estimated(
    spacing: Sequence[float],
    median_size: Sequence[float],
    *,
    num_classes: int,
    dataset_voxels: float,
    memory_gb: float = _REFERENCE_GB,
) -> tuple[Shape, int]:
    """nnU-Net's own plan, by its own estimate of memory: shape and batch size.

    Args:
        spacing: mm per axis.
        median_size: Voxels per axis of the median case at that spacing.
        num_classes: With background.
        dataset_voxels: Of all training cases at that spacing.
        memory_gb: Of the GPU.
    """
    dims = len(spacing)
    reference = _REFERENCE_VALUES[dims] * memory_gb / _REFERENCE_GB
    patches = _REFERENCE_BATCH[dims] * reference
    shape = next(iter(shapes(spacing, median_size)))
    for shape in shapes(spacing, median_size):
        if feature_values(shape, num_classes) * _LEAST_BATCH <= patches:
            break
    batch = round(patches / feature_values(shape, num_classes))
    most = largest_batch(shape.patch, dataset_voxels)
    return shape, max(min(batch, most), _LEAST_BATCH)
