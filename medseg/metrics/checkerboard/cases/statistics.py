"""From numbers per case to claims: the case is the unit, never the voxel.

Neighbouring voxels repeat each other, and stripes of a scene may happen to have the period of the
grid; what separates the weights from both is that they print the same phase in every case.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

from medseg.metrics.checkerboard.cases.phase_moments import ONE, RESIDUAL, SMOOTH, PhaseMoments
from medseg.metrics.checkerboard.cases.seasonal import is_regular, partial_r_squared

LEAST_CASES = 8
_TABLES_AT_ONCE = 2**20
_BANDS = ((0.005, "clean"), (0.02, "detectable"), (0.10, "visible"))


@dataclass(frozen=True)
class PhaseLock:
    """Partial R² of lines per phase, pooled over cases, and how often chance gives as much."""

    r_squared_partial: float
    p_value: float
    cases: int


def phase_lock_test(
    cases: Sequence[PhaseMoments], permutations: int = 999, seed: int = 0
) -> PhaseLock:
    """`p = (1 + #{R²_π ≥ R²}) / (1 + M)` over M random cyclic shifts of the phases of each case.

    H0: no phase is locked to the grid, so every case might as well have begun at another phase.
    Exact, but for borders, where that holds: whatever the texture, stripes of period s with random
    phase included. A grid that the images themselves bring along is locked as well: test the
    input, too. Cases weigh the same, whatever their size; unchanged by `z → a z`, a > 0.

    Args:
        cases: Moments of each case, of one period; those that do not vary are left out.
        permutations: M; the smallest p is `1 / (1 + M)`.
        seed: Of the shifts.

    Raises:
        ValueError: fewer than 8 cases that vary, different periods, or no permutation.

    Reference: Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39 (p is never 0).
    """
    varying = [case for case in cases if is_regular(case)]
    _check_cases(len(varying), f"of {len(cases)} with logits that vary")
    if len(periods := {case.period for case in varying}) > 1:
        raise ValueError(f"periods {sorted(periods)}: cases of one test share one; test each alone")
    if permutations < 1:
        raise ValueError(f"{permutations} permutations: p needs at least 1; 999 is usual")
    tables = torch.stack([_equally_weighted(case.gram).cpu() for case in varying])
    shifted = _shifted_phases(varying[0].period)
    observed = partial_r_squared(tables.sum(dim=0))
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(len(shifted), (permutations, len(tables)), generator=generator)
    at_once = max(1, _TABLES_AT_ONCE // tables[..., 0, 0].numel())
    chance = torch.cat([_statistic(tables, shifted[part]) for part in shifts.split(at_once)])
    # a shift common to all cases gives the same R², but for rounding
    as_large = int((chance >= observed - 1e-12).sum())
    return PhaseLock(float(observed), (1 + as_large) / (1 + permutations), len(varying))


def confidence_interval(
    values: Sequence[float], level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean over cases.

    Args:
        values: One number per case.
        level: Coverage, between 0 and 1.
        resamples: Draws of as many cases, with replacement.
        seed: Of the draws.

    Raises:
        ValueError: fewer than 8 cases, or values that are not finite.

    Reference: Efron 1987, J. Am. Stat. Assoc. 82:171.

    >>> confidence_interval([2.0] * 8)
    (2.0, 2.0)
    """
    sample = np.asarray(values, dtype=float)
    _check_cases(len(sample), "for an interval")
    if not np.isfinite(sample).all():
        raise ValueError("a value is not finite: a mean needs numbers; leave its case out")
    least, spread = sample.min(), np.ptp(sample)
    if spread == 0:
        return float(least), float(least)
    found = stats.bootstrap(
        ((sample - least) / spread,),  # third powers of tiny numbers are 0
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(least + spread * found.low), float(least + spread * found.high)


def holm(p_values: Sequence[float]) -> list[float]:
    """`max_{j ≤ i} min(1, (m − j + 1) p_(j))`: p-values corrected for m tests, in their own order.

    Holds the chance of any false claim, whatever the dependence between the tests.

    Raises:
        ValueError: a value that is no probability.

    Reference: Holm 1979, Scand. J. Stat. 6:65.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    ordered = np.asarray(p_values, dtype=float)
    if not ((ordered >= 0) & (ordered <= 1)).all():
        raise ValueError(f"{list(p_values)}: p-values lie in [0, 1]; correct them before")
    order = np.argsort(ordered, kind="stable")
    steps = np.minimum(1, ordered[order] * np.arange(len(ordered), 0, -1))
    corrected = np.empty_like(ordered)
    corrected[order] = np.maximum.accumulate(steps)
    return corrected.tolist()


def band(kappa: float) -> str:
    """κ in words: clean < 0.5 %, detectable < 2 %, visible < 10 %, else severe.

    Conventions for the gain and for the constant response, in parts of the logits' own spread.

    Raises:
        ValueError: no number, or a negative one.

    >>> band(0.004), band(0.005), band(0.05), band(0.1)
    ('clean', 'detectable', 'visible', 'severe')
    """
    if math.isnan(kappa) or kappa < 0:
        raise ValueError(f"κ = {kappa}: a size is a number from 0 on; report it as undefined")
    return next((word for limit, word in _BANDS if kappa < limit), "severe")


def _check_cases(count: int, what: str) -> None:
    if count < LEAST_CASES:
        raise ValueError(
            f"{count} cases {what}: the case is the unit, so at least {LEAST_CASES} are needed; "
            "add cases, or report the effect without a test"
        )


def _equally_weighted(
    gram: Float[Tensor, "phases terms terms"],
) -> Float[Tensor, "phases 3 3"]:
    """Moments of a case as if it had one voxel and a residual of unit energy."""
    used = gram[:, : SMOOTH + 1, : SMOOTH + 1]
    total = used.sum(dim=0)
    scale = torch.ones(SMOOTH + 1, dtype=gram.dtype, device=gram.device)
    scale[RESIDUAL:] = (total[ONE, ONE] / total[RESIDUAL, RESIDUAL]).sqrt()
    return used * scale[:, None] * scale / total[ONE, ONE]


def _shifted_phases(period: tuple[int, ...]) -> Int[Tensor, "shifts phases"]:
    """Row δ: the phase φ + δ for every φ, as places in row-major order."""
    steps = torch.tensor(period)
    places = torch.arange(math.prod(period))
    coordinates = torch.stack(torch.unravel_index(places, period), dim=-1)
    moved = (coordinates[:, None] + coordinates) % steps
    rank = torch.tensor([math.prod(period[axis + 1 :]) for axis in range(len(period))])
    return (moved * rank).sum(dim=-1)


def _statistic(
    tables: Float[Tensor, "cases phases 3 3"], phases: Int[Tensor, "permutations cases phases"]
) -> Float[Tensor, " permutations"]:
    cases = torch.arange(len(tables))[None, :, None]
    return partial_r_squared(tables[cases, phases].sum(dim=1))
