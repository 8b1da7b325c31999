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

from medseg.checkerboard.cases.phase_moments import ONE, RESIDUAL, SMOOTH, PhaseMoments
from medseg.checkerboard.cases.seasonal import is_regular, partial_r_squared

LEAST_CASES = 8
_TABLES_AT_ONCE = 2**16
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

    >>> from medseg.checkerboard.cases.phase_moments import phase_moments
    >>> n = torch.arange(400)
    >>> case = phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])
    >>> lock = phase_lock_test([case] * 20)
    >>> round(lock.r_squared_partial, 3), lock.p_value
    (1.0, 0.001)
    """
    varying = [case for case in cases if is_regular(case)]
    _check_cases(len(varying), f"of {len(cases)} with logits that vary")
    if len(periods := {case.period for case in varying}) > 1:
        raise ValueError(f"periods {sorted(periods)}: cases of one test share one; test each alone")
    (period,) = periods
    if permutations < 1:
        raise ValueError(f"{permutations} permutations: p needs at least 1; 999 is usual")
    tables = torch.stack([_equally_weighted(case.gram).cpu() for case in varying])
    observed = partial_r_squared(tables.sum(dim=0))
    shifted, phases = _every_shift(tables, period), math.prod(period)
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(phases, (permutations, len(tables)), generator=generator)
    parts = shifts.split(max(1, _TABLES_AT_ONCE // phases))
    chance = torch.cat([partial_r_squared(_pooled(shifted, part, period)) for part in parts])
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


def hierarchical_interval(
    values: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 9999, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds and cases, `w_seedsᵀ V w_cases`.

    Draws seeds, then cases, both with replacement; the drawn cases are the same for all drawn
    seeds, since every seed was measured on the same cases. Percentiles, because the correction of
    `confidence_interval` needs an acceleration, and a jackknife over 2 to 5 seeds yields none.
    Differences to a reference arm on the same seeds and cases go in the same way.

    Covers about as often as promised (0.92 to 0.96 for 0.95 with 50 cases, 0.88 to 0.92 with 10)
    where seeds spread no more than the mean over cases; too long where neither seeds nor cases
    matter beyond noise; too short where seeds dominate, for what 2 or 3 of them span is less than
    the spread of all: 0.60, 0.78 and 0.86 for 2, 3 and 5 seeds that differ like 50 cases.

    Args:
        values: One row for each seed, one number for each case.
        level: Coverage, between 0 and 1.
        resamples: Draws.
        seed: Of the draws.

    Raises:
        ValueError: fewer than 2 seeds or 8 cases, rows of different length, values that are not
            finite, or a level that is no share.

    Reference: Owen 2007, Ann. Appl. Stat. 1:386 (the pigeonhole bootstrap of crossed factors).

    >>> hierarchical_interval([[2.0] * 8] * 3)
    (2.0, 2.0)
    >>> hierarchical_interval([[0.0] * 8, [1.0] * 8])  # one draw of four has the first seed twice
    (0.0, 1.0)
    """
    if len(values) < 2:
        raise ValueError(
            f"{len(values)} seed: its spread is unknown; train more, or use confidence_interval"
        )
    if len(lengths := {len(row) for row in values}) > 1:
        raise ValueError(
            f"seeds with {sorted(lengths)} cases: every seed has to be measured on the same cases; "
            "keep those that all share"
        )
    if not 0 < level < 1:
        raise ValueError(f"level {level}: coverage lies between 0 and 1; 0.95 is usual")
    sample = np.asarray(values, dtype=float)
    seeds, cases = sample.shape
    _check_cases(cases, "for an interval")
    if not np.isfinite(sample).all():
        raise ValueError("a value is not finite: a mean needs numbers; leave its case out")
    least, spread = float(sample.min()), float(np.ptp(sample))
    if spread == 0:
        return least, least
    random = np.random.default_rng(seed)
    seed_weights, case_weights = (
        random.multinomial(count, np.full(count, 1 / count), resamples) / count
        for count in (seeds, cases)
    )
    means = ((seed_weights @ ((sample - least) / spread)) * case_weights).sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(least + spread * low), float(least + spread * high)


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


def _every_shift(
    tables: Float[Tensor, "cases phases 3 3"], period: tuple[int, ...]
) -> Float[Tensor, "cases 3 3 *shifts_and_phases"]:
    """Entry δ, φ holds phase φ + δ; a view on tables that go round almost twice."""
    round_twice = tables.permute(0, 2, 3, 1).unflatten(-1, period)
    for axis, step in enumerate(period, start=3):
        again = round_twice.narrow(axis, 0, step - 1)
        round_twice = torch.cat([round_twice, again], dim=axis)
    for axis, step in enumerate(period, start=3):
        round_twice = round_twice.unfold(axis, step, 1)
    return round_twice


def _pooled(
    shifted: Float[Tensor, "cases 3 3 *shifts_and_phases"],
    shifts: Int[Tensor, "permutations cases"],
    period: tuple[int, ...],
) -> Float[Tensor, "permutations phases 3 3"]:
    """Sums over cases, each of them shifted."""
    total = shifted.new_zeros(3, 3, len(shifts), *period)
    for case, shift in zip(shifted, shifts.unbind(dim=1), strict=True):
        total += case[(slice(None), slice(None), *torch.unravel_index(shift, period))]
    return total.flatten(3).permute(2, 3, 0, 1)
