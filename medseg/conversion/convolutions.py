"""Convolutions that are others in disguise.

A kernel is `(out, in, *taps)`. One that keeps the grid has odd taps, the middle one at the voxel
itself, and sees zeros beyond the border.
"""

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor
from torch.nn import functional

from medseg.conversion.axes import CONV, Axes, of_axes, taps_of


def grouped_as_dense(weight: Tensor, groups: int) -> Tensor:
    """A grouped convolution is a dense one whose kernel is block-diagonal in the channels.

    Args:
        weight: `(out, in / groups, *taps)`.
        groups: Bundles of channels; as many as `in` for a depthwise convolution.

    Returns:
        `(out, in, *taps)`, zeros between the bundles.

    Raises:
        ValueError: `groups` does not divide `out`.

    Reference: Xie et al. 2017, "Aggregated Residual Transformations for Deep Neural Networks"
    (arXiv:1611.05431), section 3.
    """
    if groups < 1 or len(weight) % groups:
        raise ValueError(
            f"groups={groups} must divide the {len(weight)} output channels; "
            "choose the groups that the kernel was made for"
        )
    rows, per_group = len(weight) // groups, weight.shape[1]
    dense = weight.new_zeros(groups, rows, groups, per_group, *taps_of(weight))
    bundle = torch.arange(groups, device=weight.device)
    dense[bundle, :, bundle] = weight.unflatten(0, (groups, rows))
    return dense.flatten(2, 3).flatten(0, 1)


def dilated_as_dense(weight: Tensor, dilation: Axes) -> Tensor:
    """A dilated convolution is a dense one with `dilation - 1` zeros between its taps.

    Args:
        weight: `(_, _, *taps)`.
        dilation: Distance of taps per axis in voxels.

    Returns:
        `(_, _, *(dilation · (taps - 1) + 1))`.

    Reference: Yu & Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions"
    (arXiv:1511.07122), eq. 2; Dumoulin & Visin 2016 (arXiv:1603.07285), section 5.1.
    """
    rates = of_axes(dilation, weight.ndim - 2)
    reach = [r * (k - 1) + 1 for r, k in zip(rates, taps_of(weight), strict=True)]
    dense = weight.new_zeros(*weight.shape[:2], *reach)
    dense[(..., *(slice(None, None, rate) for rate in rates))] = weight
    return dense


def composed(first: Tensor, second: Tensor) -> Tensor:
    """Two convolutions in a row are one: `w[o,i,t] = Σ_m Σ_{u+v=t} second[o,m,u] · first[m,i,v]`.

    With zeros beyond the border this holds only if no axis is crossed by both: between the two
    the border is set to zero again, which a single kernel cannot do.

    Args:
        first: `(middle, in, *taps)`, odd, without bias.
        second: `(out, middle, *taps)`, odd.

    Returns:
        `(out, in, *(taps of first + taps of second - 1))`.

    Raises:
        ValueError: both have taps beside the middle one along the same axis.

    Reference: Szegedy et al. 2016, "Rethinking the Inception Architecture" (arXiv:1512.00567),
    section 3.2; Dumoulin & Visin 2016 (arXiv:1603.07285), section 2.2, for the border.
    """
    dims = first.ndim - 2
    crossed = [axis for axis in range(dims) if _crosses(first, axis) and _crosses(second, axis)]
    if crossed:
        raise ValueError(
            f"kernels of {taps_of(first)} and {taps_of(second)} taps both cross axis {crossed[0]}, "
            "and between the two zeros are put beyond the border; keep the two convolutions"
        )
    flipped = second.flip(list(range(2, second.ndim)))
    padding = [taps - 1 for taps in taps_of(second)]
    return CONV[dims](first.transpose(0, 1), flipped, padding=padding).transpose(0, 1)


def depthwise_separable_as_dense(depthwise: Tensor, pointwise: Tensor, in_channels: int) -> Tensor:
    """Depthwise then pointwise: dense, `w[o,i,t] = Σ_m point[o, i·M+m] · depth[i·M+m, t]`.

    Args:
        depthwise: `(in · M, 1, *taps)`, M outputs per input channel, without bias.
        pointwise: `(out, in · M, 1, …)`.
        in_channels: Input channels.

    Returns:
        `(out, in, *taps)`.

    Raises:
        ValueError: the second kernel is not 1×1.

    Reference: Howard et al. 2017, "MobileNets" (arXiv:1704.04861), section 3.1.
    """
    if math.prod(taps_of(pointwise)) != 1:
        raise ValueError(
            f"a pointwise kernel has one tap, not {taps_of(pointwise)}; "
            "use `composed` for kernels with more"
        )
    return composed(grouped_as_dense(depthwise, in_channels), pointwise)


def spatially_separable_as_dense(factors: Sequence[Tensor]) -> Tensor:
    """Convolutions along one axis each, no bias inside, are dense: outer products of their taps.

    Args:
        factors: Kernels in order, each along an axis of its own.

    Returns:
        `(out, in, *taps)`; with one channel in between, a kernel of rank 1.

    Raises:
        ValueError: two of them cross the same axis.

    Reference: Szegedy et al. 2016, "Rethinking the Inception Architecture" (arXiv:1512.00567),
    section 3.2.
    """
    return reduce(composed, factors)


def shuffled_channels(channels: int, groups: int, dims: int) -> Tensor:
    """A channel shuffle is a 1×1 convolution: channel `g·channels/G + c` of G groups to `c·G + g`.

    Returns:
        `(channels, channels, 1, …)`, float64.

    Raises:
        ValueError: `groups` does not divide `channels`.

    Reference: Zhang et al. 2018, "ShuffleNet" (arXiv:1707.01083), section 3.1.
    """
    if channels % groups:
        raise ValueError(
            f"groups={groups} must divide the {channels} channels; choose groups that do"
        )
    order = torch.arange(channels).unflatten(0, (groups, -1)).T.flatten()
    return torch.eye(channels, dtype=torch.float64)[order].reshape(channels, channels, *[1] * dims)


def strided_as_space_to_depth(weight: Tensor) -> Tensor:
    """A convolution with kernel = stride is a 1×1 on the voxels of a cell as channels.

    Args:
        weight: `(out, in, *stride)`.

    Returns:
        `(out, in · Π stride, 1, …)` for the channel order of `layers.resampling.space_to_depth`.

    Reference: Sunkara & Luo 2022, "No More Strided Convolutions or Pooling" (arXiv:2208.03641),
    section 3.
    """
    return weight.reshape(len(weight), -1, *[1] * (weight.ndim - 2))


def space_to_depth_as_strided(weight: Tensor, scale: Axes) -> Tensor:
    """`(out, in · Π scale, 1, …) → (out, in, *scale)`: inverse of `strided_as_space_to_depth`."""
    steps = of_axes(scale, weight.ndim - 2)
    return weight.reshape(len(weight), -1, *steps)


def resized(weight: Tensor, taps: Sequence[int], first: Sequence[int]) -> Tensor:
    """The same kernel in a frame of other size: tap `t` goes to `t + first`, the rest is zero.

    Args:
        weight: `(_, _, *taps)`.
        taps: Taps of the frame per axis.
        first: Where the kernel's first tap goes per axis; negative where zeros are cut off.

    Raises:
        ValueError: a tap other than zero lies outside the frame.
    """
    after = [n - k - a for n, k, a in zip(taps, taps_of(weight), first, strict=True)]
    sides = [s for pair in reversed([*zip(first, after, strict=True)]) for s in pair]
    framed = functional.pad(weight, sides)
    if framed.count_nonzero() != weight.count_nonzero():
        raise ValueError(
            f"a kernel of {taps_of(weight)} taps does not fit a frame of {tuple(taps)} from "
            f"{tuple(first)} on; choose a larger kernel"
        )
    return framed


def centred(weight: Tensor, taps: Sequence[int]) -> Tensor:
    """The same odd kernel in the middle of another odd size; see `resized`."""
    return resized(weight, taps, [(n - k) // 2 for n, k in zip(taps, taps_of(weight), strict=True)])


def extent(weight: Tensor, axis: int) -> tuple[int, int]:
    """First and last tap along an axis at which anything is not zero; (0, -1) if all is zero."""
    others = [a for a in range(weight.ndim) if a != axis + 2]
    places = (weight != 0).sum(others).nonzero().flatten().tolist()
    return (places[0], places[-1]) if places else (0, -1)


def smallest_odd(weight: Tensor) -> tuple[int, ...]:
    """Taps per axis of the smallest odd kernel about the same middle that holds all but zeros."""
    reaches = []
    for axis, taps in enumerate(taps_of(weight)):
        first, last = extent(weight, axis)
        reaches.append(max(0, taps // 2 - first, last - taps // 2) if last >= 0 else 0)
    return tuple(2 * reach + 1 for reach in reaches)


def _crosses(weight: Tensor, axis: int) -> bool:
    return smallest_odd(weight)[axis] > 1
