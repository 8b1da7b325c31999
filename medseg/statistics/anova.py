"""Analysis of variance of run means with the factors of the arms.

Least squares with folds as blocks and type II sums of squares (Langsrud 2003, Stat. Comput.
13:163). The error is what the model leaves: the spread of trainings, and interactions of three and
more factors. A run's mean is that of its values less what all runs of its fold reach on the same
cases, so that a run without its hardest case does not look better for it.
"""

import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
import statsmodels.formula.api as formulas
from numpy.typing import NDArray
from patsy.highlevel import dmatrix
from statsmodels.stats.anova import anova_lm

from medseg.statistics.table import Table

ROUNDING = 1e-12
Factors = tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Term:
    """A main effect or a two-way interaction.

    Attributes:
        factors: One name, or two.
        df: Degrees of freedom, 0 if it cannot be told from others.
        f: F; None with `reason`.
        p_value: Of F; None with `reason`.
        share: Its sum of squares over that between arms; None if not estimable.
        reason: Why there is no F; empty if there is one.
    """

    factors: Factors
    df: int = 0
    f: float | None = None
    p_value: float | None = None
    share: float | None = None
    reason: str = ""


def anova(
    table: Table, grid: Mapping[int, Mapping[str, str]], named: Mapping[str, Sequence[str]]
) -> list[Term]:
    """Tests every factor and every pair of factors.

    Args:
        table: Values of all arms.
        grid: For each arm that takes part its level of every factor.
        named: For each factor its levels, at least two.
    """
    frame = _run_means(table, grid, list(named))
    terms = [*((name,) for name in named), *itertools.combinations(named, 2)]
    columns = {name: f"C(x{index}, Sum)" for index, name in enumerate(named)}
    texts = {term: ":".join(columns[name] for name in term) for term in terms}
    blocks = ["C(fold, Sum)"] if len(set(frame["fold"])) > 1 else []
    reasons = _reasons(frame, named, texts, blocks)
    kept = [term for term in terms if term not in reasons]
    tested = _tested(frame, {term: texts[term] for term in kept}, blocks)
    return [tested.get(term) or Term(factors=term, reason=reasons[term]) for term in terms]


def _run_means(
    table: Table, grid: Mapping[int, Mapping[str, str]], names: Sequence[str]
) -> pd.DataFrame:
    """A row per run: its mean, its fold, and its levels in the columns x0, x1 and so on."""
    taking_part = np.isin(table.arm, [table.arms.index(arm) for arm in grid])
    rows = []
    for fold in np.unique(table.fold):
        runs = np.flatnonzero((table.fold == fold) & taking_part)
        values = table.values[runs][:, table.has[runs].any(axis=0)]
        means = np.nanmean(values - np.nanmean(values, axis=0), axis=1) if len(runs) else []
        for run, mean in zip(runs, means, strict=True):
            arm = table.arms[table.arm[run]]
            rows.append((mean, str(fold), arm, *(grid[arm][name] for name in names)))
    frame = pd.DataFrame(rows, columns=["y", "fold", "arm", *(f"x{i}" for i in range(len(names)))])
    largest = np.nanmax(np.abs(table.values))
    frame.loc[frame["y"].abs() <= ROUNDING * largest, "y"] = 0.0
    return frame


def _reasons(
    frame: pd.DataFrame,
    named: Mapping[str, Sequence[str]],
    texts: Mapping[Factors, str],
    blocks: Sequence[str],
) -> dict[Factors, str]:
    """The terms that these arms cannot tell from others, each with the reason."""
    rows = frame.drop(columns=["y", "arm"]).drop_duplicates()
    design = cast("Any", dmatrix(" + ".join(["1", *blocks, *texts.values()]), rows))
    matrix, slices = np.asarray(design), design.design_info.term_name_slices
    columns = {term: slices[text] for term, text in texts.items()}
    base = np.column_stack([matrix[:, slices[text]] for text in ["Intercept", *blocks]])
    mains = [term for term in texts if len(term) == 1]
    together = "always changes together with another factor"
    reasons = dict.fromkeys(_aliased(base, matrix, columns, mains), together)
    base = np.column_stack(
        [base, *(matrix[:, columns[term]] for term in mains if term not in reasons)]
    )
    pairs = []
    for term in (term for term in texts if len(term) == 2):
        levels = frame[[f"x{list(named).index(name)}" for name in term]]
        if any((name,) in reasons for name in term):
            reasons[term] = "one of its factors cannot be told from another"
        elif len(levels.drop_duplicates()) < len(named[term[0]]) * len(named[term[1]]):
            reasons[term] = "no arm has some combinations of its levels"
        else:
            pairs.append(term)
    mixed = "cannot be told from other effects on these arms"
    return reasons | dict.fromkeys(_aliased(base, matrix, columns, pairs), mixed)


def _aliased(
    base: NDArray[np.float64],
    matrix: NDArray[np.float64],
    columns: Mapping[Factors, slice],
    asked: Sequence[Factors],
) -> list[Factors]:
    """Terms of `asked` without all their freedom beside `base` and the other ones asked."""

    def rank(terms: Sequence[Factors]) -> int:
        design = np.column_stack([base, *(matrix[:, columns[term]] for term in terms)])
        return int(np.linalg.matrix_rank(design.T @ design, hermitian=True))

    whole = rank(asked)
    return [
        term
        for term in asked
        if whole - rank([other for other in asked if other != term])
        < columns[term].stop - columns[term].start
    ]


def _tested(
    frame: pd.DataFrame, texts: Mapping[Factors, str], blocks: Sequence[str]
) -> dict[Factors, Term]:
    if not texts:
        return {}
    fitted = formulas.ols("y ~ " + " + ".join([*blocks, *texts.values()]), frame).fit()
    between, degrees = _between_arms(frame), round(fitted.df_resid)
    error_known = degrees > 0 and fitted.ssr > ROUNDING * fitted.centered_tss > 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")  # an error of 0 divides F; it is not reported then
        rows = anova_lm(fitted, typ=2)
    found = {}
    for term, text in texts.items():
        row = rows.loc[text]
        squares = max(0.0, float(row["sum_sq"]))
        found[term] = Term(
            factors=term,
            df=round(row["df"]),
            f=float(row["F"]) if error_known else None,
            p_value=float(row["PR(>F)"]) if error_known else None,
            share=min(1.0, squares / between) if between else None,
            reason="" if error_known else _no_error(degrees),
        )
    return found


def _no_error(degrees: int) -> str:
    if degrees <= 0:
        return "no run is left to tell how far trainings differ; it needs more seeds"
    return "trainings do not differ"


def _between_arms(frame: pd.DataFrame) -> float:
    """Sum of squares between arms after folds; exact if all arms have the same folds."""
    y = frame["y"] - frame.groupby("fold")["y"].transform("mean")
    means = np.asarray(y.groupby(frame["arm"]).transform("mean"))
    return float(means @ means)
