"""Metrics of single cases: what the cases are chosen, drawn and listed by."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from medseg.record import CaseRow
from medseg.report.arm import Arm
from medseg.report.sources import number

_SCORES: tuple[tuple[str, Callable[[CaseRow], object]], ...] = (
    ("cycle-spin residual", lambda case: case.get("cycle_spin", "cycle_spin")),
    ("gain κ", lambda case: case.get("prediction", "gain")),
)


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The artifact score that was recorded: its name and, per case, its value and its arm."""

    name: str
    by_case: Mapping[str, tuple[float, int]]


class CaseValues:
    """Every metric by arm, class and case, each the mean over the runs of its arm."""

    def __init__(self, arms: Iterable[Arm]):
        self._metrics: dict[tuple[str, int], dict[str, dict[str, float]]] = {}
        found: dict[tuple[str, int, str, str], list[float]] = {}
        for arm in arms:
            for key, value in _values(arm):
                found.setdefault(key, []).append(value)
        for (metric, arm, name, case), values in found.items():
            classes = self._metrics.setdefault((metric, arm), {})
            classes.setdefault(name, {})[case] = _mean(values)

    def by_class(self, metric: str, arm: int) -> Mapping[str, Mapping[str, float]]:
        """Class → case → value, where it is defined."""
        return self._metrics.get((metric, arm), {})

    def by_case(self, metric: str, arm: int) -> dict[str, float]:
        """Case → mean over the classes that have a value."""
        found: dict[str, list[float]] = {}
        for cases in self.by_class(metric, arm).values():
            for case, value in cases.items():
                found.setdefault(case, []).append(value)
        return {case: _mean(values) for case, values in found.items()}


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


def _values(arm: Arm) -> Iterator[tuple[tuple[str, int, str, str], float]]:
    """(Metric, arm, class, case) and value, of every run that has one."""
    for run in arm.counted:
        for case in run.record.cases:
            for name, metrics in case.metrics.items():
                for metric, value in metrics.items():
                    if not math.isnan(known := number(value)):
                        yield (metric, arm.number, name, case.case), known


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _means(arm: Arm, read: Callable[[CaseRow], object]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for run in arm.counted:
        for case in run.record.artifacts.cases if run.record.artifacts else ():
            if not math.isnan(score := number(read(case))):
                found.setdefault(case.case, []).append(score)
    return {case: _mean(scores) for case, scores in found.items()}
