"""Interval and test of an estimate whose variance has two parts, each known by few numbers.

The estimate's variance is the sum of a part v₁ of runs and a part v₂ of cases. Student's t with
Satterthwaite's degrees of freedom calls two equal arms of two seeds different in up to 8 % of
ablations, not 5 %, for v₁ rests on two numbers there. The half-width used here,

    h² = t²(df₁) · v₁ + t²(df₂) · v₂,

never errs more often than promised, whatever the shares of the parts (Banerjee 1960, Sankhyā
22:357): P(Z² ≤ x) is concave in x, and h² is, up to the true variance, the mean of t²(dfᵢ) χ²ᵢ/dfᵢ
weighted with the true shares, each of which alone would hold the level.

What v₂ shares with v₁, the noise of run × case, is taken off once: t²(df₂) · v₂ less z² · overlap.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

LEAST_LOG_P = -50.0


@dataclass(frozen=True, kw_only=True)
class Uncertainty:
    """How far an estimate may lie from the truth.

    Attributes:
        runs: Variance from the choice of trainings.
        runs_df: Its degrees of freedom, at least 1.
        cases: Variance from the choice of cases, the noise of runs included.
        cases_df: Its degrees of freedom, at least 1.
        overlap: The noise that both parts hold.

    >>> one_part = Uncertainty(runs=0.0, runs_df=3, cases=4.0, cases_df=10)
    >>> round(one_part.p_value(2.0), 4), round(one_part.df(0.95), 6)
    (0.3409, 10.0)
    """

    runs: float
    runs_df: int
    cases: float
    cases_df: int
    overlap: float = 0.0

    @property
    def standard_error(self) -> float:
        """√(runs + cases − overlap), the case term never below 0."""
        return float(np.sqrt(self.runs + max(0.0, self.cases - self.overlap)))

    def half_width(self, level: float) -> float:
        """Of the two-sided interval with at least this coverage, in (0, 1)."""
        return self._half_width((1 - level) / 2)

    def p_value(self, distance: float) -> float:
        """Two-sided p of an estimate this far from the hypothesis; 0 stands for less than 1e-49."""
        if distance == 0:
            return 1.0
        reached = np.log10(0.5), LEAST_LOG_P
        if self._half_width(10.0 ** reached[1]) <= abs(distance):
            return 0.0
        found = optimize.root_scalar(
            lambda log_p: self._half_width(10.0**log_p) - abs(distance), bracket=reached, xtol=1e-12
        )
        return float(min(1.0, 2 * 10.0**found.root))

    def p_above(self, distance: float) -> float:
        """One-sided p against "the truth is at most 0" of an estimate of `distance`."""
        half = self.p_value(distance) / 2
        return half if distance >= 0 else 1 - half

    def df(self, level: float) -> float:
        """Of the Student's t whose interval of this level is as wide, given the standard error."""
        if not self.standard_error:
            return float(self.runs_df)
        tail, wanted = (1 - level) / 2, self.half_width(level) / self.standard_error
        lowest, highest = 0.1, 1e9
        if -special.stdtrit(lowest, tail) <= wanted:
            return lowest
        if -special.stdtrit(highest, tail) >= wanted:
            return highest
        found = optimize.root_scalar(
            lambda df: -special.stdtrit(df, tail) - wanted, bracket=(lowest, highest)
        )
        return float(found.root)

    def _half_width(self, tail: float) -> float:
        case_term = special.stdtrit(self.cases_df, tail) ** 2 * self.cases
        shared = special.ndtri(tail) ** 2 * self.overlap
        run_term = special.stdtrit(self.runs_df, tail) ** 2 * self.runs
        return float(np.sqrt(run_term + max(0.0, case_term - shared)))
