"""A weighted sum of arm means, with the uncertainty of cases and of trainings.

The model. y[a, f, s, c] is the value of case c in the training of arm a, fold f and seed s. Cases
are random and shared by all arms; runs, one training each, are random and belong to one arm. This
is the multi-reader multi-case design of diagnostic imaging with trainings as readers (Obuchowski &
Rockette 1995, Commun. Stat. Simul. 24:285; Hillis 2007, Stat. Med. 26:596; why:
docs/statistics.md). Equal seed numbers of two arms do not pair their trainings; equal cases pair
their values.

The estimate of Σ wₐ mₐ uses the cases that all arms with a weight share. A case's value in an arm
is the mean over the runs that have it. The variance has two parts (`Uncertainty`):

    runs   Σₐ vₐ wₐ² Σᵣ uᵣ²   vₐ is the spread of the arm's trainings, pooled or its own (`spread`);
                              uᵣ is the share of run r in the arm mean: Σᵣ uᵣ² = 1/R for R runs
                              on all cases
    cases  s²_D / C           D_c = Σₐ wₐ y_ac

The first part already holds the noise of run × case, σ²_ε, and the second holds it again; it is
taken off the second, as far as it can be estimated. With two seeds it is the residual of run ×
case. With one seed and every case tested in one fold only, arm × fold holds all that cases do
within a fold, and that is taken off. With one seed and folds that share their test cases nothing is
taken off, which makes the interval too long rather than too short.

Folds are the given ones: what other splits into training and test cases would do is not covered
where seeds supply the run variance.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from medseg.statistics.observations import TRIM, Observations
from medseg.statistics.spread import average, trimmed

ROUNDING = 1e-12
LEAST_LOG_P = -50.0
LEVEL = 0.95  # coverage of intervals
LEAST_BCA_CASES = 8
RESAMPLES = 1999


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How far an estimate may lie from the truth; its variance has parts of runs and one of cases.

    The half-width `h² = Σ t²(dfᵢ) · vᵢ` never errs more often than its level, whatever the shares
    of the parts (Banerjee 1960, Sankhyā 22:357): P(Z² ≤ x) is concave in x, and h² is, up to the
    true variance, the mean of t²(dfᵢ) χ²ᵢ/dfᵢ weighted with the true shares, each of which alone
    would hold the level; Satterthwaite's degrees of freedom err in up to 8 % for two seeds. What
    the part of cases shares with those of runs, the noise of run × case, is taken off once, with
    z² instead of t².

    Attributes:
        runs: Variances from the choice of trainings, each with its degrees of freedom, at least 1.
        cases: Variance from the choice of cases, the noise of runs included.
        cases_df: Its degrees of freedom, at least 1.
        overlap: The noise that the parts of runs and of cases hold both.

    >>> one_part = Uncertainty(runs=((0.0, 3),), cases=4.0, cases_df=10)
    >>> round(one_part.p_value(2.0), 4)
    0.3409
    """

    runs: tuple[tuple[float, int], ...]
    cases: float
    cases_df: int
    overlap: float = 0.0

    @property
    def standard_error(self) -> float:
        """√(runs + cases − overlap), the case term never below 0."""
        runs = sum(variance for variance, _ in self.runs)
        return float(np.sqrt(runs + max(0.0, self.cases - self.overlap)))

    def half_width(self, level: float = LEVEL) -> float:
        """Of the two-sided interval with at least this coverage, in (0, 1)."""
        return self._half_width((1 - level) / 2)

    def p_value(self, distance: float) -> float:
        """Two-sided p of an estimate this far from the hypothesis; 0 stands for less than 1e-49."""
        if distance == 0:
            return 1.0
        if self._half_width(10.0**LEAST_LOG_P) <= abs(distance):
            return 0.0
        found = optimize.root_scalar(
            lambda log_p: self._half_width(10.0**log_p) - abs(distance),
            bracket=(np.log10(0.5), LEAST_LOG_P),
            xtol=1e-12,
        )
        return float(min(1.0, 2 * 10.0**found.root))

    def p_above(self, distance: float) -> float:
        """One-sided p against "the truth is at most 0" of an estimate of `distance`."""
        half = self.p_value(distance) / 2
        return half if distance >= 0 else 1 - half

    def _half_width(self, tail: float) -> float:
        case_term = special.stdtrit(self.cases_df, tail) ** 2 * self.cases
        shared = special.ndtri(tail) ** 2 * self.overlap
        run_term = sum(special.stdtrit(df, tail) ** 2 * variance for variance, df in self.runs)
        return float(np.sqrt(run_term + max(0.0, case_term - shared)))


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of arm means; None where it cannot be known.

    Attributes:
        estimate: In units of the values; None without a shared case.
        low: Lower end of the interval over cases and trainings; None without its variance.
        high: Upper end.
        standard_error: Over cases and trainings.
        p_value: Two-sided, of the hypothesis that the sum is 0.
        cases: Shared by all arms with a weight.
        case_low: Lower end of the BCa interval over cases for these trainings; None below 8 cases.
        case_high: Upper end.
        left_out: For each arm with a weight, how many of its cases another arm lacks.
    """

    estimate: float | None
    low: float | None = None
    high: float | None = None
    standard_error: float | None = None
    p_value: float | None = None
    cases: int = 0
    case_low: float | None = None
    case_high: float | None = None
    left_out: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Differences:
    """The weighted sum for each shared case, and how sure its mean is.

    Attributes:
        values: One number per shared case.
        estimate: Their mean, or trimmed mean; None without a case.
        uncertainty: Of it; None with fewer than 2 cases or unknown run variance.
        left_out: For each arm with a weight, how many of its cases another arm lacks.
        names: Of the shared cases.
    """

    values: NDArray[np.float64]
    estimate: float | None
    uncertainty: Uncertainty | None
    left_out: Mapping[int, int]
    names: Sequence[str] = ()

    @property
    def interval(self) -> tuple[float | None, float | None]:
        """Lower and upper end of the interval of 95 %; None where it is not known."""
        if self.estimate is None or self.uncertainty is None:
            return None, None
        half = self.uncertainty.half_width()
        return self.estimate - half, self.estimate + half

    @property
    def p_value(self) -> float | None:
        """Two-sided, of the hypothesis that the sum is 0."""
        if self.estimate is None or self.uncertainty is None:
            return None
        return self.uncertainty.p_value(self.estimate)


def contrast(observations: Observations, weights: Mapping[int, float]) -> Contrast:
    """Estimates the weighted sum of arm means with its 95 % intervals.

    Args:
        observations: Values of all arms, also of those without a weight.
        weights: For each arm its weight, not all 0; 1 and −1 for a difference.
    """
    return summarize(differences(observations, weights))


def differences(
    observations: Observations,
    weights: Mapping[int, float],
    *,
    robust: bool = False,
    alike: bool = False,
) -> Differences:
    """The weighted sum for each case that all arms with a weight share.

    Args:
        observations: Values of all arms.
        weights: For each arm its weight.
        robust: Trimmed means over cases, so that a few cases cannot hide a difference.
        alike: Takes the trainings of all arms to differ alike, even where they do not look so.
    """
    weighted = {arm: weight for arm, weight in weights.items() if weight}
    arms = observations.arms
    found = np.array([arms.index(arm) for arm in weighted if arm in arms], dtype=np.intp)
    shared = observations.shared(found) & (len(found) == len(weighted))
    left_out = {arm: len(observations.cases(arm)) - int(shared.sum()) for arm in weighted}
    if not shared.any():
        return Differences(values=np.empty(0), estimate=None, uncertainty=None, left_out=left_out)
    weight = np.array(list(weighted.values()), dtype=float)
    arm_values = observations.means[found][:, shared]
    values = weight @ arm_values
    values[np.abs(values) <= ROUNDING * (np.abs(weight) @ np.abs(arm_values))] = 0.0
    trim = TRIM if robust else 0.0
    mean = average(values[None], trim)[0]
    return Differences(
        values=values,
        estimate=float(mean[0]),
        uncertainty=_uncertainty(
            observations, dict(zip(found, weight, strict=True)), shared, values, trim, alike
        ),
        left_out=left_out,
        names=[name for name, both in zip(observations.names, shared, strict=True) if both],
    )


def summarize(found: Differences) -> Contrast:
    """Estimate, intervals and test of these differences."""
    case_low, case_high = bca(found.values) or (None, None)
    low, high = found.interval
    return Contrast(
        estimate=found.estimate,
        low=low,
        high=high,
        standard_error=found.uncertainty and found.uncertainty.standard_error,
        p_value=found.p_value,
        cases=len(found.values),
        case_low=case_low,
        case_high=case_high,
        left_out=found.left_out,
    )


def bca(values: ArrayLike, resamples: int = RESAMPLES) -> tuple[float, float] | None:
    """Bias-corrected and accelerated bootstrap interval of 95 % of the mean over cases.

    Percentiles of resampled means are too close together by √((n − 1)/n), and normal quantiles are
    used where Student's are due: of nominal 95 % BCa covers 85 to 90 with 10 cases. Both are made
    up for by a higher nominal level (Hesterberg 2015, Am. Stat. 69:371, section 3.3); 88 to 95 %
    then, docs/statistics.md. Always the same draws for the same number of cases.

    Args:
        values: One number per case; None is returned for fewer than 8.
        resamples: Draws of as many cases, with replacement.

    Reference: Efron 1987, J. Am. Stat. Assoc. 82:171.

    >>> bca([2.0] * 8), bca([1.0, 2.0])
    ((2.0, 2.0), None)
    """
    sample = np.asarray(values, dtype=float)
    if len(sample) < LEAST_BCA_CASES:
        return None
    least, spread = float(sample.min()), float(np.ptp(sample))
    if spread <= 1e-12 * np.abs(sample).max():
        return float(sample.mean()), float(sample.mean())
    cases = len(sample)
    wider = np.sqrt(cases / (cases - 1)) * special.stdtrit(cases - 1, (1 + LEVEL) / 2)
    found = stats.bootstrap(
        ((sample - least) / spread,),  # third powers of tiny numbers are 0
        np.mean,
        confidence_level=2 * special.ndtr(wider) - 1,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(least + spread * found.low), float(least + spread * found.high)


def _uncertainty(
    observations: Observations,
    weights: Mapping[int, float],
    shared: NDArray[np.bool_],
    values: NDArray[np.float64],
    trim: float,
    alike: bool,
) -> Uncertainty | None:
    """Of the mean of `values`, the weighted sums of arms at these positions over shared cases."""
    trainings = observations.trimmed_trainings if trim else observations.trainings
    cases = len(values)
    if trainings is None or cases < 2:
        return None
    kept = cases - 2 * trimmed(cases, trim)
    unit = (cases - 1) / (kept * (kept - 1))  # variance of a mean for a variance of cases
    runs, overlap = [], 0.0
    for position, weight in weights.items():
        spread = trainings.pool if alike else trainings.of(position)
        runs.append((weight**2 * observations.load(position, shared) * spread.value, spread.df))
        per_case = (1 / observations.counts[position, shared]).mean()
        overlap += weight**2 * spread.noise * float(per_case) * unit
    if trainings.source == "folds" and not trim:
        overlap = _within_folds(observations, shared, values)
    return Uncertainty(
        runs=tuple(runs),
        cases=float(average(values[None], trim)[1][0]) * unit,
        cases_df=kept - 1,
        overlap=overlap,
    )


def _within_folds(
    observations: Observations, shared: NDArray[np.bool_], values: NDArray[np.float64]
) -> float:
    """The variance of the mean that comes from cases within their fold."""
    if observations.only_fold is None:
        return 0.0
    by_fold = pd.Series(values).groupby(observations.only_fold[shared])
    return float((by_fold.count() * by_fold.var()).sum()) / len(values) ** 2
