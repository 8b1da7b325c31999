"""How unequally phases share energy: of a constant, of noise, of taps."""

import math
from collections.abc import Sequence
from itertools import product

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.phases import (
    phase_sums,
    require_energy,
    require_finite,
    require_kernel,
    require_phases,
)

_DIGITS = 12
_ROUNDING = 1e-6  # relative gain below which weights in single precision cancel


def phase_imbalance(values: Float[Tensor, " phases *rest"]) -> float:
    """`A(g) = Σ_φ ‖g_φ − ḡ‖² / Σ_φ ‖g_φ‖²`: the share of energy off the mean phase, in [0, 1].

    By Parseval it is the share of the frequencies `2πk/s`, k ≠ 0, of the sampling grid. At most
    `1 − 1/P` for values of one sign, which one live phase attains; the coefficient of variation is
    `√(A / (1 − A))`. Independent of scale, the order of phases and rotations of what a phase has.

    Raises:
        ValueError: one phase, nothing but zeros, or a value that is not finite.

    Reference: Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9 (the condition that it is 0).

    >>> phase_imbalance(torch.tensor([2.0, 1.0])), phase_imbalance(torch.tensor([1.0, 0, 0, 0]))
    (0.1, 0.75)
    """
    _require_values(values)
    require_energy(values, "values of phases")
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

    Raises:
        ValueError: one phase, or a value that is not finite.

    Reference: Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9 (the condition that it is 0).

    >>> gains = torch.tensor([[[1.0], [0.0]], [[2.0], [1.0]]])  # 2 phases, 2 inputs, 1 output
    >>> dc_gain_imbalance(torch.tensor([1.0, 2.0]))
    0.1
    >>> dc_gain_imbalance(gains, torch.outer(torch.tensor([1.0, -1]), torch.tensor([1.0, -1])))
    0.0
    """
    _require_values(gains)
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

    Raises:
        ValueError: one phase, or a value that is not finite.

    >>> worst_dc_gain_imbalance(torch.tensor([[[1.0], [1.0]], [[1.0], [-1.0]]]))
    1.0
    """
    _require_values(gains)
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


def _require_values(values: Tensor) -> None:
    require_phases(len(values) if values.ndim else 1)
    require_finite(values, "values of phases")


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

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    >>> import torch
    >>> kernel_gains(torch.tensor([[[1.0, 5.0, 2.0]]]), (2,)).flatten().tolist()
    [3.0, 5.0]
    """
    require_kernel(kernel, stride)
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

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    Reference: Gallagher 2005, "Detection of Linear and Cubic Interpolation in JPEG Compressed
    Images" (variance that is periodic after interpolation).

    >>> import torch
    >>> noise_gain_imbalance(torch.tensor([[[0.5, 1.0, 0.5]]]), (2,))
    0.1
    """
    require_kernel(kernel, stride)
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

    Raises:
        ValueError: stride 1 on all axes.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts".

    >>> overlap_imbalance((3, 3), (2, 2)), overlap_imbalance((4,), (2,))
    (0.19, 0.0)
    """
    return phase_imbalance(tap_counts(kernel, stride, dilation))
