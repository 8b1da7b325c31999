"""Metrics of single cases: what the cases are chosen, drawn and listed by."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from medseg.record import CaseArtifacts
from medseg.report.arm import Arm
from medseg.report.sources import number

_SCORES: tuple[tuple[str, Callable[[CaseArtifacts], object]], ...] = (
    ("cycle-spin residual", lambda case: case.cycle_spin.get("residual")),
    ("gain κ", lambda case: case.prediction.get("gain")),
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The artifact score that was recorded: its name and, per case, its value and its arm."""

    name: str
    by_case: Mapping[str, tuple[float, int]]


class CaseValues:
    """Every metric by arm, class and case, each the mean over the runs of its arm."""

    def __init__(self, arms: Iterable[Arm]):
        rows = [
            (arm.number, name, case.case, metric, number(value))
            for arm in arms
            for run in arm.counted
            for case in run.record.cases
            for name, metrics in case.metrics.items()
            for metric, value in metrics.items()
        ]
        columns = ["arm", "class", "case", "metric", "value"]
        frame = pd.DataFrame(rows, columns=columns).astype({"value": float}).dropna()
        means = frame.groupby(["metric", "arm", "class", "case"], sort=False)["value"].mean()
        self._metrics: dict[str, dict[int, dict[str, dict[str, float]]]] = {}
        for (metric, arm, name, case), value in means.to_dict().items():
            arms_of = self._metrics.setdefault(str(metric), {})
            arms_of.setdefault(arm, {}).setdefault(name, {})[case] = value

    def by_class(self, metric: str, arm: int) -> Mapping[str, Mapping[str, float]]:
        """Class → case → value, where it is defined."""
        return self._metrics.get(metric, {}).get(arm, {})

    def by_case(self, metric: str, arm: int) -> dict[str, float]:
        """Case → mean over the classes that have a value."""
        found: dict[str, list[float]] = {}
        for cases in self.by_class(metric, arm).values():
            for case, value in cases.items():
                found.setdefault(case, []).append(value)
        return {case: math.fsum(values) / len(values) for case, values in found.items()}


def artifact_scores(arms: Iterable[Arm]) -> Scores | None:
    """Per case the largest score of any arm: cycle-spin residual, or gain where there is none.

    A case's score in an arm is the mean over the arm's runs; None if nothing was recorded.
    """
    arms = list(arms)
    for name, read in _SCORES:
        largest: dict[str, tuple[float, int]] = {}
        for arm in arms:
            for case, score in _means(arm, read).items():
                largest[case] = max(largest.get(case, (score, arm.number)), (score, arm.number))
        if largest:
            return Scores(name=name, by_case=largest)
    return None


def _means(arm: Arm, read: Callable[[CaseArtifacts], object]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in arm.counted:
        for case in run.record.artifacts.cases if run.record.artifacts else ():
            if not math.isnan(score := number(read(case))):
                found.setdefault(case.case, []).append(score)
    return {case: math.fsum(scores) / len(scores) for case, scores in found.items()}
