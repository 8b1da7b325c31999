"""Kernels of one operator that compute what another does: exact equalities of convolutions.

A convolution's kernel is `(out, in, *taps)`. One that keeps the grid has odd taps, the middle one
at the voxel itself, and zeros beyond the border. A transposed kernel is `(in, out, *taps)`, as
torch stores it. "Convolution and shuffle" is a convolution to `out · Π scale` channels that keeps
the coarse grid, then `layers.resampling.depth_to_space`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

CONV_ND: dict[int, Callable[..., Tensor]] = {
    1: functional.conv1d,
    2: functional.conv2d,
    3: functional.conv3d,
}
"""torch's convolution by number of axes of the grid."""


def taps_of(weight: Tensor) -> tuple[int, ...]:
    """Taps per axis of a kernel `(_, _, *taps)`."""
    return tuple(weight.shape[2:])


def grouped_as_dense(weight: Tensor, groups: int) -> Tensor:
    """A grouped convolution is a dense one whose kernel is block-diagonal in the channels.

    Args:
        weight: `(out, in / groups, *taps)`.
        groups: Groups of channels; as many as `in` for a depthwise convolution.

    Returns:
        `(out, in, *taps)`, zeros between the groups.

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
    group = torch.arange(groups, device=weight.device)
    dense[group, :, group] = weight.unflatten(0, (groups, rows))
    return dense.flatten(2, 3).flatten(0, 1)


def dilated_as_dense(weight: Tensor, dilation: Sequence[int]) -> Tensor:
    """A dilated convolution is a dense one with `dilation - 1` zeros between its taps.

    Args:
        weight: `(_, _, *taps)`.
        dilation: Distance of taps per axis in voxels.

    Returns:
        `(_, _, *(dilation · (taps - 1) + 1))`.

    Reference: Yu & Koltun 2016, "Multi-Scale Context Aggregation by Dilated Convolutions"
    (arXiv:1511.07122), eq. 2; Dumoulin & Visin 2016 (arXiv:1603.07285), section 5.1.
    """
    spans = [r * (k - 1) + 1 for r, k in zip(dilation, taps_of(weight), strict=True)]
    dense = weight.new_zeros(*weight.shape[:2], *spans)
    dense[(..., *(slice(None, None, rate) for rate in dilation))] = weight
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
    return CONV_ND[dims](first.transpose(0, 1), flipped, padding=padding).transpose(0, 1)


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
    halves = []
    for axis, taps in enumerate(taps_of(weight)):
        first, last = extent(weight, axis)
        halves.append(max(0, taps // 2 - first, last - taps // 2) if last >= 0 else 0)
    return tuple(2 * half + 1 for half in halves)


def transposed_as_shuffle(
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    output_padding: Sequence[int],
) -> tuple[Tensor, Tensor | None]:
    """A transposed convolution is a convolution per phase of its stride, interlaced.

    Voxel `s·m + q` weighs `x[m + d]` by tap `t = q + padding - s·d`. With kernel = stride that is
    a 1×1. It holds at the border: both take zeros beyond it.

    Args:
        weight: `(in, out, *taps)`.
        bias: `(out,)`.
        stride: Step per axis in voxels.
        padding: Of the transposed convolution.
        output_padding: Of the transposed convolution.

    Returns:
        Kernel `(out · Π stride, in, *odd taps)` and bias `(out · Π stride,)` of a convolution and
        shuffle; the smallest odd kernel that has room for every tap.

    Raises:
        ValueError: the output is not stride times the input.

    Reference: Shi et al. 2016, "Is the deconvolution layer the same as a convolutional layer?"
    (arXiv:1609.07009).
    """
    dims = weight.ndim - 2
    options = zip(taps_of(weight), stride, padding, output_padding, strict=True)
    padded = functional.pad(weight, [0, 1] * dims)  # one zero per axis, where no tap is
    for axis, (k, s, p, e) in enumerate(options):
        if k + e - 2 * p != s:
            raise ValueError(
                f"kernel {k}, padding {p} and output padding {e} do not make the grid stride={s} "
                f"times as large; choose them so that kernel + output padding - 2·padding = {s}"
            )
        padded = _taps_by_phase(padded, 2 + 2 * axis, k, s, p)
    phases = [2 + 2 * axis for axis in range(dims)]
    taps = [3 + 2 * axis for axis in range(dims)]
    kernel = padded.permute(1, *phases, 0, *taps).flatten(0, dims)
    return kernel, None if bias is None else bias.repeat_interleave(math.prod(stride))


def shuffle_as_transposed(
    weight: Tensor, bias: Tensor | None, scale: Sequence[int]
) -> tuple[Tensor, Tensor | None, tuple[int, ...]]:
    """A convolution and shuffle is a transposed convolution with `scale · taps` taps.

    Args:
        weight: `(out · Π scale, in, *odd taps)`.
        bias: `(out · Π scale,)`.
        scale: Factor per axis.

    Returns:
        Kernel `(in, out, *(scale · taps))`, bias `(out,)` and padding of a transposed convolution
        with stride `scale`.

    Raises:
        ValueError: the phases of a channel have different biases, which one number cannot be.

    Reference: Shi et al. 2016 (arXiv:1609.07009).
    """
    dims = weight.ndim - 2
    split = weight.flip(list(range(2, weight.ndim))).unflatten(0, (-1, *scale))
    pairs = [axis for d in range(dims) for axis in (2 + dims + d, 1 + d)]
    woven = split.permute(1 + dims, 0, *pairs)
    taps = [k * s for k, s in zip(taps_of(weight), scale, strict=True)]
    kernel = woven.reshape(*woven.shape[:2], *taps)
    padding = tuple(s * (k // 2) for k, s in zip(taps_of(weight), scale, strict=True))
    return kernel, None if bias is None else _of_all_phases(bias, math.prod(scale)), padding


def phases_as_shuffle(
    weight: Tensor, bias: Tensor | None, factors: Sequence[float]
) -> tuple[Tensor, Tensor | None]:
    """A convolution whose values go to the phases of a cell, each times a factor.

    A bed of nails has factor 1 at phase 0 and 0 elsewhere, nearest-neighbour interpolation 1
    everywhere.

    Args:
        weight: `(out, in, *odd taps)`.
        bias: `(out,)`.
        factors: One per phase.

    Returns:
        Kernel `(out · phases, in, *odd taps)` and bias of a convolution and shuffle.

    Reference: Dumoulin & Visin 2016 (arXiv:1603.07285), section 4.6; Aitken et al. 2017,
    "Checkerboard artifact free sub-pixel convolution" (arXiv:1707.02937).
    """
    kernel, biases = (
        None if tensor is None else torch.stack([f * tensor for f in factors], 1).flatten(0, 1)
        for tensor in (weight, bias)
    )
    assert kernel is not None
    return kernel, biases


def _crosses(weight: Tensor, axis: int) -> bool:
    return smallest_odd(weight)[axis] > 1


def _taps_by_phase(padded: Tensor, axis: int, taps: int, step: int, padding: int) -> Tensor:
    """An axis of taps, and a zero after them, becomes two: the phase and the input voxel."""
    nearest = -((taps - 1 - padding) // step)
    farthest = (step - 1 + padding) // step
    half = max(-nearest, farthest, 0)
    phase = torch.arange(step)[:, None]
    tap = phase + padding - step * torch.arange(-half, half + 1)
    tap = torch.where((tap >= 0) & (tap < taps), tap, taps)
    chosen = padded.index_select(axis, tap.flatten().to(padded.device))
    return chosen.unflatten(axis, (step, 2 * half + 1))


def _of_all_phases(bias: Tensor, phases: int) -> Tensor:
    split = bias.unflatten(0, (-1, phases))
    spread = float((split.amax(1) - split.amin(1)).max())
    if spread > 0:
        raise ValueError(
            f"the biases of a channel's {phases} phases differ by up to {spread:.3g}, and a "
            "transposed convolution has one per channel; keep the pixel shuffle"
        )
    return split[:, 0].clone()
