"""Numbers of the arms: the case is the unit, runs are averaged before anything is spread."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from medseg.record import RunRecord
from medseg.report.arm import Arm, repetition
from medseg.report.plans import Missing
from medseg.report.sources import Run, number

METRICS = {"dice": "Dice", "surface_dice": "Surface Dice", "hd95_mm": "HD95"}
DIGITS = {"dice": 3, "surface_dice": 3, "hd95_mm": 2}
_KEYS = ["arm", "metric", "fold", "seed", "case"]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A metric over cases.

    Args:
        mean: Mean over cases, NaN where none is defined.
        deviation: Standard deviation over cases (n - 1), NaN for fewer than two.
        cases: Cases with a value.
        undefined: Single values (run × case × class) without one.
        total: All single values.
    """

    mean: float
    deviation: float
    cases: int
    undefined: int
    total: int


class Values:
    """Every metric of the counted runs: one row per arm × fold × seed × case × class × metric."""

    def __init__(self, arms: Iterable[Arm]):
        rows = [
            (arm.number, *repetition(run.record), *line)
            for arm in arms
            for run in arm.counted
            for line in _lines(run.record)
        ]
        columns = ["arm", "fold", "seed", "case", "class", "metric", "value"]
        self._frame = pd.DataFrame(rows, columns=columns).astype({"value": float})

    def classes(self, arm: int) -> list[str]:
        """Classes with metrics in an arm, in order of appearance."""
        return self._classes.get(arm, [])

    def of_runs(self, metric: str, arms: Iterable[int]) -> list[tuple[int, int, int, str, float]]:
        """(arm, fold, seed, case, mean over classes) of every run; NaN where none is defined."""
        return [row for arm in arms for row in self._run_rows.get((arm, metric), [])]

    def by_case(self, arm: int, metric: str) -> dict[str, float]:
        """Case → mean over classes, then over runs; undefined cases are left out."""
        return self._cases.get((arm, metric), {})

    def summary(self, arm: int, metric: str, name: str | None = None) -> Summary | None:
        """The metric over cases, of one class if `name` is given; None if it was not recorded."""
        if name is None:
            return self._summaries.get((arm, metric))
        return self._class_summaries.get((arm, metric, name))

    @cached_property
    def _run_rows(self) -> dict[tuple[int, str], list[tuple[int, int, int, str, float]]]:
        found: dict[tuple[int, str], list[tuple[int, int, int, str, float]]] = {}
        for arm, metric, *rest in self._by_run.itertuples(index=False, name=None):
            fold, seed, case, value = rest
            found.setdefault((arm, metric), []).append((arm, fold, seed, case, value))
        return found

    @cached_property
    def _by_run(self) -> pd.DataFrame:
        return _mean(self._frame, _KEYS)

    @cached_property
    def _cases(self) -> dict[tuple[int, str], dict[str, float]]:
        found: dict[tuple[int, str], dict[str, float]] = {}
        means = _mean(self._by_run, ["arm", "metric", "case"]).dropna()
        for arm, metric, case, value in means.itertuples(index=False, name=None):
            found.setdefault((arm, metric), {})[case] = value
        return found

    @cached_property
    def _classes(self) -> dict[int, list[str]]:
        found: dict[int, dict[str, None]] = {}
        pairs = zip(self._frame["arm"].tolist(), self._frame["class"].tolist(), strict=True)
        for arm, name in dict.fromkeys(pairs):
            found.setdefault(arm, {})[name] = None
        return {arm: list(names) for arm, names in found.items()}

    @cached_property
    def _summaries(self) -> dict[Any, Summary]:
        return _summaries(self._frame, self._by_run, ["arm", "metric"])

    @cached_property
    def _class_summaries(self) -> dict[Any, Summary]:
        keys = ["arm", "metric", "class"]
        return _summaries(self._frame, _mean(self._frame, [*_KEYS, "class"]), keys)


def of_runs(arm: Arm, read: Callable[[RunRecord], object]) -> list[float]:
    """One quantity of every counted run that knows it."""
    found = (number(read(run.record)) for run in arm.counted)
    return [value for value in found if not math.isnan(value)]


def mean(numbers: Sequence[float]) -> float:
    """The mean, NaN of nothing."""
    return statistics.fmean(numbers) if numbers else math.nan


def worst_gain(record: RunRecord) -> float:
    """The largest DC-gain imbalance of the upsampling layers, NaN where there is none."""
    gains = [number(gain.imbalance) for gain in record.upsampling]
    return max((gain for gain in gains if not math.isnan(gain)), default=math.nan)


def long_form(arms: Sequence[Arm], missing: Sequence[Missing]) -> pd.DataFrame:
    """All runs in tidy form: one row per run × case × class × metric, with arm, seed, status.

    A run without metrics, and a missing cell of an ablation, keeps one row of its own, so that
    what is counted in this table is what was asked for.
    """
    rows = []
    for arm in arms:
        for run in arm.runs:
            rows += [
                (*_head(arm.label, run), *line)
                for line in _lines(run.record) or [("", "", "", math.nan)]
            ]
    for gap in missing:
        fold = "" if gap.cell.fold is None else str(gap.cell.fold)
        name = gap.found.plan.name
        head = (gap.text, name, "missing", str(gap.cell.seed), fold, "", gap.cell.digest, "")
        rows.append((*head, "", "", "", math.nan))
    columns = ["arm", "run", "status", "seed", "fold", "dataset", "digest", "record"]
    return pd.DataFrame(rows, columns=[*columns, "case", "class", "metric", "value"])


def _head(label: str, run: Run) -> tuple[str, ...]:
    record = run.record
    fold = "" if record.fold is None else str(record.fold)
    about = (record.name, record.status, str(record.seed), fold, record.dataset, record.digest)
    return (label, *about, run.source)


def _lines(record: RunRecord) -> list[tuple[str, str, str, float]]:
    return [
        (case.case, name, metric, number(value))
        for case in record.cases
        for name, metrics in case.metrics.items()
        for metric, value in metrics.items()
    ]


def _summaries(frame: pd.DataFrame, by_run: pd.DataFrame, keys: list[str]) -> dict[Any, Summary]:
    """Key → summary: `by_run` averaged over runs, then spread over cases."""
    cases = _mean(by_run, [*keys, "case"]).groupby(keys, sort=False)["value"]
    singles = frame.groupby(keys, sort=False)["value"]
    parts = {
        "mean": cases.mean(),
        "deviation": cases.std(),
        "cases": cases.count(),
        "defined": singles.count(),
        "total": singles.size(),
    }
    table = pd.DataFrame(parts)
    return {
        key: Summary(
            mean=float(row[0]),
            deviation=float(row[1]),
            cases=int(row[2]),
            undefined=int(row[4] - row[3]),
            total=int(row[4]),
        )
        for key, row in zip(table.index, table.to_numpy(dtype=float), strict=True)
    }


def _mean(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Mean of `value` within `keys`, over what is defined."""
    means = frame.groupby(keys, sort=False)["value"].mean()
    return pd.DataFrame(means).reset_index()
