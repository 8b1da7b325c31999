"""Every arm against the reference, on the cases that both have."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.statistics.contrast import Contrast, Differences, differences, summarize
from medseg.statistics.corrections import holm, wilcoxon
from medseg.statistics.observations import Observations
from medseg.statistics.verdict import Evidence, Verdict, decide


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
        verdict, reason = decide(
            Evidence(
                cases=found.cases,
                runs_known=observations.run_variance is not None,
                identical=not pair.values.any(),
                gain=None if found.estimate is None else sign * found.estimate,
                p_holm=p_holm[index],
                equivalence_p=equivalence_p,
                margin=margin,
                alpha=1 - level,
            )
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
