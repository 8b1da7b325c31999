"""Which cases are shown, and why: the rule is fixed, so that nobody picks the pretty ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from medseg.report.cases.values import Scores


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A case and every reason for which it is shown."""

    case: str
    reasons: tuple[str, ...]


def choose(
    reference: Mapping[str, float],
    arms: Mapping[int, Mapping[str, float]],
    scores: Scores | None = None,
) -> tuple[Choice, ...]:
    """The reference's worst, median and best case, the most disputed one, the most artificial one.

    A case that is chosen twice is shown once with both reasons. Equal values are settled by
    the case's name.

    Args:
        reference: Case → Dice in the reference arm.
        arms: Arm → case → Dice, of all arms that are shown.
        scores: Artifact score of the cases, if it was recorded.
    """
    reasons: dict[str, list[str]] = {}
    ranked = sorted(reference, key=lambda case: (reference[case], case))
    if ranked:
        places = {"worst": 0, "median": (len(ranked) - 1) // 2, "best": len(ranked) - 1}
        for name, place in places.items():
            case = ranked[place]
            said = f"{name} of the reference, Dice {reference[case]:.3f}"
            reasons.setdefault(case, []).append(said)
    ranges = {case: (low, high) for case, low, high in _ranges(arms) if high > low}
    if ranges:
        case = min(ranges, key=lambda case: (ranges[case][0] - ranges[case][1], case))
        low, high = ranges[case]
        reasons.setdefault(case, []).append(f"arms differ most, Dice {low:.3f} to {high:.3f}")
    if scores and scores.by_case:
        case = min(scores.by_case, key=lambda case: (-scores.by_case[case][0], case))
        score, arm = scores.by_case[case]
        said = f"largest {scores.name}, {score:.2g} in arm {arm}"
        reasons.setdefault(case, []).append(said)
    return tuple(Choice(case=case, reasons=tuple(said)) for case, said in reasons.items())


def _ranges(arms: Mapping[int, Mapping[str, float]]) -> list[tuple[str, float, float]]:
    """Case, lowest and highest value, of the cases that at least two arms have."""
    found: dict[str, list[float]] = {}
    for values in arms.values():
        for case, value in values.items():
            found.setdefault(case, []).append(value)
    return [(case, min(v), max(v)) for case, v in found.items() if len(v) > 1]
