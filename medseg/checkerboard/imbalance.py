"""What a kernel does to phases: how unequally they share energy of a constant, of noise, of taps.

And which replicas of the spectrum it passes, and which polynomials it reproduces.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations_with_replacement, product

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from medseg.checkerboard.phases import phase_sums

_DIGITS = 12
_ROUNDING = 1e-6  # share below which differences of weights in single precision are none


def phase_imbalance(values: Float[Tensor, " phases *rest"]) -> float:
    """`A(g) = Σ_φ ‖g_φ − ḡ‖² / Σ_φ ‖g_φ‖²`: the share of energy off the mean phase, in [0, 1].

    By Parseval it is the share of the frequencies `2πk/s`, k ≠ 0, of the sampling grid. At most
    `1 − 1/P` for values of one sign, which one live phase attains; the coefficient of variation is
    `√(A / (1 − A))`. Independent of scale, the order of phases and rotations of what a phase has.

    Reference: Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9 (the condition that it is 0).

    >>> phase_imbalance(torch.tensor([2.0, 1.0])), phase_imbalance(torch.tensor([1.0, 0, 0, 0]))
    (0.1, 0.75)
    """
    return _share(_spread(_unit(values)), _energy(_unit(values)))


def dc_gain_imbalance(
    gains: Float[Tensor, " phases *channels"],
    moment: Float[Tensor, "inputs inputs"] | None = None,
) -> float:
    """`Σ_φ tr (G_φ − Ḡ)ᵀ M (G_φ − Ḡ) / Σ_φ tr G_φᵀ M G_φ`: DC energy off the mean phase, in [0, 1].

    0 iff all phases have equal gain, that is iff a constant stays a constant. Independent of
    scale, bias, the order of phases and rotations of the outputs. A learned kernel with
    independent zero-mean weights expects `1 − 1/P` at any size; all-ones taps 3 at stride 2 give
    0.19 in 2-D, 0.271 in 3-D.

    Args:
        gains: DC gain of each phase, from every input to every output channel.
        moment: `M`, second moments `E[x xᵀ]` of the inputs, for gains `(phases, inputs, outputs)`
            with the zeros between groups, as `kernel_gains` has them; `torch.outer(mu, mu)` for
            the pattern where the features are `mu`. None: the identity.

    Returns:
        The imbalance; 0 for a layer that passes no DC at all.

    Reference: Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9 (the condition that it is 0).

    >>> gains = torch.tensor([[[1.0], [0.0]], [[2.0], [1.0]]])  # 2 phases, 2 inputs, 1 output
    >>> dc_gain_imbalance(torch.tensor([1.0, 2.0]))
    0.1
    >>> dc_gain_imbalance(gains, torch.outer(torch.tensor([1.0, -1]), torch.tensor([1.0, -1])))
    0.0
    """
    gains = _unit(gains)
    if moment is None:
        return _share(_spread(gains), _energy(gains))
    root = _root(moment)
    seen = torch.einsum("ij,pjo->pio", root, gains)
    # what cancels up to rounding is no DC, and has no share
    passed = _energy(seen) > _ROUNDING**2 * _energy(root) * _energy(gains)
    return _share(_spread(seen), _energy(seen)) if passed else 0.0


def worst_dc_gain_imbalance(gains: Float[Tensor, "phases inputs outputs"]) -> float:
    """`max_M A(M)`: the DC-gain imbalance for the features that show it most, in [0, 1].

    The largest generalised eigenvalue of `Σ (G_φ − Ḡ)(G_φ − Ḡ)ᵀ` and `Σ G_φ G_φᵀ`. Independent
    of scale, the order of phases and any invertible mixing of the inputs. Never below
    `dc_gain_imbalance`, and equal to it for one input. Features that pass with less than 1e-6 of
    the largest gain do not count: their answer is rounding.

    Args:
        gains: DC gain of each phase, with the zeros between groups, as `kernel_gains` has them.

    Returns:
        The imbalance; 0 for a layer that passes no DC at all.

    >>> worst_dc_gain_imbalance(torch.tensor([[[1.0], [1.0]], [[1.0], [-1.0]]]))
    1.0
    """
    gains = _unit(gains)
    columns = gains.movedim(1, -1).flatten(0, 1)  # (phases · outputs, inputs)
    triangle = torch.linalg.qr(columns, mode="r").R
    _, sizes, features = torch.linalg.svd(triangle, full_matrices=False)
    heard = sizes > _ROUNDING * sizes[0]
    if not heard.any():
        return 0.0
    # each of these has energy 1; what the mean over phases leaves of it is not off the mean
    mean = gains.mean(dim=0).T @ (features[heard].T / sizes[heard])
    if mean.shape[0] < mean.shape[1]:
        return 1.0
    kept = len(gains) * float(torch.linalg.svdvals(mean)[-1]) ** 2
    return round(max(0.0, 1 - kept), _DIGITS)


def _root(moment: Tensor) -> Tensor:
    """`R` with `RᵀR = M`, up to the scale of M."""
    values, vectors = torch.linalg.eigh(_unit(moment))
    return values.clamp(min=0).sqrt().unsqueeze(1) * vectors.T


def _unit(values: Tensor) -> Tensor:
    """In double precision with the largest at 1, so that no square under- or overflows."""
    values = values.detach().cpu().double()
    return values / values.abs().max() if values.any() else values


def _energy(values: Tensor) -> float:
    return float(values.square().sum())


def _spread(values: Tensor) -> float:
    return _energy(values - values.mean(dim=0, keepdim=True))


def _share(part: float, whole: float) -> float:
    return round(part / whole, _DIGITS) if whole > 0 else 0.0


def kernel_gains(
    kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]
) -> Float[Tensor, "phases inputs outputs"]:
    """`G_φ = Σ_{n ≡ φ mod s} h[n]`: DC gain of each phase, in array order.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.

    >>> import torch
    >>> kernel_gains(torch.tensor([[[1.0, 5.0, 2.0]]]), (2,)).flatten().tolist()
    [3.0, 5.0]
    """
    return phase_sums(kernel.detach().cpu().double(), stride)


def noise_gain_imbalance(
    kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]
) -> float:
    """`A(e)`, `e_φ = Σ_{n ≡ φ mod s} ‖h[n]‖²`: how unevenly phases pass white noise, in [0, 1].

    Its variance, and so what looks sharp, is then locked to the grid though constants may stay
    constants: `[½, 1, ½]` at stride 2 gives 0.1. At most `1 − 1/P`. Independent of scale, bias,
    the order of phases and rotations of inputs and outputs; 0 for nearest neighbours.
    Independent zero-mean weights give `overlap_imbalance` in the limit of many channels.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.

    Reference: Gallagher 2005, "Detection of Linear and Cubic Interpolation in JPEG Compressed
    Images" (variance that is periodic after interpolation).

    >>> import torch
    >>> noise_gain_imbalance(torch.tensor([[[0.5, 1.0, 0.5]]]), (2,))
    0.1
    """
    kernel = kernel.detach().cpu().double()
    energies = (kernel / kernel.abs().max()).square().sum(dim=(0, 1))
    return phase_imbalance(phase_sums(energies, stride))


def overlap_counts(kernel: int, stride: int, dilation: int = 1) -> tuple[int, ...]:
    """Taps of a transposed convolution that meet on each phase of its output, along one axis.

    >>> overlap_counts(3, 2), overlap_counts(4, 2), overlap_counts(1, 2)
    ((2, 1), (2, 2), (1, 0))
    """
    phases = [tap * dilation % stride for tap in range(kernel)]
    return tuple(phases.count(phase) for phase in range(stride))


def tap_counts(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None
) -> Float[Tensor, " phases"]:
    """`n_φ = Π_axes #{t < k : t·d ≡ φ mod s}`: taps that meet on each phase, in array order.

    Args:
        kernel: Taps per axis.
        stride: Stride per axis.
        dilation: Distance of taps per axis; None: 1.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> tap_counts((3, 3), (2, 2)).tolist()
    [4.0, 2.0, 2.0, 1.0]
    """
    dilation = (1,) * len(kernel) if dilation is None else dilation
    along = [overlap_counts(*axis) for axis in zip(kernel, stride, dilation, strict=True)]
    return torch.tensor([math.prod(counts) for counts in product(*along)], dtype=torch.float64)


def overlap_imbalance(
    kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int] | None = None
) -> float:
    """`A(n) = 1 − Π_axes (1 − A(n_axis))` of the tap counts: 0 iff the overlap is even.

    With `k = qs + r` and d coprime to s, an axis has `A = (r(s − r)/s) / (r(q + 1)² + (s − r)q²)`.
    A random kernel expects this as its noise-gain imbalance; a learned one may still be uneven
    where the overlap is even.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> overlap_imbalance((3, 3), (2, 2)), overlap_imbalance((4,), (2,))
    (0.19, 0.0)
    """
    return phase_imbalance(tap_counts(kernel, stride, dilation))


def imaging_leakage(kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]) -> float:
    """`1 − ∫ ‖H(ω/s)‖² dω / ∫ Σ_k ‖H((ω + 2πk)/s)‖² dω`: energy in replicas of white noise.

    The integrals run over the band `[−π, π]^d` of the input, so that the first has the closed
    form `Σ_l r[l] Π sinc(l/s)` with the autocorrelation r of the taps. In [0, 1]; 0 only for the
    ideal low-pass, which has no finite kernel. Independent of scale, bias, the order of phases
    and rotations of inputs and outputs. Nearest neighbours at stride 2: `(1 − 2/π)/2` in 1-D.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.

    Reference: Pons et al. 2021, "Upsampling Artifacts in Neural Audio Synthesis" (spectral
    replicas); Vaidyanathan 1993, "Multirate Systems and Filter Banks".

    >>> imaging_leakage(torch.ones(1, 1, 1), (2,))  # a bed of nails
    0.5
    """
    correlation, lags = _autocorrelation(kernel)
    passed = correlation
    for axis_lags, step in zip(reversed(lags), reversed(tuple(stride)), strict=True):
        passed = passed @ torch.sinc(axis_lags / step)
    whole = math.prod(stride) * correlation[tuple(len(at) // 2 for at in lags)]
    return round(float(1 - passed / whole), 12)


def _autocorrelation(kernel: Tensor) -> tuple[Tensor, list[Tensor]]:
    """`r[l] = Σ_n ⟨h[n], h[n + l]⟩`, relative to the largest tap, and its lags along each axis."""
    taps = kernel.shape[2:]
    size = [2 * n - 1 for n in taps]
    kernel = kernel.detach().cpu().double()
    pairs = (kernel / kernel.abs().max()).flatten(2).flatten(0, 1)
    place = torch.zeros(1, dtype=torch.long)
    for n, width in zip(taps, size, strict=True):
        place = (place[:, None] * width + torch.arange(n)).flatten()
    # places differ as taps do, up to the place of lag 0 in the middle
    lag = place - place[:, None] + math.prod(size) // 2
    products = pairs.T @ pairs
    correlation = products.new_zeros(math.prod(size))
    correlation.index_add_(0, lag.flatten(), products.flatten())
    lags = [torch.arange(1 - n, n, dtype=torch.float64) for n in taps]
    return correlation.reshape(size), lags


def sum_rule_order(kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]) -> int:
    """Largest L with `Σ_{n ≡ φ mod s} n^α h[n]` equal over all phases for all `|α| < L`.

    That is the multiplicity of the zero of H at every grid frequency `2πk/s`, k ≠ 0, and
    polynomials of degree below L come out without a pattern. 0: a constant becomes a
    checkerboard; 1: a ramp becomes a staircase. Independent of scale, bias, shifts, the order of
    phases and invertible mixing of channels. Nearest neighbours 1, `[½, 1, ½]` 2, linear
    interpolation between voxel centres at stride 2 has 3.

    Args:
        kernel: Taps on the output grid, such as of `UpsamplingLayer.kernel`.
        stride: Stride per axis.

    Reference: Strang & Nguyen 1996, "Wavelets and Filter Banks" (sum rules).

    >>> kernels = [[1.0], [1.0, 1.0], [0.5, 1.0, 0.5], [0.25, 0.75, 0.75, 0.25]]
    >>> [sum_rule_order(torch.tensor([[taps]]), (2,)) for taps in kernels]
    [0, 1, 2, 3]
    """
    kernel = kernel.detach().cpu().double()
    pairs = (kernel / kernel.abs().max()).flatten(2).flatten(0, 1)  # (pairs of channels, taps)
    # H is a polynomial, whose zeros have no multiplicity above its degree
    degrees = range(sum(kernel.shape[2:]))
    phases = _phases(kernel.shape[2:], stride)
    flat = (_is_flat(pairs, phases, _monomials(kernel.shape[2:], n)) for n in degrees)
    return next((degree for degree, is_flat in enumerate(flat) if not is_flat), len(degrees))


def _is_flat(pairs: Tensor, phases: Tensor, monomials: Iterator[Tensor]) -> bool:
    """Whether all moments of that degree agree over the phases."""
    for monomial in monomials:
        weighting = phases * monomial.flatten()
        moments = pairs @ weighting.T
        size = (pairs.abs() @ weighting.abs().T).max()
        if (moments - moments.mean(dim=1, keepdim=True)).abs().max() > _ROUNDING * size:
            return False
    return True


def _phases(taps: Sequence[int], stride: Sequence[int]) -> Tensor:
    """`(phases, taps)`: 1 where a tap is on that phase."""
    phase = torch.zeros(1, dtype=torch.long)
    for n, step in zip(taps, stride, strict=True):
        phase = (phase[:, None] * step + torch.arange(n) % step).flatten()
    return functional.one_hot(phase, math.prod(stride)).T.double()


def _monomials(taps: Sequence[int], degree: int) -> Iterator[Tensor]:
    """All products of `degree` coordinates, which count from the middle for accuracy."""
    axes = [(torch.arange(n, dtype=torch.float64) - (n - 1) / 2) / max(1, n - 1) for n in taps]
    grid = torch.meshgrid(*axes, indexing="ij")
    for factors in combinations_with_replacement(grid, degree):
        yield math.prod(factors, start=torch.ones(tuple(taps), dtype=torch.float64))
