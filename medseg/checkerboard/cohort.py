"""From cases to claims: the case is the unit, never the voxel.

Neighbouring voxels repeat each other, and texture may happen to have the period of the grid; what
separates the weights from both is that they leave the same phase pattern in every case.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from medseg.checkerboard.moments import ONE, RESIDUAL, SMOOTH, PhaseMoments
from medseg.checkerboard.seasonal import gain, is_regular, partial_r_squared
from medseg.record import Estimate, PhaseLocked, PhaseMap
from medseg.statistics import bca, holm

_RESAMPLES = 9999
LEAST_CASES = 8
_TABLES_AT_ONCE = 2**16


def phase_lock_test(
    cases: Sequence[PhaseMoments], permutations: int = 999, seed: int = 0
) -> PhaseLocked:
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

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(400)
    >>> case = phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])
    >>> lock = phase_lock_test([case] * 20)
    >>> round(lock.r_squared, 3), lock.p_value
    (1.0, 0.001)
    """
    varying = [case for case in cases if is_regular(case)]
    if len(varying) < LEAST_CASES:
        raise ValueError(
            f"{len(varying)} cases of {len(cases)} with logits that vary: the case is the unit, so "
            f"at least {LEAST_CASES} are needed; add cases, or report the effect without a test"
        )
    if len(periods := {case.period for case in varying}) > 1:
        raise ValueError(f"periods {sorted(periods)}: cases of one test share one; test each alone")
    (period,) = periods
    if permutations < 1:
        raise ValueError(f"{permutations} permutations: p needs at least 1; 999 is usual")
    tables = torch.stack([_equally_weighted(case.gram).cpu() for case in varying])
    observed = partial_r_squared(tables.sum(dim=0))
    after, phases = _after_every_shift(period), math.prod(period)
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(phases, (permutations, len(tables)), generator=generator)
    chance = []
    for some in shifts.split(max(1, _TABLES_AT_ONCE // phases)):
        pooled = sum(table[after[own]] for table, own in zip(tables, some.T, strict=True))
        chance.append(partial_r_squared(torch.as_tensor(pooled)))
    # a shift common to all cases gives the same R², but for rounding
    as_large = int((torch.cat(chance) >= observed - 1e-12).sum())
    p_value = (1 + as_large) / (1 + permutations)
    return PhaseLocked(cases=len(varying), p_value=p_value, r_squared=float(observed))


def coherence(patterns: Float[Tensor, " cases *period"]) -> float | None:
    """`C = ‖Σᵢ pᵢ‖² / (n Σᵢ ‖pᵢ‖²)` in [0, 1], each pattern less its own mean.

    1 iff all patterns are the same; `1/n` on average for patterns of independent random phase.
    Unchanged by one scale, one shift of phases and by a constant on any of the patterns.

    Args:
        patterns: Phase pattern of each case: of a residual, or `alpha` or `beta` of its gains.

    Returns:
        The coherence; None if no pattern varies.

    Raises:
        ValueError: fewer than two cases, or values that are not finite.

    >>> coherence(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    1.0
    >>> coherence(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    0.0
    """
    if len(patterns) < 2:
        raise ValueError(f"{len(patterns)} case: agreement needs at least two; add cases")
    if not bool(torch.isfinite(patterns).all()):
        raise ValueError("a pattern is not finite: agreement needs numbers; leave its case out")
    flat = patterns.double().flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    energy = centred.square().sum()
    if energy <= 1e-24 * flat.square().sum():
        return None
    return float(centred.sum(dim=0).square().sum() / (len(patterns) * energy))


def estimate(values: Sequence[float]) -> Estimate:
    """Mean over cases with its BCa interval; no interval for fewer than 8 cases.

    >>> estimate([0.25, 0.75])
    Estimate(mean=0.5, cases=2, low=None, high=None)
    """
    low, high = bca(values, resamples=_RESAMPLES) or (None, None)
    return Estimate(mean=sum(values) / len(values), cases=len(values), low=low, high=high)


def phase_locked(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseLocked:
    """The test over cases, class by class or channel by channel.

    Args:
        cases: Moments of each class of each case.
    """
    classes = [[case for case in each if is_regular(case)] for each in zip(*cases, strict=True)]
    betas = [[fit.beta for case in each if (fit := gain(case))] for each in classes]
    agreements = (coherence(torch.stack(each)) for each in betas if len(each) > 1)
    tests = [phase_lock_test(each) for each in classes if len(each) >= LEAST_CASES]
    return PhaseLocked(
        cases=max(map(len, classes), default=0),
        p_value=min((p for p in holm([t.p_value for t in tests]) if p is not None), default=None),
        r_squared=max((t.r_squared for t in tests if t.r_squared is not None), default=None),
        coherence=max((c for c in agreements if c is not None), default=None),
    )


def phase_map(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseMap | None:
    """`1 + β_φ − mean β`, the mean over classes and then over cases.

    Args:
        cases: Moments of each class of each case, of one period.

    Returns:
        The map, to 5 decimals; None where no case has a gain.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(100)
    >>> phase_map([[phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])]]).values
    [1.1, 0.9]
    """
    found = _betas(cases)
    if not found:
        return None
    beta = torch.stack(found)
    return PhaseMap(
        period=list(beta.shape[1:]),
        values=[round(v, 5) for v in (1 + beta.mean(dim=0)).flatten().tolist()],
        cases=len(beta),
        noise=_standard_error(beta) if len(beta) > 1 else None,
    )


def _standard_error(patterns: Tensor) -> float:
    """Of the mean over cases, RMS over phases."""
    return round(float((patterns.var(dim=0).mean() / len(patterns)).sqrt()), 5)


def _betas(cases: Sequence[Sequence[PhaseMoments]]) -> list[Tensor]:
    """`β_φ − mean β` of each case that has a gain, the mean over its classes."""
    fits = [[fit for moments in case if (fit := gain(moments)) is not None] for case in cases]
    return [
        torch.stack([fit.beta - fit.beta.mean() for fit in case]).mean(dim=0)
        for case in fits
        if case
    ]


def _equally_weighted(
    gram: Float[Tensor, "phases terms terms"],
) -> Float[Tensor, "phases 3 3"]:
    """Moments of a case as if it had one voxel and a residual of unit energy."""
    used = gram[:, : SMOOTH + 1, : SMOOTH + 1]
    total = used.sum(dim=0)
    scale = torch.ones(SMOOTH + 1, dtype=gram.dtype, device=gram.device)
    scale[RESIDUAL:] = (total[ONE, ONE] / total[RESIDUAL, RESIDUAL]).sqrt()
    return used * scale[:, None] * scale / total[ONE, ONE]


def _after_every_shift(period: tuple[int, ...]) -> Int[Tensor, "shifts phases"]:
    """Entry δ, φ is the phase φ + δ, in array order."""
    phases = torch.arange(math.prod(period)).reshape(period)
    axes = list(range(len(period)))
    shifts = itertools.product(*map(range, period))
    return torch.stack([phases.roll([-d for d in shift], axes).flatten() for shift in shifts])
