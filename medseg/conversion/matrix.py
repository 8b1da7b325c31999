"""Convolutions written out as the sparse matrices that they are.

A tensor `(channels, *S)` is the vector of its entries in array order: channel, then voxel.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np
from scipy import sparse
from torch import Tensor

from medseg.conversion.axes import Axes, of_axes, taps_of


def convolution_matrix(
    weight: Tensor,
    input_size: Sequence[int],
    stride: Axes = 1,
    padding: Axes = 0,
    dilation: Axes = 1,
    groups: int = 1,
) -> sparse.csr_array:
    """`C` with `C · vec(x) = vec(conv(x))`: row (out channel, voxel), column (in channel, voxel).

    Args:
        weight: `(out, in / groups, *taps)`.
        input_size: Grid of `x` in voxels.
        stride: Step per axis in voxels.
        padding: Zeros at each border per axis.
        dilation: Distance of taps per axis in voxels.
        groups: Bundles of channels that do not see each other.

    Returns:
        `(out · Π S', in · Π S)` in the weight's precision.

    Raises:
        ValueError: the dilated kernel is larger than the padded grid.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning"
    (arXiv:1603.07285), section 4.1.
    """
    steps = _Steps(weight, stride, padding, dilation)
    coarse = steps.coarse_size(input_size)
    if min(coarse) < 1:
        raise ValueError(
            f"input_size={tuple(input_size)} is smaller than the kernel of {taps_of(weight)} taps "
            f"with padding {steps.padding}; choose a larger grid or more padding"
        )
    return _matrix(weight, steps, input_size, coarse, groups)


def transposed_matrix(
    weight: Tensor,
    input_size: Sequence[int],
    stride: Axes = 1,
    padding: Axes = 0,
    output_padding: Axes = 0,
    dilation: Axes = 1,
    groups: int = 1,
) -> sparse.csr_array:
    """`Cᵀ` with `Cᵀ · vec(x) = vec(conv_transpose(x))`, `C` the convolution on the finer grid.

    Args:
        weight: `(in, out / groups, *taps)`, as torch keeps that of a transposed convolution.
        input_size: Grid of `x`, the coarser one, in voxels.
        stride: Step per axis on the finer grid in voxels.
        padding: Voxels left out at each border of the finer grid per axis.
        output_padding: Voxels added at its far end per axis.
        dilation: Distance of taps per axis in voxels.
        groups: Bundles of channels that do not see each other.

    Returns:
        `(out · Π S', in · Π S)`, `S' = (S - 1)·stride - 2·padding + dilation·(taps - 1) +
        output_padding + 1`.

    Raises:
        ValueError: nothing of the finer grid is left.

    Reference: Dumoulin & Visin 2016 (arXiv:1603.07285), sections 4.1 and 4.2.
    """
    steps = _Steps(weight, stride, padding, dilation)
    fine = steps.fine_size(input_size, output_padding)
    if min(fine) < 1:
        raise ValueError(
            f"padding={steps.padding} leaves nothing of the finer grid of {tuple(input_size)} "
            "voxels; choose less padding or a larger grid"
        )
    return _matrix(weight, steps, fine, input_size, groups).T.tocsr()


class _Steps:
    """How a kernel steps over the finer grid."""

    def __init__(self, weight: Tensor, stride: Axes, padding: Axes, dilation: Axes):
        dims = weight.ndim - 2
        self.taps = taps_of(weight)
        self.stride = of_axes(stride, dims)
        self.padding = of_axes(padding, dims)
        self.dilation = of_axes(dilation, dims)

    def coarse_size(self, fine: Sequence[int]) -> list[int]:
        """Voxels per axis where the kernel fits."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.taps, strict=True)]
        sizes = zip(fine, self.padding, reach, self.stride, strict=True)
        return [(n + 2 * p - r) // s + 1 for n, p, r, s in sizes]

    def fine_size(self, coarse: Sequence[int], output_padding: Axes) -> list[int]:
        """Voxels per axis that the kernels of a coarse grid paint."""
        extra = of_axes(output_padding, len(self.taps))
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.taps, strict=True)]
        sizes = zip(coarse, self.stride, self.padding, reach, extra, strict=True)
        return [(n - 1) * s - 2 * p + r + e for n, s, p, r, e in sizes]

    def pairs(
        self, tap: Sequence[int], fine: Sequence[int], coarse: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Voxels of the coarse grid, and those of the fine one that they see through a tap."""
        rows, columns = [], []
        for axis, t in enumerate(tap):
            row = np.arange(coarse[axis])
            column = row * self.stride[axis] - self.padding[axis] + t * self.dilation[axis]
            inside = (column >= 0) & (column < fine[axis])
            rows.append(row[inside])
            columns.append(column[inside])
        return _places(rows, coarse), _places(columns, fine)


def _places(coordinates: Sequence[np.ndarray], size: Sequence[int]) -> np.ndarray:
    grid = np.meshgrid(*coordinates, indexing="ij")
    return np.ravel_multi_index([axis.ravel() for axis in grid], tuple(size))


def _matrix(
    weight: Tensor, steps: _Steps, fine: Sequence[int], coarse: Sequence[int], groups: int
) -> sparse.csr_array:
    kernel = weight.detach().cpu().numpy()
    out_channels, per_group = kernel.shape[:2]
    out = np.arange(out_channels)[:, None, None]
    group = out // (out_channels // groups)
    into = group * per_group + np.arange(per_group)[None, :, None]
    rows, columns, values = [], [], []
    for tap in product(*map(range, steps.taps)):
        row, column = steps.pairs(tap, fine, coarse)
        shape = (out_channels, per_group, len(row))
        rows.append(np.broadcast_to(out * math.prod(coarse) + row, shape).ravel())
        columns.append(np.broadcast_to(into * math.prod(fine) + column, shape).ravel())
        values.append(np.broadcast_to(kernel[(..., *tap)][..., None], shape).ravel())
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    size = (out_channels * math.prod(coarse), per_group * groups * math.prod(fine))
    return sparse.coo_array(entries, shape=size).tocsr()
