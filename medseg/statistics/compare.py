"""Every arm against the reference on the cases that both have, and the chance to be the best.

`RULE` holds for the usual level of 95 %; another level moves 0.05 and 90 % along.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from medseg.errors import ConfigError
from medseg.statistics.contrast import Contrast, Differences, differences, summarize
from medseg.statistics.observations import Observations

Verdict = Literal["better", "worse", "equal", "undecided"]

LEAST_CASES = 6
MOST_EXACT = 13

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
DRAWS_AT_ONCE = 1000
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
        least_p: Smallest p that the Wilcoxon test can reach with as many pairs that differ.
        effect_size: Cohen's d_z, the mean of the case differences in their standard deviations.
        superiority: Share of cases where the arm is better than the reference; ties count half.
        equivalence_p: Larger p of the two one-sided tests (TOST) over cases and trainings.
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
    least_p: float
    effect_size: float | None
    superiority: float | None
    equivalence_p: float | None
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
    level: float = 0.95,
) -> list[Comparison]:
    """Compares every other arm with the reference, in the order of arms.

    Args:
        observations: Values of all arms.
        reference: The arm that the others are compared with.
        margin: Largest difference that does not matter, in units of the values, at least 0; None
            if equality is not asked for.
        higher_is_better: False for distances such as HD95.
        level: Coverage of the intervals; tests use 1 − level.

    Raises:
        ConfigError: a negative margin, or a level outside (0, 1).
    """
    if margin is not None and not 0 <= margin < np.inf:
        raise ConfigError(f"margin {margin}: a difference that does not matter is at least 0")
    if not 0 < level < 1:
        raise ConfigError(f"level {level}: a coverage lies between 0 and 1; 0.95 is usual")
    others = [arm for arm in observations.arms if arm != reference]
    pairs = [differences(observations, {arm: 1.0, reference: -1.0}) for arm in others]
    contrasts = [summarize(pair, level) for pair in pairs]
    ranks = [wilcoxon(pair.values) for pair in pairs]
    p_holm = holm([found.p_value for found in contrasts])
    wilcoxon_holm = holm([p_value for p_value, _ in ranks])
    sign = 1.0 if higher_is_better else -1.0
    seeds = observations.seeds(reference)
    comparisons = []
    for index, (arm, pair, found) in enumerate(zip(others, pairs, contrasts, strict=True)):
        equivalence_p = _equivalence_p(pair, margin)
        verdict, reason = _decide(
            sign * pair.values,
            runs_known=observations.run_variance is not None,
            differs=_at_most(p_holm[index], 1 - level),
            equal=_at_most(equivalence_p, 1 - level),
            margin=margin,
        )
        comparisons.append(
            Comparison(
                **vars(found),
                arm=arm,
                reference=reference,
                p_holm=p_holm[index],
                wilcoxon_p=ranks[index][0],
                wilcoxon_holm=wilcoxon_holm[index],
                least_p=ranks[index][1],
                effect_size=_effect_size(pair.values),
                superiority=_superiority(sign * pair.values),
                equivalence_p=equivalence_p,
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


def wilcoxon(differences: ArrayLike) -> tuple[float | None, float]:
    """Two-sided signed-rank p of paired differences, and the least p that so many can reach.

    It asks whether cases differ for these trainings; other trainings may differ otherwise.
    Differences of 0 are left out. Without a difference, p is 1; without a pair, None.

    Reference: Wilcoxon 1945, Biometrics Bull. 1:80.

    >>> wilcoxon([1.0, 2.0, 3.0, 0.0])
    (0.25, 0.25)
    """
    pairs = np.asarray(differences, dtype=float)
    moved = pairs[pairs != 0]
    least = min(1.0, 2.0 ** (1 - len(moved)))
    if not len(pairs):
        return None, least
    if not len(moved):
        return 1.0, least
    if len(moved) > MOST_EXACT:
        return float(np.asarray(stats.wilcoxon(moved))[1]), least
    return _exact_p(moved), least


def _exact_p(moved: NDArray[np.float64]) -> float:
    """Of the signed ranks over all signs, ties at their middle; scipy takes seconds with ties."""
    ranks = (2 * stats.rankdata(np.abs(moved))).astype(int)
    counts = np.ones(1)
    for rank in ranks:
        counts = np.convolve(counts, np.bincount([0, rank]))
    reached = int(ranks[moved > 0].sum())
    tail = min(counts[: reached + 1].sum(), counts[reached:].sum())
    return float(min(1.0, 2 * tail / counts.sum()))


def probability_of_best(
    observations: Observations,
    *,
    higher_is_better: bool = True,
    draws: int = 10_000,
    seed: int = 0,
) -> dict[int, float]:
    """For each arm how often it is best when cases and trainings are drawn anew.

    Draws arm means around their estimates: normal with the covariance of cases / C, shared by all
    arms, plus v_run Σᵣ uᵣ² for each arm alone; each of the two parts divided by its own
    √(χ²/df), so that a variance known from few runs spreads wide. A covariance of cases needs no
    matrix: it is that of random combinations of the centred cases. Arms tied for the best share a
    draw. The noise of run × case counts in both parts, which makes the shares a little too even.

    Args:
        observations: Values of all arms; compared on the cases that all arms with a value share.
        higher_is_better: False for distances.
        draws: At least 1.
        seed: Of the draws.

    Returns:
        Shares that sum to 1; empty with unknown run variance or fewer than 2 shared cases.
    """
    run = observations.run_variance
    present = np.flatnonzero(observations.counts.any(axis=1))
    shared = observations.shared(present)
    cases = int(shared.sum())
    if run is None or cases < 2:
        return {}
    values = observations.means[present][:, shared] * (1.0 if higher_is_better else -1.0)
    means = values.mean(axis=1)
    factors = (values - means[:, None]) / np.sqrt(cases * (cases - 1))
    loads = np.array([observations.load(int(p), shared) for p in present])
    spread = np.sqrt(run.value * loads)
    generator = np.random.default_rng(seed)
    wins = np.zeros(len(present))
    for start in range(0, draws, DRAWS_AT_ONCE):
        size = min(DRAWS_AT_ONCE, draws - start)
        by_cases = generator.normal(size=(size, cases)) @ factors.T
        by_runs = generator.normal(size=(size, len(present))) * spread
        drawn = (
            means
            + by_cases / _chi(generator, cases - 1, size)
            + by_runs / _chi(generator, run.df, size)
        )
        wins += _shares(drawn)
    return {observations.arms[p]: float(won) / draws for p, won in zip(present, wins, strict=True)}


def _equivalence_p(pair: Differences, margin: float | None) -> float | None:
    """Schuirmann 1987, J. Pharmacokinet. Biopharm. 15:657."""
    estimate, known = pair.estimate, pair.uncertainty
    if margin is None or estimate is None or known is None:
        return None
    return max(known.p_above(estimate + margin), known.p_above(margin - estimate))


def _effect_size(values: NDArray[np.float64]) -> float | None:
    if len(values) < 2:
        return None
    spread, largest = float(values.std(ddof=1)), float(np.abs(values).max())
    return float(values.mean()) / spread if spread > 1e-9 * largest else None


def _superiority(gains: NDArray[np.float64]) -> float | None:
    return float(np.mean((gains > 0) + 0.5 * (gains == 0))) if len(gains) else None


def _at_most(p: float | None, alpha: float) -> bool:
    return p is not None and p <= alpha


def _decide(
    gains: NDArray[np.float64],
    *,
    runs_known: bool,
    differs: bool,
    equal: bool,
    margin: float | None,
) -> tuple[Verdict, str]:
    """The verdict of `RULE` and one clause that says why.

    Args:
        gains: For each shared case the difference, positive if the arm is better.
        runs_known: Whether the run variance is known.
        differs: Whether the corrected two-sided test rejects that the difference is 0.
        equal: Whether both one-sided tests reject a difference of the margin.
        margin: Largest difference that does not matter; None if none was given.
    """
    if not len(gains):
        return "undecided", "no case that both arms have"
    if len(gains) < LEAST_CASES:
        cases = f"{len(gains)} case{'s' if len(gains) > 1 else ''}"
        return "undecided", f"{cases}: a verdict needs at least {LEAST_CASES}"
    if not runs_known:
        return "undecided", "one seed: how far trainings differ is unknown"
    if not gains.any():
        return ("equal" if margin else "undecided"), "identical values"
    if equal and differs:
        return "equal", "a difference, but within the margin"
    if equal:
        return "equal", "the interval lies within the margin"
    if differs:
        return ("better" if gains.mean() > 0 else "worse"), "the interval excludes 0 after Holm"
    if margin is None:
        return "undecided", "the interval includes 0 after Holm, and no margin was given"
    return "undecided", "the interval includes 0 after Holm and is not within the margin"


def _chi(generator: np.random.Generator, df: int, size: int) -> NDArray[np.float64]:
    return np.sqrt(generator.chisquare(df, size=(size, 1)) / df)


def _shares(drawn: NDArray[np.float64]) -> NDArray[np.float64]:
    highest = drawn.max(axis=1, keepdims=True)
    best = drawn >= highest - TIE * np.abs(highest)
    return (best / best.sum(axis=1, keepdims=True)).sum(axis=0)
