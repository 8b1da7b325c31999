"""What the tests of several slots need."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import torch
from torch import Tensor, nn


def image(channels: int, grid: Sequence[int]) -> Tensor:
    return torch.randn(2, channels, *grid, requires_grad=True)


def signal(channels: int, grid: Sequence[int]) -> Tensor:
    return torch.randn(1, channels, *grid, dtype=torch.float64)


def assert_every_parameter_learns(module: nn.Module, *inputs: Tensor) -> None:
    out = module(*inputs)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    for tensor in inputs:
        assert tensor.grad is None or tensor.grad.isfinite().all()
    assert any(tensor.grad is not None for tensor in inputs)


def of_axes(dims: int, scale: int | tuple[int, ...]) -> tuple[int, ...]:
    return scale if isinstance(scale, tuple) else (scale,) * dims


def repeated_before(x: np.ndarray, counts: Sequence[int], first_axis: int) -> np.ndarray:
    """Before each axis its voxels 1 to `count` once more: the first cell without its corner."""
    for axis, count in enumerate(counts, start=first_axis):
        x = np.concatenate([x.take(range(1, count + 1), axis), x], axis)
    return x


def conv_by_loops(x: np.ndarray, weight: np.ndarray, rate: Sequence[int] | int = 1) -> np.ndarray:
    """`y[o, n] = Σ_i Σ_t w[o, i, t] x[i, n + rate·(t - centre)]`, zero beyond the border."""
    rates = (rate,) * (x.ndim - 1) if isinstance(rate, int) else rate
    out = np.zeros((weight.shape[0], *x.shape[1:]))
    for tap in product(*map(range, weight.shape[2:])):
        offset = [r * (t - k // 2) for r, t, k in zip(rates, tap, weight.shape[2:], strict=True)]
        shifted = np.zeros_like(x)
        here, there = [slice(None)], [slice(None)]
        for o, n in zip(offset, x.shape[1:], strict=True):
            here.append(slice(max(0, -o), max(0, min(n, n - o))))
            there.append(slice(max(0, o), max(0, min(n, n + o))))
        shifted[tuple(here)] = x[tuple(there)]
        out += np.einsum("oi,i...->o...", weight[(slice(None), slice(None), *tap)], shifted)
    return out


def array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().numpy()
