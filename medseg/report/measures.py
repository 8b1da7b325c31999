"""Numbers of the arms: the case is the unit, seeds are averaged before anything is spread."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from medseg.record import RunRecord
from medseg.report.collect import Arm
from medseg.report.sources import Run, number

METRICS = {"dice": "Dice", "surface_dice": "Surface Dice", "hd95_mm": "HD95"}
DIGITS = {"dice": 3, "surface_dice": 3, "hd95_mm": 2}


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A metric over cases.

    Args:
        mean: Mean over cases, NaN where none is defined.
        deviation: Standard deviation over cases (n - 1), NaN for fewer than two.
        cases: Cases with a value.
        undefined: Single values (seed × case × class) without one.
        total: All single values.
    """

    mean: float
    deviation: float
    cases: int
    undefined: int
    total: int


class Values:
    """Every metric of the counted runs: one row per arm × seed × case × class × metric."""

    def __init__(self, arms: Iterable[Arm]):
        rows = [
            (arm.number, run.record.seed, *line)
            for arm in arms
            for run in arm.counted
            for line in _lines(run.record)
        ]
        columns = ["arm", "seed", "case", "class", "metric", "value"]
        self._frame = pd.DataFrame(rows, columns=columns).astype({"value": float})

    def classes(self, arm: int) -> list[str]:
        """Classes with metrics in an arm, in order of appearance."""
        return list(dict.fromkeys(self._frame.loc[self._frame["arm"] == arm, "class"]))

    def by_case(self, arm: int, metric: str) -> dict[str, float]:
        """Case → mean over seeds, then over classes; undefined cases are left out."""
        one = self._of(arm, metric)
        seeds = _mean(one, ["case", "class"])
        return _plain(_mean(seeds, ["case"]))

    def by_seed(self, arm: int, metric: str) -> dict[int, float]:
        """Seed → mean over the cases of that run."""
        cases = _mean(self._of(arm, metric), ["seed", "case"])
        return _plain(_mean(cases, ["seed"]))

    def summary(self, arm: int, metric: str, name: str | None = None) -> Summary | None:
        """The metric over cases, of one class if `name` is given; None if it was not recorded."""
        one = self._of(arm, metric)
        if name is not None:
            one = one.loc[one["class"] == name]
        if one.empty:
            return None
        cases = list(_plain(_mean(_mean(one, ["case", "class"]), ["case"])).values())
        return Summary(
            mean=mean(cases),
            deviation=deviation(cases),
            cases=len(cases),
            undefined=sum(map(math.isnan, one["value"].tolist())),
            total=len(one),
        )

    def _of(self, arm: int, metric: str) -> pd.DataFrame:
        frame = self._frame
        return frame.loc[(frame["arm"] == arm) & (frame["metric"] == metric)]


def of_runs(arm: Arm, read: Callable[[RunRecord], object]) -> list[float]:
    """One quantity of every counted run that knows it."""
    found = (number(read(run.record)) for run in arm.counted)
    return [value for value in found if not math.isnan(value)]


def mean(numbers: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return statistics.fmean(numbers) if numbers else math.nan


def deviation(numbers: Sequence[float]) -> float:
    """The standard deviation (n - 1), NaN of fewer than two."""
    return statistics.stdev(numbers) if len(numbers) > 1 else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's rule, in their own order; NaN counts as none.

    >>> [round(p, 3) for p in holm([0.01, 0.04, math.nan, 0.03])]
    [0.03, 0.06, nan, 0.06]
    """
    order = sorted((p, place) for place, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = list(p_values), 0.0
    for rank, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - rank)))
        corrected[place] = largest
    return corrected


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
        rows += [(*head, *line) for line in _lines(record) or [("", "", "", math.nan)]]
    rows += [(cell, "", "missing", "", "", "", "", "", "", math.nan) for cell in missing]
    columns = ["arm", "run", "status", "seed", "dataset", "record"]
    return pd.DataFrame(rows, columns=[*columns, "case", "class", "metric", "value"])


def _lines(record: RunRecord) -> list[tuple[str, str, str, float]]:
    return [
        (case.case, name, metric, number(value))
        for case in record.cases
        for name, metrics in case.metrics.items()
        for metric, value in metrics.items()
    ]


def _mean(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean of `value` within `keys`, over what is defined."""
    means = frame.groupby(keys, sort=False)["value"].mean()
    return pd.DataFrame(means).reset_index()


def _plain(frame: pd.DataFrame) -> dict[Any, float]:
    """First column → value, where it is defined."""
    pairs = zip(frame.iloc[:, 0].tolist(), frame["value"].tolist(), strict=True)
    return {key: value for key, value in pairs if not math.isnan(value)}
