"""Kernels of known measures, and layers that hold them."""

import itertools
import math
from functools import reduce

import torch
from torch import Tensor, nn

TRANSPOSED = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]
CONV = [nn.Conv1d, nn.Conv2d, nn.Conv3d]
DIMS = (1, 2, 3)
NAILS = [1.0]
NEAREST = [1.0, 1.0]
ONES = [1.0, 1.0, 1.0]
ODD_LINEAR = [0.5, 1.0, 0.5]
LINEAR = [0.25, 0.75, 0.75, 0.25]


def outer(taps: list[float] | Tensor, dims: int) -> Tensor:
    """The product of the same taps along every axis."""
    line = torch.as_tensor(taps, dtype=torch.float64)
    return reduce(lambda grid, one: grid.unsqueeze(-1) * one, [line] * (dims - 1), line)


def kernel_of(taps: list[float] | Tensor, dims: int) -> Tensor:
    """One input, one output."""
    return outer(taps, dims)[None, None]


def ones(kinds: list, dims: int, kernel, stride, dilation=1) -> nn.Module:
    """A layer of one channel whose taps are all 1."""
    layer = kinds[dims - 1](1, 1, kernel, stride, dilation=dilation)
    nn.init.ones_(layer.weight)
    return layer


def over_axes(one: float, dims: int) -> float:
    """The share off the mean of a product over axes."""
    return 1 - (1 - one) ** dims


def leakage_of(kernel: Tensor, stride: tuple[int, ...], waves: Tensor) -> Tensor:
    """`1 − ‖H(ω/s)‖² / Σ_k ‖H((ω + 2πk)/s)‖²` for each wave ω of the input grid."""
    steps = torch.tensor(stride, dtype=torch.float64)
    replicas = torch.tensor(list(itertools.product(*map(range, stride)))).double()
    angles = (waves.double()[:, None] + 2 * math.pi * replicas) / steps
    lines = [torch.arange(n).double() for n in kernel.shape[2:]]
    places = torch.stack(torch.meshgrid(*lines, indexing="ij")).flatten(1)
    turns = torch.exp(-1j * (angles @ places))
    spectrum = torch.einsum("wkn,ion->wkio", turns, kernel.flatten(2).to(turns.dtype))
    powers = spectrum.abs().square().sum(dim=(2, 3))
    return 1 - powers[:, 0] / powers.sum(dim=1)
