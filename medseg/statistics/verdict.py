"""When an arm is called better, worse or equal, and why not.

`RULE` is told for the usual level of 95 %; another level moves 0.05 and 90 % along.
"""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["better", "worse", "equal", "undecided"]

LEAST_CASES = 6

RULE = (
    "Equal: both one-sided tests against the margin (TOST) have p ≤ 0.05, so the 90 % interval "
    "over cases and trainings lies within ± margin. Not corrected for the number of comparisons.",
    "Better or worse: not equal, and the two-sided test over cases and trainings has p ≤ 0.05 "
    "after Holm's correction over all comparisons with the reference.",
    "Undecided: everything else, always with fewer than 6 shared cases, and always without two "
    "seeds of an arm or two folds, for then nothing tells how far trainings of one arm differ.",
    "The spread of trainings is pooled over arms; an arm whose trainings differ far more than "
    "those of the others is called different too often.",
    "A test over cases alone (Wilcoxon, BCa) holds for these trainings only and decides nothing.",
)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a verdict rests on.

    Attributes:
        cases: Shared by both arms.
        runs_known: Whether the run variance is known.
        identical: Whether all differences are 0.
        gain: Estimated difference, positive if the arm is better; None without a case.
        p_holm: Of the difference, corrected; None if unknown.
        equivalence_p: Larger p of the two one-sided tests; None without a margin.
        margin: Largest difference that does not matter; None if none was given.
        alpha: Level of all tests.
    """

    cases: int
    runs_known: bool
    identical: bool
    gain: float | None
    p_holm: float | None
    equivalence_p: float | None
    margin: float | None
    alpha: float


def decide(evidence: Evidence) -> tuple[Verdict, str]:
    """The verdict of `RULE` and one clause that says why."""
    if evidence.gain is None:
        return "undecided", "no case that both arms have"
    if evidence.cases < LEAST_CASES:
        cases = f"{evidence.cases} case{'s' if evidence.cases > 1 else ''}"
        return "undecided", f"{cases}: a verdict needs at least {LEAST_CASES}"
    if not evidence.runs_known:
        return "undecided", "one seed: how far trainings differ is unknown"
    if evidence.identical:
        return ("equal" if evidence.margin else "undecided"), "identical values"
    differs = evidence.p_holm is not None and evidence.p_holm <= evidence.alpha
    if evidence.equivalence_p is not None and evidence.equivalence_p <= evidence.alpha:
        differing = "a difference, but within the margin"
        return "equal", differing if differs else "the interval lies within the margin"
    if differs:
        return ("better" if evidence.gain > 0 else "worse"), "the interval excludes 0 after Holm"
    if evidence.margin is None:
        return "undecided", "the interval includes 0 after Holm, and no margin was given"
    return "undecided", "the interval includes 0 after Holm and is not within the margin"
