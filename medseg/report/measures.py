"""Numbers of the arms: the case is the unit, seeds are averaged before anything is spread."""

import math
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from medseg.record import RunRecord
from medseg.report.collect import Arm
from medseg.report.sources import Run, number

METRICS = {"dice": "Dice", "surface_dice": "Surface Dice", "hd95_mm": "HD95"}
DIGITS = {"dice": 3, "surface_dice": 3, "hd95_mm": 2}

_COLUMNS = ["arm", "source", "seed", "case", "class", "metric", "value"]


def values(arms: Iterable[Arm]) -> pd.DataFrame:
    """Every metric of the counted runs: one row per arm × seed × case × class × metric."""
    rows = [
        (arm.number, run.source, run.record.seed, case.case, name, metric, number(value))
        for arm in arms
        for run in arm.counted
        for case in run.record.cases
        for name, metrics in case.metrics.items()
        for metric, value in metrics.items()
    ]
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"value": float})


def by_case(frame: pd.DataFrame, *, per_class: bool = False) -> pd.DataFrame:
    """One value per arm × metric (× class) × case: mean over seeds, then over classes."""
    classes = frame.groupby(["arm", "metric", "class", "case"], sort=False)["value"].mean()
    if per_class:
        return classes.reset_index()
    return classes.groupby(["arm", "metric", "case"], sort=False).mean().reset_index()


def summary(frame: pd.DataFrame, *, per_class: bool = False) -> pd.DataFrame:
    """Mean, SD (n-1) and n over cases, and how many single values were undefined.

    Returns:
        Columns `mean`, `std`, `n`, `undefined`, `total`, indexed by arm × metric (× class).
    """
    keys = ["arm", "metric", "class"] if per_class else ["arm", "metric"]
    over_cases = by_case(frame, per_class=per_class).groupby(keys)["value"]
    single = frame.groupby(keys)["value"]
    return pd.DataFrame(
        {
            "mean": over_cases.mean(),
            "std": over_cases.std(ddof=1),
            "n": over_cases.count(),
            "total": single.size(),
            "undefined": single.size() - single.count(),
        }
    )


def seed_means(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Mean of a metric over the cases of each single run: columns `arm`, `seed`, `value`."""
    one = frame[frame["metric"] == metric]
    cases = one.groupby(["arm", "seed", "case"])["value"].mean()
    return cases.groupby(["arm", "seed"]).mean().dropna().reset_index()


def of_runs(arm: Arm, read: Callable[[RunRecord], object]) -> list[float]:
    """One quantity of every counted run that knows it."""
    found = (number(read(run.record)) for run in arm.counted)
    return [value for value in found if not math.isnan(value)]


def mean(numbers: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return sum(numbers) / len(numbers) if numbers else math.nan


def worst_gain(record: RunRecord) -> float:
    """The largest DC-gain imbalance of the upsampling layers, NaN where there is none."""
    gains = [number(gain.imbalance) for gain in record.upsampling]
    return max((gain for gain in gains if not math.isnan(gain)), default=math.nan)


def long_form(runs: Sequence[tuple[str, Run]], missing: Sequence[str]) -> pd.DataFrame:
    """All runs in tidy form: one row per run × case × class × metric, with arm, seed, status.

    A run without metrics, and a missing cell of a sweep, keeps one row of its own, so that
    what is counted in this table is what was asked for.

    Args:
        runs: The arm's label and the run.
        missing: Missing cells, as text.
    """
    rows = []
    for label, run in runs:
        record = run.record
        head = (label, record.name, record.status, str(record.seed), record.dataset, run.source)
        lines = [
            (case.case, name, metric, number(value))
            for case in record.cases
            for name, metrics in case.metrics.items()
            for metric, value in metrics.items()
        ]
        rows += [(*head, *line) for line in lines or [("", "", "", math.nan)]]
    rows += [(cell, "", "missing", "", "", "", "", "", "", math.nan) for cell in missing]
    columns = ["arm", "run", "status", "seed", "dataset", "record"]
    return pd.DataFrame(rows, columns=[*columns, "case", "class", "metric", "value"])
