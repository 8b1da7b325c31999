"""Replicas of the input's spectrum that an upsampling lets through."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.phases import require_kernel

_SILENT = 1e-12  # of the largest power; rounding of the autocorrelation ends below it


def imaging_leakage(kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]) -> float:
    """`1 − ∫ ‖H(ω/s)‖² dω / ∫ Σ_k ‖H((ω + 2πk)/s)‖² dω`: energy in replicas of white noise.

    The integrals run over the band `[−π, π]^d` of the input, so that the first has the closed
    form `Σ_l r[l] Π sinc(l/s)` with the autocorrelation r of the taps. In [0, 1]; 0 only for the
    ideal low-pass, which has no finite kernel. Independent of scale, bias, the order of phases
    and rotations of inputs and outputs. Nearest neighbours at stride 2: `(1 − 2/π)/2` in 1-D.

    Args:
        kernel: Taps on the output grid, such as of `upsampling_kernel`.
        stride: Stride per axis.

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    Reference: Pons et al. 2021, "Upsampling Artifacts in Neural Audio Synthesis" (spectral
    replicas); Vaidyanathan 1993, "Multirate Systems and Filter Banks".

    >>> imaging_leakage(torch.ones(1, 1, 1), (2,))  # a bed of nails
    0.5
    """
    require_kernel(kernel, stride)
    correlation, lags = _autocorrelation(kernel)
    passed = correlation
    for axis_lags, step in zip(reversed(lags), reversed(tuple(stride)), strict=True):
        passed = passed @ torch.sinc(axis_lags / step)
    whole = math.prod(stride) * correlation[tuple(len(at) // 2 for at in lags)]
    return round(float(1 - passed / whole), 12)


def imaging_spectrum(
    kernel: Float[Tensor, "inputs outputs *taps"],
    stride: Sequence[int],
    frequencies: Float[Tensor, "points axes"],
) -> Float[Tensor, " points"]:
    """`L(ω) = Σ_{k≠0} ‖H((ω + 2πk)/s)‖² / Σ_k ‖H((ω + 2πk)/s)‖²`: replicas of one wave, in [0, 1].

    `L(0)` is the DC-gain imbalance. Independent of scale, bias, the order of phases and
    rotations of inputs and outputs. Nearest neighbours at stride 2: `sin²(ω/4)` in 1-D.

    Args:
        kernel: Taps on the output grid, such as of `upsampling_kernel`.
        stride: Stride per axis.
        frequencies: `ω` in radians per voxel of the input, within `[−π, π]`.

    Raises:
        ValueError: what `imaging_leakage` refuses, frequencies with another number of axes or
            that are not finite, or one that the kernel does not pass at all.

    Reference: as of `imaging_leakage`.

    >>> waves = torch.tensor([[0.0], [torch.pi]], dtype=torch.float64)
    >>> imaging_spectrum(torch.ones(1, 1, 2), (2,), waves).tolist()
    [0.0, 0.5]
    """
    require_kernel(kernel, stride)
    _require_frequencies(frequencies, stride)
    correlation, lags = _autocorrelation(kernel)
    waves = frequencies.detach().double().cpu() / torch.tensor(stride, dtype=torch.float64)
    passed = _power(correlation, lags, waves)
    # over the P replicas only lags of whole cells add up, the others cancel
    for axis, (axis_lags, step) in enumerate(zip(lags, stride, strict=True)):
        shape = [-1 if a == axis else 1 for a in range(correlation.ndim)]
        correlation = correlation * (axis_lags % step == 0).reshape(shape)
    whole = math.prod(stride) * _power(correlation, lags, waves)
    _require_passing(whole, frequencies, kernel)
    share = (1 - passed / whole).clamp(0, 1)
    return torch.round(share, decimals=12)


def _autocorrelation(kernel: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`r[l] = Σ_n ⟨h[n], h[n + l]⟩`, relative to the largest tap, and its lags along each axis."""
    taps = kernel.shape[2:]
    kernel = kernel.detach().cpu().double()
    pairs = (kernel / kernel.abs().max()).flatten(2).flatten(0, 1)
    few = math.prod(taps) <= len(pairs)  # then products of taps are cheaper than transforms
    correlation = _by_products(pairs, taps) if few else _by_transform(pairs, taps)
    return correlation, [torch.arange(1 - n, n, dtype=torch.float64) for n in taps]


def _by_products(pairs: Tensor, taps: Sequence[int]) -> Tensor:
    size = [2 * n - 1 for n in taps]
    place = torch.zeros(1, dtype=torch.long)
    for n, width in zip(taps, size, strict=True):
        place = (place[:, None] * width + torch.arange(n)).flatten()
    # places differ as taps do, up to the place of lag 0 in the middle
    lag = place - place[:, None] + math.prod(size) // 2
    products = pairs.T @ pairs
    correlation = products.new_zeros(math.prod(size))
    return correlation.index_add_(0, lag.flatten(), products.flatten()).reshape(size)


def _by_transform(pairs: Tensor, taps: Sequence[int]) -> Tensor:
    size, axes = [2 * n - 1 for n in taps], tuple(range(1, len(taps) + 1))
    spectrum = torch.fft.fftn(pairs.unflatten(1, tuple(taps)), s=size, dim=axes)
    correlation = torch.fft.ifftn(spectrum.abs().square().sum(dim=0)).real
    return torch.fft.fftshift(correlation)


def _power(correlation: Tensor, lags: Sequence[Tensor], waves: Tensor) -> Tensor:
    """`Σ_l r[l] exp(iω·l)`, one value per row of `waves`."""
    power = correlation.to(torch.complex128).unsqueeze(0)
    for axis_lags, wave in zip(lags, waves.unbind(1), strict=True):
        turn = torch.exp(1j * wave.unsqueeze(1) * axis_lags)
        # (points or 1, lags of this axis, others) → (points, others)
        power = (turn.reshape(*turn.shape, *[1] * (power.ndim - 2)) * power).sum(dim=1)
    return power.real


def _require_frequencies(frequencies: Tensor, stride: Sequence[int]) -> None:
    if frequencies.ndim != 2 or frequencies.shape[1] != len(stride):
        raise ValueError(
            f"frequencies of shape {tuple(frequencies.shape)} must be (points, {len(stride)}), "
            "one column per axis; reshape them"
        )
    if not frequencies.isfinite().all():
        raise ValueError("frequencies must be finite, since no wave has another; drop NaN")


def _require_passing(power: Tensor, frequencies: Tensor, kernel: Tensor) -> None:
    taps = kernel.detach().cpu().double()
    largest = float((taps / taps.abs().max()).abs().sum(dim=tuple(range(2, taps.ndim))).max())
    silent = power <= _SILENT * largest**2
    if silent.any():
        where = [round(w, 6) for w in frequencies[int(silent.nonzero()[0, 0])].tolist()]
        raise ValueError(
            f"frequency {where} does not pass this kernel, so its replicas have no share; "
            "leave it out"
        )
