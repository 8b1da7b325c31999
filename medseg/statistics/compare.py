"""Every arm against the reference on the cases that both have."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from medseg.errors import ConfigError
from medseg.statistics.contrast import LEVEL, Contrast, Differences, differences, summarize
from medseg.statistics.observations import Observations

Verdict = Literal["better", "worse", "equal", "undecided"]

LEAST_CASES = 6
MOST_EXACT = 13

RULE = (
    "Equal: both one-sided tests against the margin (TOST) have p ≤ 0.05, so the 90 % interval "
    "over cases and trainings lies within ± margin. Not corrected for the number of comparisons.",
    "Better or worse: not equal, and the two-sided test over cases and trainings has p ≤ 0.05 "
    "after Holm's correction over all comparisons with the reference.",
    "Undecided: everything else, always with fewer than 6 shared cases, and always where the arm "
    "or the reference has neither two seeds nor two folds, for then nothing tells how far its "
    "trainings differ.",
    "The spread of trainings is pooled over arms. An arm that stands out (Cochran's C, 1 %) leaves "
    "the pool. An arm whose trainings differ more than those of the others (2 seeds), 1.7 times "
    "(3) or twice as much (more; standard deviations) is judged by its own spread alone: with few "
    "seeds a true scatter can look small, and this keeps the verdict at its level.",
    "The robust companion trims a fifth of the cases at each end (Yuen); it decides nothing.",
    "A test over cases alone (Wilcoxon, BCa) holds for these trainings only and decides nothing.",
)
OUTLYING = 0.01
TIE = 1e-12


@dataclass(frozen=True, kw_only=True)
class Comparison(Contrast):
    """An arm less the reference; None where it cannot be known.

    Attributes:
        arm: The arm.
        reference: The arm that it is compared with.
        p_holm: `p_value` corrected over all comparisons with the reference.
        wilcoxon_p: Two-sided, over cases, for these trainings only.
        wilcoxon_holm: `wilcoxon_p` corrected over all comparisons with the reference.
        effect_size: Cohen's d_z, the mean of the case differences in their standard deviations.
        superiority: Share of cases where the arm is better than the reference; ties count half.
        equivalence_p: Larger p of the two one-sided tests (TOST) over cases and trainings.
        trimmed: The difference of trimmed means over cases, which a few cases cannot move.
        trimmed_low: Lower end of its interval over cases and trainings.
        trimmed_high: Upper end.
        trimmed_holm: Two-sided p of it, corrected over all comparisons with the reference.
        outliers: Cases whose difference stands out from the others.
        margin: Largest difference that does not matter, in units of the values.
        seeds: Of the arm, in the fold with the fewest.
        reference_seeds: Of the reference.
        verdict: By the rule of `RULE`.
        reason: Why, in one clause.
    """

    arm: int
    reference: int
    p_holm: float | None
    wilcoxon_p: float | None
    wilcoxon_holm: float | None
    effect_size: float | None
    superiority: float | None
    equivalence_p: float | None
    trimmed: float | None
    trimmed_low: float | None
    trimmed_high: float | None
    trimmed_holm: float | None
    outliers: tuple[str, ...]
    margin: float | None
    seeds: int
    reference_seeds: int
    verdict: Verdict
    reason: str


def compare(
    observations: Observations,
    reference: int,
    *,
    margin: float | None,
    higher_is_better: bool = True,
) -> list[Comparison]:
    """Compares every other arm with the reference, in the order of arms.

    Args:
        observations: Values of all arms.
        reference: The arm that the others are compared with.
        margin: Largest difference that does not matter, in units of the values, at least 0; None
            if equality is not asked for.
        higher_is_better: False for distances such as HD95.

    Raises:
        ConfigError: a negative margin.
    """
    if margin is not None and not 0 <= margin < np.inf:
        raise ConfigError(f"margin {margin}: a difference that does not matter is at least 0")
    others = [arm for arm in observations.arms if arm != reference]
    pairs = [differences(observations, {arm: 1.0, reference: -1.0}) for arm in others]
    contrasts = [summarize(pair) for pair in pairs]
    robust = [differences(observations, {arm: 1.0, reference: -1.0}, robust=True) for arm in others]
    ranks = [wilcoxon(pair.values) for pair in pairs]
    trimmed_holm = holm([pair.p_value for pair in robust])
    p_holm = holm([found.p_value for found in contrasts])
    wilcoxon_holm = holm(ranks)
    sign = 1.0 if higher_is_better else -1.0
    seeds = observations.seeds(reference)
    comparisons = []
    for index, (arm, pair, found) in enumerate(zip(others, pairs, contrasts, strict=True)):
        equivalence_p = _equivalence_p(pair, margin)
        trimmed_low, trimmed_high = robust[index].interval
        verdict, reason = _decide(
            sign * pair.values,
            doubt=_doubt(observations, arm, reference),
            differs=_is_significant(p_holm[index]),
            equal=_is_significant(equivalence_p),
            margin=margin,
        )
        comparisons.append(
            Comparison(
                **vars(found),
                arm=arm,
                reference=reference,
                p_holm=p_holm[index],
                wilcoxon_p=ranks[index],
                wilcoxon_holm=wilcoxon_holm[index],
                effect_size=_effect_size(pair.values),
                superiority=_superiority(sign * pair.values),
                equivalence_p=equivalence_p,
                trimmed=robust[index].estimate,
                trimmed_low=trimmed_low,
                trimmed_high=trimmed_high,
                trimmed_holm=trimmed_holm[index],
                outliers=tuple(pair.names[place] for place in outlying(pair.values)),
                margin=margin,
                seeds=observations.seeds(arm),
                reference_seeds=seeds,
                verdict=verdict,
                reason=reason,
            )
        )
    return comparisons


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; None and NaN are no part of the family and stay None.

    Reference: Holm 1979, Scand. J. Stat. 6:65.

    >>> holm([0.01, None, 0.5])
    [0.02, None, 0.5]
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None and not math.isnan(p))
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p_value, index) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p_value))
        corrected[index] = least
    return corrected


def wilcoxon(differences: ArrayLike) -> float | None:
    """Two-sided signed-rank p of paired differences; None without a pair.

    It asks whether cases differ for these trainings; other trainings may differ otherwise.
    Differences of 0 are left out; without another, p is 1.

    Reference: Wilcoxon 1945, Biometrics Bull. 1:80.

    >>> wilcoxon([1.0, 2.0, 3.0, 0.0])
    0.25
    """
    pairs = np.asarray(differences, dtype=float)
    moved = pairs[pairs != 0]
    if not len(moved):
        return 1.0 if len(pairs) else None
    if len(moved) > MOST_EXACT:
        return float(np.asarray(stats.wilcoxon(moved))[1])
    return _exact_p(moved)


def _exact_p(moved: NDArray[np.float64]) -> float:
    """Of the signed ranks over all signs, ties at their middle; scipy takes seconds with ties."""
    ranks = (2 * stats.rankdata(np.abs(moved))).astype(int)
    counts = np.ones(1)
    for rank in ranks:
        counts = np.convolve(counts, np.bincount([0, rank]))
    reached = int(ranks[moved > 0].sum())
    tail = min(counts[: reached + 1].sum(), counts[reached:].sum())
    return float(min(1.0, 2 * tail / counts.sum()))


def outlying(values: ArrayLike) -> list[int]:
    """Places of values that do not belong to the normal distribution of the others, at 1 %.

    The largest deviation is taken out and the rest looked at again, so that two cannot hide
    each other: at most a fifth of the values, and five.

    Reference: Rosner 1983, Technometrics 25:165 (generalized extreme Studentized deviate).

    >>> outlying([0.1, 0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 9.0])
    [7]
    """
    left = np.asarray(values, dtype=float)
    places = np.arange(len(left))
    found: list[int] = []
    far = 0
    for _ in range(min(len(left) // 5, 5)):
        spread = left.std(ddof=1)
        if spread <= TIE * np.abs(left).max():
            break
        count, deviations = len(left), np.abs(left - left.mean()) / spread
        worst = int(deviations.argmax())
        t = -float(special.stdtrit(count - 2, OUTLYING / (2 * count)))
        found.append(int(places[worst]))
        if deviations[worst] > (count - 1) * t / np.sqrt((count - 2 + t**2) * count):
            far = len(found)
        left, places = np.delete(left, worst), np.delete(places, worst)
    return found[:far]


def _equivalence_p(pair: Differences, margin: float | None) -> float | None:
    """Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657."""
    estimate, known = pair.estimate, pair.uncertainty
    if margin is None or estimate is None or known is None:
        return None
    return max(known.p_above(estimate + margin), known.p_above(margin - estimate))


def _doubt(observations: Observations, arm: int, reference: int) -> tuple[bool, str]:
    """Whether the spread of both arms' trainings is known, and what is wrong with it."""
    trainings, arms = observations.trainings, observations.arms
    if trainings is None:
        return False, "one seed: how far trainings differ is unknown"
    pair = [("the arm", arm), ("the reference", reference)]
    places = [(name, arms.index(number)) for name, number in pair if number in arms]
    single = [name for name, place in places if not trainings.own[place].df]
    if single:
        return False, f"one seed of {' and '.join(single)}: its trainings may differ more"
    alone = [name for name, place in places if place in trainings.alone]
    if alone:
        return True, f"trainings of {' and '.join(alone)} differ too far to be pooled"
    return True, ""


def _effect_size(values: NDArray[np.float64]) -> float | None:
    if len(values) < 2:
        return None
    spread, largest = float(values.std(ddof=1)), float(np.abs(values).max())
    return float(values.mean()) / spread if spread > 1e-9 * largest else None


def _superiority(gains: NDArray[np.float64]) -> float | None:
    return float(np.mean((gains > 0) + 0.5 * (gains == 0))) if len(gains) else None


def _is_significant(p: float | None) -> bool:
    return p is not None and p <= 1 - LEVEL


def _decide(
    gains: NDArray[np.float64],
    *,
    doubt: tuple[bool, str],
    differs: bool,
    equal: bool,
    margin: float | None,
) -> tuple[Verdict, str]:
    """The verdict of `RULE` and one clause that says why.

    Args:
        gains: For each shared case the difference, positive if the arm is better.
        doubt: Whether the spread of trainings is known, and what is wrong with it.
        differs: Whether the corrected two-sided test rejects that the difference is 0.
        equal: Whether both one-sided tests reject a difference of the margin.
        margin: Largest difference that does not matter; None if none was given.
    """
    known, why = doubt
    if not len(gains):
        return "undecided", "no case that both arms have"
    if len(gains) < LEAST_CASES:
        cases = f"{len(gains)} case{'s' if len(gains) > 1 else ''}"
        return "undecided", f"{cases}: a verdict needs at least {LEAST_CASES}"
    if not known:
        return "undecided", why
    if not gains.any():
        return ("equal" if margin else "undecided"), "identical values"
    if equal and differs:
        return "equal", "a difference, but within the margin"
    if equal:
        return "equal", "the interval lies within the margin"
    if differs:
        return ("better" if gains.mean() > 0 else "worse"), "the interval excludes 0 after Holm"
    within = "no margin was given" if margin is None else "is not within the margin"
    joint = ", and " if margin is None else " and "
    reason = f"the interval includes 0 after Holm{joint}{within}"
    return "undecided", f"{why}; {reason}" if why else reason
