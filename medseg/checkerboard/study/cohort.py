"""From cases to claims: intervals over cases, and whether the cases share a pattern."""

from collections.abc import Sequence

import torch

from medseg.checkerboard.cases.coherence import coherence
from medseg.checkerboard.cases.phase_moments import PhaseMoments
from medseg.checkerboard.cases.seasonal import gain, is_regular
from medseg.checkerboard.cases.statistics import (
    LEAST_CASES,
    confidence_interval,
    holm,
    phase_lock_test,
)
from medseg.record import CaseRow, Estimate, PhaseLocked

_HEADLINE = {
    "gain": lambda case: case.get("prediction", "gain"),
    "gain_excess": lambda case: _difference(
        case.get("prediction", "gain"), case.get("image", "gain")
    ),
    "cycle_spin": lambda case: case.get("cycle_spin", "cycle_spin"),
    "cycle_spin_locked": lambda case: case.get("cycle_spin", "cycle_spin_locked"),
    "staircase": lambda case: case.get("prediction", "staircase"),
    "crack_distance": lambda case: case.get("labels", "crack_distance"),
    "dice_change": lambda case: _change(case, "dice"),
    "surface_dice_change": lambda case: _change(case, "surface_dice"),
}


def headline(cases: Sequence[CaseRow]) -> dict[str, Estimate]:
    """Means over cases with intervals, of what any case has."""
    found = {
        name: [value for value in map(read, cases) if value is not None]
        for name, read in _HEADLINE.items()
    }
    return {name: _estimate(values) for name, values in found.items() if values}


def _estimate(values: Sequence[float]) -> Estimate:
    mean = sum(values) / len(values)
    if len(values) < LEAST_CASES:
        return Estimate(mean=mean, cases=len(values))
    low, high = confidence_interval(values)
    return Estimate(mean=mean, cases=len(values), low=low, high=high)


def phase_locked(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseLocked:
    """The test over cases, class by class or channel by channel.

    Args:
        cases: Moments of each class of each case.
    """
    classes = [[case for case in each if is_regular(case)] for each in zip(*cases, strict=True)]
    most = max(map(len, classes), default=0)
    agreements = [c for c in map(_coherence, classes) if c is not None]
    agreement = max(agreements, default=None)
    testable = [each for each in classes if len(each) >= LEAST_CASES]
    if not testable:
        return PhaseLocked(cases=most, coherence=agreement)
    tests = [phase_lock_test(each) for each in testable]
    return PhaseLocked(
        cases=most,
        p_value=min(holm([test.p_value for test in tests])),
        r_squared=max(test.r_squared_partial for test in tests),
        coherence=agreement,
    )


def _coherence(cases: Sequence[PhaseMoments]) -> float | None:
    if len(cases) < 2:
        return None
    fits = [gain(case) for case in cases]
    return coherence(torch.stack([fit.beta for fit in fits if fit is not None]))


def _change(case: CaseRow, metric: str) -> float | None:
    """What phases cost: the cycle-spun prediction over the one that only moved its windows."""
    return _difference(
        case.get("decision", f"{metric}_spun"), case.get("decision", f"{metric}_control")
    )


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b
