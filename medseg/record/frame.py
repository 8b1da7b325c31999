"""All metric values of all runs as one tidy table, and the one way in which they are averaged.

A case is the unit. Its value in a run is the mean over the classes that are defined in that run;
its value in an arm is the mean of these over the runs of the arm. A class that one run leaves
undefined therefore never weighs more than the runs do.
"""

from collections.abc import Iterable

import pandas as pd

from medseg.record.run import RunRecord


def frame(runs: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per run × case × class × metric.

    Returns:
        Columns `run` (`RunRecord.source`), `seed`, `fold` (−1 for a single split), `case`,
        `class`, `metric`, `value` (NaN where undefined).
    """
    rows = [
        (run.source, run.seed, -1 if run.fold is None else run.fold, case.case, name, metric, value)
        for run in runs
        for case in run.cases
        for name, metrics in case.metrics.items()
        for metric, value in metrics.items()
    ]
    columns = ["run", "seed", "fold", "case", "class", "metric", "value"]
    return pd.DataFrame.from_records(rows, columns=columns).astype({"value": float})


def run_means(table: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean over the classes that are defined: one row per arm × metric × run × case.

    Args:
        table: What `frame` returns, with a column `arm`.
        by: Further columns that stay apart, for instance `class`.
    """
    keys = ["arm", "metric", "fold", "seed", "case", *by]
    return pd.DataFrame(table.groupby(keys, sort=False)["value"].mean()).reset_index()


def case_means(table: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean over classes, then over runs: one row per arm × metric × case."""
    keys = ["arm", "metric", "case", *by]
    runs = run_means(table, *by)
    return pd.DataFrame(runs.groupby(keys, sort=False)["value"].mean()).reset_index()


def summaries(table: pd.DataFrame, *by: str) -> pd.DataFrame:
    """Mean and standard deviation (n − 1) over cases, one row per arm × metric.

    Returns:
        Indexed by `(arm, metric, *by)`: `mean`, `deviation`, `cases` with a value, and of the
        single values (run × case × class) how many are `undefined`, and their `total`.
    """
    keys = ["arm", "metric", *by]
    cases = case_means(table, *by).groupby(keys, sort=False)["value"]
    singles = table.groupby(keys, sort=False)["value"]
    return pd.DataFrame(
        {
            "mean": cases.mean(),
            "deviation": cases.std(),
            "cases": cases.count(),
            "undefined": singles.size() - singles.count(),
            "total": singles.size(),
        }
    )
