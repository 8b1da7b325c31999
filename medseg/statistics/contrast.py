"""A weighted sum of arm means, with the uncertainty of cases and of trainings.

The model. y[a, f, s, c] is the value of case c in the training of arm a, fold f and seed s. Cases
are random and shared by all arms; runs, one training each, are random and belong to one arm. This
is the multi-reader multi-case design of diagnostic imaging with trainings as readers (Obuchowski &
Rockette 1995, Commun. Stat. Simul. 24:285; Hillis 2007, Stat. Med. 26:596). A test over cases
alone holds for these trainings only: a lucky seed is lucky on all cases, and with one seed for each
arm two equal arms are called different far too often. Equal seed numbers of two arms do not pair
their trainings; equal cases pair their values.

The estimate of Σ wₐ mₐ uses the cases that all arms with a weight share. A case's value in an arm
is the mean over the runs that have it. The variance has two parts (`uncertainty`):

    runs   v_run Σₐ wₐ² Σᵣ uᵣ²   uᵣ is the share of run r in the arm mean, so Σᵣ uᵣ² = 1/R for R
                                 runs on all cases
    cases  s²_D / C              D_c = Σₐ wₐ y_ac

The first part already holds the noise of run × case, σ²_ε, and the second holds it again; it is
taken off the second, as far as it can be estimated. With two seeds it is the residual of run ×
case. With one seed and every case tested in one fold only, arm × fold holds all that cases do
within a fold, and that is taken off. With one seed and folds that share their test cases nothing is
taken off, which makes the interval too long rather than too short.

Folds are the given ones: what other splits into training and test cases would do is not covered
where seeds supply the run variance.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from medseg.errors import ConfigError
from medseg.statistics.corrections import bca
from medseg.statistics.observations import Observations
from medseg.statistics.table import Table
from medseg.statistics.uncertainty import Uncertainty

ROUNDING = 1e-12


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A weighted sum of arm means; None where it cannot be known.

    Attributes:
        estimate: In units of the values; None without a shared case.
        low: Lower end of the interval over cases and trainings; None without its variance.
        high: Upper end.
        standard_error: Over cases and trainings.
        df: Of the Student's t that gives the same interval.
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
    df: float | None = None
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
        uncertainty: Of their mean; None with fewer than 2 cases or unknown run variance.
        left_out: For each arm with a weight, how many of its cases another arm lacks.
    """

    values: NDArray[np.float64]
    uncertainty: Uncertainty | None
    left_out: Mapping[int, int]

    @property
    def estimate(self) -> float | None:
        """The mean over cases; None without one."""
        return float(self.values.mean()) if len(self.values) else None


def contrast(
    observations: Observations, weights: Mapping[int, float], level: float = 0.95
) -> Contrast:
    """Estimates the weighted sum of arm means.

    Args:
        observations: Values of all arms, also of those without a weight.
        weights: For each arm its weight; 1 and −1 for a difference.
        level: Coverage of the intervals, in (0, 1).

    Raises:
        ConfigError: no weight other than 0, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ConfigError(f"level {level}: a coverage lies between 0 and 1; 0.95 is usual")
    return summarize(differences(observations, weights), level)


def differences(observations: Observations, weights: Mapping[int, float]) -> Differences:
    """The weighted sum for each case that all arms with a weight share.

    Raises:
        ConfigError: no weight other than 0.
    """
    weighted = {arm: weight for arm, weight in weights.items() if weight}
    if not weighted:
        raise ConfigError(
            f"weights {dict(weights)}: a contrast needs an arm with a weight; give one"
        )
    table, own = observations.table, {arm: len(observations.cases(arm)) for arm in weighted}
    positions = [observations.position(arm) for arm in weighted]
    found = np.array([p for p in positions if p is not None], dtype=np.intp)
    shared = table.shared(found) & (len(found) == len(positions))
    left_out = {arm: count - int(shared.sum()) for arm, count in own.items()}
    if not shared.any():
        return Differences(values=np.empty(0), uncertainty=None, left_out=left_out)
    weight = np.array(list(weighted.values()), dtype=float)
    arm_values = table.means[found][:, shared]
    values = weight @ arm_values
    values[np.abs(values) <= ROUNDING * (np.abs(weight) @ np.abs(arm_values))] = 0.0
    return Differences(
        values=values,
        uncertainty=_uncertainty(observations, found, weight, shared, values),
        left_out=left_out,
    )


def summarize(found: Differences, level: float) -> Contrast:
    """Estimate, intervals and test of these differences."""
    estimate, known = found.estimate, found.uncertainty
    cases = bca(found.values, level) or (None, None)
    if estimate is None or known is None:
        return Contrast(
            estimate=estimate,
            cases=len(found.values),
            case_low=cases[0],
            case_high=cases[1],
            left_out=found.left_out,
        )
    half = known.half_width(level)
    return Contrast(
        estimate=estimate,
        low=estimate - half,
        high=estimate + half,
        standard_error=known.standard_error,
        df=known.df(level),
        p_value=known.p_value(estimate),
        cases=len(found.values),
        case_low=cases[0],
        case_high=cases[1],
        left_out=found.left_out,
    )


def _uncertainty(
    observations: Observations,
    found: NDArray[np.intp],
    weight: NDArray[np.float64],
    shared: NDArray[np.bool_],
    values: NDArray[np.float64],
) -> Uncertainty | None:
    run, table, cases = observations.run_variance, observations.table, len(values)
    if run is None or cases < 2:
        return None
    loads = np.array([run_load(table, position, shared) for position in found])
    if run.source == "seeds":
        per_run = (1 / table.counts[found][:, shared]).sum(axis=1)
        overlap = run.noise * float(weight**2 @ per_run) / cases**2
    else:
        overlap = _held_by_folds(table, shared, values)
    return Uncertainty(
        runs=run.value * float(weight**2 @ loads),
        runs_df=run.df,
        cases=float(values.var(ddof=1)) / cases,
        cases_df=cases - 1,
        overlap=overlap,
    )


def run_load(table: Table, position: int, shared: NDArray[np.bool_]) -> float:
    """Σᵣ uᵣ² of an arm's mean over the shared cases; 1/R for R runs on all of them."""
    has = table.has[table.rows_of(position)][:, shared]
    shares = (has / table.counts[position, shared]).mean(axis=1)
    return float(shares @ shares)


def _held_by_folds(table: Table, shared: NDArray[np.bool_], values: NDArray[np.float64]) -> float:
    """The variance of the mean that comes from cases within their fold."""
    if table.only_fold is None:
        return 0.0
    folds = table.only_fold[shared]
    sums = 0.0
    for fold in np.unique(folds):
        members = values[folds == fold]
        if len(members) > 1:
            sums += len(members) * float(members.var(ddof=1))
    return sums / len(values) ** 2
