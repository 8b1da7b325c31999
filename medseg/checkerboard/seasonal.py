"""Seasonal fits of the logits of real cases: a pattern, a gain, a staircase.

A map of known period s is a seasonal series. Its residual `e = z − T_s z` is explained by the
phase φ of a voxel: `e = α_φ + β_φ (T_s z − mean) + Σ_a γ_φ,a ∂_a T_s z`. All measures are functions
of `PhaseMoments`; None stands for a map that does not vary or has too few voxels per phase.
Whether a share is more than texture is tested by `cohort.phase_lock_test`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.boundaries import mean_of
from medseg.checkerboard.moments import ONE, RESIDUAL, SMOOTH, PhaseMoments, coarser

_VOXELS_PER_PHASE = 8
# of the mean square: a smaller variance may be the rounding of single precision
_RESOLUTION = 1e-13


@dataclass(frozen=True, eq=False)
class Additive:
    """The share of the residual that one fixed pattern explains, and that pattern."""

    eta_squared: float
    epsilon_squared: float
    kappa: float
    pattern: Float[Tensor, "*period"]
    spread: float


@dataclass(frozen=True, eq=False)
class Gain:
    """How unequally the phases amplify, and the slope of each phase's own line."""

    kappa: float
    r_squared_partial: float
    beta: Float[Tensor, "*period"]


class CaseMaps:
    """Maps of one case: the logits of its classes, the channels of its input, or its truth.

    Args:
        moments: Sums over the windows of the case, for each map.
        levels: Periods of the network's stages, finest first; the last is the moments' own.
    """

    def __init__(self, moments: Sequence[PhaseMoments], levels: Sequence[Sequence[int]]):
        self.moments = moments
        self.levels = levels

    @cached_property
    def gains(self) -> list[Gain]:
        """Gain of each map that has one."""
        return [fit for each in self.moments if (fit := gain(each)) is not None]

    @cached_property
    def patterns(self) -> list[Additive]:
        """Fixed pattern of each map that has one."""
        return [fit for each in self.moments if (fit := additive(each)) is not None]

    @cached_property
    def lags(self) -> list[Tensor]:
        """How late each phase is on slopes, of each map that has them."""
        return [late for each in self.moments if (late := lags(each)) is not None]

    def stacked(self, patterns: Sequence[Tensor]) -> Tensor | None:
        """Patterns of all maps, or None if a map has none."""
        return torch.stack(list(patterns)) if 0 < len(patterns) == len(self.moments) else None

    def eta_squared_by_level(self) -> list[float | None]:
        """Mean share of the residual for each level of the decoder, finest first."""
        found = [eta_squared_by_level(each, self.levels) for each in self.moments]
        known = [shares for shares in found if shares is not None]
        return [mean_of(s[level] for s in known) for level in range(len(self.levels))]


def additive(moments: PhaseMoments) -> Additive | None:
    """`η² = SS_phase(e) / SS(e)` and `κ = RMS_φ(mean_φ e − mean e) / std z`.

    η² is the residual's energy on grid frequencies, `r² / (1 + r²)` for a pattern of r times
    the residual's RMS. `ε² = (SS_phase − (P − 1) MS_within) / SS(e)` takes off what independent
    voxels would show by chance; neighbouring ones show more, so neither is a test. Blind to a
    pattern that changes sign with the map: that is a `gain`. Unchanged by `z → a z + b`.

    Returns:
        The shares, κ, the pattern and the spread of z in its units; 0 where the map has no
        residual, None where it is flat or a phase has fewer than 8 voxels.

    Reference: Kelley 1935, PNAS 21:554 (ε²).

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(100)
    >>> found = additive(phase_moments(n + 0.5 * (n % 2), [2]))
    >>> [round(v, 9) for v in found.pattern.tolist()], round(found.eta_squared, 9)
    ([-0.25, 0.25], 1.0)
    """
    if not _is_usable(moments):
        return None
    gram, total = moments.gram, moments.gram.sum(dim=0)
    means = gram[:, ONE, RESIDUAL] / gram[:, ONE, ONE]
    pattern = means - means.mean()
    voxels, energy = total[ONE, ONE], _centred(total)[0, 0]
    between = _between(gram)
    within = (energy - between).clamp(min=0) / (voxels - len(gram))
    shares = torch.stack([between, between - (len(gram) - 1) * within]) / energy
    eta, epsilon = shares.tolist() if _has_residual(total) else (0.0, 0.0)
    spread = (_variance(total) / voxels).sqrt()
    kappa = pattern.square().mean().sqrt() / spread
    return Additive(eta, epsilon, float(kappa), pattern.reshape(moments.period), float(spread))


def eta_squared_by_level(
    moments: PhaseMoments, periods: Sequence[Sequence[int]]
) -> tuple[float, ...] | None:
    """`SS(mod 2), SS(mod 4 | mod 2), …` over SS(e): what each decoder level adds to η².

    A pattern of period 4 that does not repeat every 2 voxels cannot come from the last upsampling
    of stride 2, so the second share belongs to the last but one. The shares sum to η².

    Args:
        moments: At the longest period.
        periods: From the finest level on; each divides the next, the last is the moments' own.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> both = torch.tensor([1, -1, 1, -1]) + torch.tensor([1, 1, -1, -1])
    >>> shares = eta_squared_by_level(phase_moments(both.repeat(18)[:70], [4]), [[2], [4]])
    >>> [round(share, 9) for share in shares]
    [0.5, 0.5]
    """
    if not _is_usable(moments):
        return None
    total = moments.gram.sum(dim=0)
    if not _has_residual(total):
        return (0.0,) * len(periods)
    sums = [_between(coarser(moments, period).gram) for period in periods]
    shares = torch.stack(sums) / _centred(total)[0, 0]
    return tuple(torch.diff(shares, prepend=shares.new_zeros(1)).tolist())


def gain(moments: PhaseMoments) -> Gain | None:
    """`κ = RMS_φ(β_φ − mean β)` of the lines `e = α_φ + β_φ (T_s z − mean)`.

    For an upsampling with phase gains g, κ is their coefficient of variation, `√(A / (1 − A))` of
    its DC-gain imbalance A: all-ones taps 3 at stride 2 give 1/3, 0.4843, 0.6097 in 1-D to 3-D,
    a bed of nails √(P − 1). `R² = (RSS_common − RSS_phase) / SS(e)` is what lines per phase explain
    beyond one line for all. Unchanged by `z → a z + b`.

    Returns:
        κ, partial R², and β less its mean in phase order; None where the map or its smooth part is
        flat or a phase has fewer than 8 voxels.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(100)
    >>> found = gain(phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2]))
    >>> round(found.kappa, 6), [round(b, 6) for b in found.beta.tolist()]
    (0.1, [0.1, -0.1])
    """
    gram = moments.gram
    if not (_is_usable(moments) and _smooth_varies(gram)):
        return None
    centred = _centred(gram)
    beta = centred[:, 0, 1] / centred[:, 1, 1]
    beta = beta - beta.mean()
    kappa = beta.square().mean().sqrt()
    r_squared = float(partial_r_squared(gram)) if _has_residual(gram.sum(dim=0)) else 0.0
    return Gain(float(kappa), r_squared, beta.reshape(moments.period))


def partial_r_squared(
    gram: Float[Tensor, "*sets phases terms terms"],
) -> Float[Tensor, "*sets"]:
    """`(RSS_common − RSS_phase) / SS(e)` of sets of moments; the smooth part has to vary.

    >>> e, smooth = torch.tensor([[1.0, 1, -1, -1], [1, -1, 1, -1]])  # phase 0, then phase 1
    >>> terms = torch.stack([torch.ones(4), e, smooth]).reshape(3, 2, 2)
    >>> float(partial_r_squared(torch.einsum("ipn,jpn->pij", terms, terms)))
    1.0
    """
    total = _centred(gram.sum(dim=-3))
    return (_unexplained(total) - _unexplained(_centred(gram)).sum(dim=-1)) / total[..., 0, 0]


def lags(moments: PhaseMoments) -> Float[Tensor, "axes phases"] | None:
    """`γ_φ,a − mean γ_a`: voxels that a phase is late on a slope along each strided axis a.

    Its RMS over phases, `staircase`, is `√((s² − 1) / 12)` for nearest-neighbour upsampling, 0 for
    linear. It names blocks that are no checkerboard: a constant stays a constant. Unchanged by
    `z → a z + b`.

    Returns:
        None where the map is flat, where level and slopes cannot be told apart, where the moments
        have no slopes, or where a phase has fewer than 8 voxels.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> nearest = (torch.arange(50) ** 2).repeat_interleave(2)
    >>> [round(abs(late), 6) for late in lags(phase_moments(nearest, [2]))[0].tolist()]
    [0.5, 0.5]
    """
    knows_slopes = moments.gram.shape[-1] > SMOOTH + 1
    if not (knows_slopes and _is_usable(moments) and _smooth_varies(moments.gram)):
        return None
    centred = _centred(moments.gram)
    cross, design = centred[:, 0, 1:], centred[:, 1:, 1:]
    scale = design.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    floor = scale[:, :1] * 1e-6
    if bool((scale[:, 1:] <= floor).any()):
        return None
    correlation = design / (scale[:, :, None] * scale[:, None, :])
    if float(torch.linalg.eigvalsh(correlation).min()) < 1e-9:
        return None
    slopes = torch.linalg.solve(correlation, cross / scale) / scale
    return (slopes - slopes.mean(dim=0))[:, 1:].T


def staircase(late: Float[Tensor, "axes phases"]) -> float:
    """RMS of `lags` over phases, of the axis where it is largest."""
    return float(late.square().mean(dim=1).max().sqrt())


def is_regular(moments: PhaseMoments) -> bool:
    """Whether there is anything to explain: enough voxels, and residual and smooth part vary.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> is_regular(phase_moments(torch.arange(40.0) ** 2, [2]))  # e is constant
    False
    """
    return (
        _is_usable(moments)
        and _has_residual(moments.gram.sum(dim=0))
        and _smooth_varies(moments.gram)
    )


def _is_usable(moments: PhaseMoments) -> bool:
    total = moments.gram.sum(dim=0)
    enough = moments.gram[:, ONE, ONE].min() >= _VOXELS_PER_PHASE
    return bool(enough) and bool(_variance(total) > _RESOLUTION * _square(total))


def _has_residual(total: Tensor) -> bool:
    return bool(_centred(total)[0, 0] > _RESOLUTION * _square(total))


def _smooth_varies(gram: Tensor) -> bool:
    """In each phase, by more than the rounding of its own level and of the map."""
    rounding = _RESOLUTION * (gram[:, SMOOTH, SMOOTH] + _square(gram.sum(dim=0)))
    return bool((_centred(gram)[:, 1, 1] > rounding).all())


def _square(total: Tensor) -> Tensor:
    """`Σ z²`, z being the sum of residual and smooth part."""
    return total[RESIDUAL : SMOOTH + 1, RESIDUAL : SMOOTH + 1].sum()


def _variance(total: Tensor) -> Tensor:
    return _centred(total)[:2, :2].sum()


def _centred(gram: Tensor) -> Tensor:
    """Second moments about the mean, of all terms but the count."""
    sums, count = gram[..., ONE, 1:], gram[..., ONE, ONE]
    return gram[..., 1:, 1:] - sums[..., :, None] * sums[..., None, :] / count[..., None, None]


def _unexplained(centred: Tensor) -> Tensor:
    """Squares that are left by the line of e on the smooth part."""
    return centred[..., 0, 0] - centred[..., 0, 1].square() / centred[..., 1, 1]


def _between(gram: Tensor) -> Tensor:
    """Squares of the phase means of e about their common mean, weighted by voxels."""
    sums, counts = gram[:, ONE, RESIDUAL], gram[:, ONE, ONE]
    deviation = sums / counts - sums.sum() / counts.sum()
    return (counts * deviation.square()).sum()
