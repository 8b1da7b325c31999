"""Deformable convolution in 2-D and 3-D."""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from medseg.layers.context import autocast_dtype, no_autocast
from medseg.layers.ndim import conv_nd


class DeformableConv(nn.Module):
    """A convolution whose taps move: `y(p) = Σₜ wₜ · mₜ(p) · x(p + t + Δₜ(p))`.

    The displacements Δ, in voxels, and the modulations m come from an ordinary convolution of the
    same input, which starts at zero: the layer starts as the ordinary convolution. Outside the
    grid x is 0.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Taps per axis, odd.
        modulated: Whether taps are weighted too (version 2), by `2·sigmoid`, which starts at 1.

    Reference: Dai et al. 2017, "Deformable Convolutional Networks", equation 2; Zhu et al. 2019,
    "Deformable ConvNets v2", equation 1 (there the weight is a sigmoid, which starts at 1/2).
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Sequence[int], *, modulated: bool
    ):
        super().__init__()
        dims, taps = len(kernel_size), math.prod(kernel_size)
        padding = tuple((k - 1) // 2 for k in kernel_size)
        conv = conv_nd(dims)
        self.modulated = modulated
        self.padding_mode = "zeros"
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, *kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as torch starts its convolutions
        self.motion = conv(
            in_channels, taps * (dims + modulated), tuple(kernel_size), padding=padding
        )
        for tensor in self.motion.parameters():
            nn.init.zeros_(tensor)

    def forward(self, x: Tensor) -> Tensor:
        taps, dims = self.weight[0, 0].numel(), x.ndim - 2
        motion = self.motion(x)
        offsets = motion[:, : taps * dims].unflatten(1, (taps, dims))
        modulation = 2 * torch.sigmoid(motion[:, taps * dims :]) if self.modulated else None
        circular = self.padding_mode == "circular"
        return deformable_conv(x, self.weight, offsets, modulation, circular=circular)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, {tuple(self.weight.shape[2:])}"


def deformable_conv(
    x: Tensor,
    weight: Tensor,
    offsets: Tensor,
    modulation: Tensor | None = None,
    *,
    circular: bool = False,
) -> Tensor:
    """`y(p) = Σₜ wₜ · mₜ(p) · x(p + t + Δₜ(p))` by multilinear interpolation; the grid is kept.

    What a tap fetches is computed again for the gradients instead of being kept: `k^d` copies
    of the input would not fit in memory in 3-D.

    Args:
        x: `(N, in, *S)`.
        weight: `(out, in, *kernel)`, kernel odd.
        offsets: `(N, taps, d, *S)` in voxels, taps and axes in array order.
        modulation: `(N, taps, *S)`, or None for 1.
        circular: Whether the grid is closed to a torus instead of ending in zeros.

    Returns:
        `(N, out, *S)`.
    """
    dtype = autocast_dtype(x)
    with no_autocast(x):
        wide = torch.promote_types(
            x.dtype, torch.float32
        )  # half precision is too coarse for positions
        x, weight, offsets, grid = x.to(wide), weight.to(wide), offsets.to(wide), _grid(x, wide)
        torus = grid.new_tensor(x.shape[2:]) if circular else None
        if circular:  # the first voxel again after the last
            x = functional.pad(x, [0, 1] * (x.ndim - 2), mode="circular")
        out = x.new_zeros(())
        for index, tap in enumerate(product(*(range(k) for k in weight.shape[2:]))):
            centred = [t - (k - 1) // 2 for t, k in zip(tap, weight.shape[2:], strict=True)]
            places = grid + grid.new_tensor(centred) + offsets[:, index].movedim(1, -1)
            places = places if torus is None else places.remainder(torus)
            share = None if modulation is None else modulation[:, index : index + 1].to(wide)
            out = out + checkpoint(
                _tap, x, weight[(..., *tap)], places, share,
                use_reentrant=False, preserve_rng_state=False,
            )  # fmt: skip
    return out.to(dtype)


def _tap(x: Tensor, weight: Tensor, places: Tensor, share: Tensor | None) -> Tensor:
    size = places.new_tensor(x.shape[2:])
    relative = ((2 * places + 1) / size - 1).flip(-1)  # grid_sample's last axis comes first
    fetched = functional.grid_sample(x, relative, padding_mode="zeros", align_corners=False)
    mixed = torch.einsum("nc...,oc->no...", fetched, weight)
    return mixed if share is None else mixed * share


def _grid(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Voxel indices, `(*S, d)`."""
    axes = [torch.arange(n, device=x.device, dtype=dtype) for n in x.shape[2:]]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
