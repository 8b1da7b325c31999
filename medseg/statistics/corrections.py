"""Tests and intervals over cases alone, and the price of many comparisons."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from statsmodels.stats.multitest import multipletests

LEAST_BCA_CASES = 8
RESAMPLES = 1999


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction; None and NaN are no part of the family and stay None.

    Reference: Holm 1979, Scand. J. Stat. 6:65.

    >>> holm([0.01, None, 0.5])
    [0.02, None, 0.5]
    """
    known = [i for i, p in enumerate(p_values) if p is not None and not math.isnan(p)]
    corrected: list[float | None] = [None] * len(p_values)
    if known:
        raised = multipletests([p_values[i] for i in known], method="holm")[1]
        for index, p_value in zip(known, np.asarray(raised), strict=True):
            corrected[index] = float(p_value)
    return corrected


def bca(
    values: ArrayLike, level: float = 0.95, resamples: int = RESAMPLES
) -> tuple[float, float] | None:
    """Bias-corrected and accelerated bootstrap interval of the mean over cases.

    Always the same draws for the same number of cases.

    Args:
        values: One number per case; None is returned for fewer than 8.
        level: Coverage, between 0 and 1.
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
    found = stats.bootstrap(
        ((sample - least) / spread,),  # third powers of tiny numbers are 0
        np.mean,
        confidence_level=level,
        n_resamples=resamples,
        method="BCa",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(least + spread * found.low), float(least + spread * found.high)


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
    return (float(np.asarray(stats.wilcoxon(moved))[1]) if len(moved) else 1.0), least
