"""What a report is made of: arms, one frame of their metrics, and the comparisons per dataset."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import get_args

import pandas as pd

from medseg.errors import ConfigError
from medseg.plotting import HIGHLIGHTS
from medseg.record import METRICS, AblationPlan, Cell, RunRecord
from medseg.record.frame import frame, run_means, summaries
from medseg.report.arms import Arm, arms_of, missing_cells, names_of_datasets, read_sources
from medseg.report.labels import labelled
from medseg.statistics import (
    Comparison,
    Effect,
    Observations,
    compare,
    effects,
)

PRIMARY = "dice"  # what ranks, what factors and variances are taken of
MARGIN = 0.01


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared on one dataset.

    Args:
        dataset: Its name; empty if it was not recorded.
        arms: All its arms, those without a result too.
        plans: Of these arms.
        reference: The arm that the others are compared with.
        why: Why that one.
        caution: What speaks against it; empty if nothing.
        margin: For Dice and surface Dice.
        observations: Metric → values, of the metrics that the reference has.
        comparisons: The columns of `medseg.statistics.Comparison` and `metric`; by each metric the
            arms from the best to the worst, the reference at its place with that as its verdict.
    """

    dataset: str
    arms: tuple[Arm, ...]
    plans: tuple[AblationPlan, ...]
    reference: Arm
    why: str
    caution: str
    margin: float
    observations: Mapping[str, Observations]
    comparisons: pd.DataFrame

    @property
    def name(self) -> str:
        """The dataset's name for readers."""
        return self.dataset or "an unnamed dataset"

    @cached_property
    def compared(self) -> tuple[Arm, ...]:
        """Arms with a Dice."""
        known = set(self.observations[PRIMARY].arms)
        return tuple(arm for arm in self.arms if arm.number in known)

    @cached_property
    def in_grid(self) -> tuple[Arm, ...]:
        """Compared arms with the factors that most of them share."""
        known = [arm for arm in self.compared if arm.levels]
        sets = [frozenset(arm.levels) for arm in known]
        if not sets:
            return ()
        chosen = max(dict.fromkeys(sets), key=lambda names: (sets.count(names), len(names)))
        return tuple(arm for arm in known if frozenset(arm.levels) == chosen)

    @cached_property
    def effects(self) -> list[Effect]:
        """Main effects on Dice, then two-way interactions; empty if no factor varies."""
        if not self.in_grid:
            return []
        return effects(
            self.observations[PRIMARY],
            {arm.number: arm.levels for arm in self.in_grid},
            self.reference.levels if self.reference in self.in_grid else None,
        )

    def by(self, metric: str = PRIMARY, *, reference: bool = False) -> pd.DataFrame:
        """The comparisons by one metric, best first, with or without the reference's row."""
        own = self.comparisons["metric"] == metric
        if not reference:
            own &= self.comparisons["verdict"] != "reference"
        return self.comparisons.loc[own]

    def labels(self, numbers: Sequence[int]) -> list[str]:
        """The labels of these arms."""
        known = {arm.number: arm.label for arm in self.arms}
        return [known[number] for number in numbers]


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that the sections show.

    Args:
        arms: All arms; their runs are all readable ones, without the metrics of their cases.
        values: Every metric value of every run (`medseg.record.frame`), with `arm` in front.
        frame: Of these, those of the runs that count.
        plans: All readable plans of ablations.
        unreadable: Each file that is neither record nor plan, with the reason.
        missing: Cells of plans without a record.
        changed: Datasets whose files changed between runs.
        reference: Label or number of the arm that the reader wants as the reference.
        margin: Differences of Dice and surface Dice that do not matter to the reader.
    """

    arms: tuple[Arm, ...]
    values: pd.DataFrame
    frame: pd.DataFrame
    plans: tuple[AblationPlan, ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[tuple[AblationPlan, Cell], ...] = ()
    changed: tuple[str, ...] = ()
    reference: str | None = None
    margin: float | None = None

    @property
    def runs(self) -> list[RunRecord]:
        """All runs, arm by arm."""
        return [run for arm in self.arms for run in arm.runs]

    @cached_property
    def states(self) -> Counter[str]:
        """State → runs: the statuses of all records, and `missing` for cells without one.

        Every count of runs in a report is taken from here.
        """
        return Counter(run.status for run in self.runs) + Counter(missing=len(self.missing))

    @property
    def without_result(self) -> dict[str, int]:
        """The states of runs that give no number, with how many there are."""
        return {state: n for state, n in self.states.items() if state != "completed"}

    @cached_property
    def costs(self) -> pd.DataFrame:
        """Arm → means over its counted runs, of memory the largest; NaN where unknown."""
        rows = [
            {
                "arm": arm.number,
                "parameters": run.parameters,
                "macs": run.macs,
                "step": run.seconds.get("step"),
                "train": run.seconds.get("train"),
                "memory": run.peak_memory_bytes,
            }
            for arm in self.arms
            for run in arm.counted
        ]
        means = ("parameters", "macs", "step", "train")
        table = pd.DataFrame(rows, columns=["arm", *means, "memory"], dtype=float)
        how = dict.fromkeys(means, "mean") | {"memory": "max"}
        return table.groupby("arm").agg(how).reindex([arm.number for arm in self.arms])

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """One study for every dataset on which an arm has a Dice.

        Raises:
            ConfigError: a reference that is not there, or a margin below 0.
        """
        wanted = _wanted_arm(self.arms, self.reference)
        datasets = dict.fromkeys(arm.dataset for arm in self.arms)
        found = (_study(self, dataset, wanted) for dataset in datasets)
        return tuple(study for study in found if study)

    @cached_property
    def style(self) -> dict[int, int]:
        """Arm → place in the palette, for the references and the best arms; others are grey."""
        means = summaries(self.frame)["mean"].to_dict()
        rank = {arm.number: means.get((arm.number, PRIMARY), math.nan) for arm in self.arms}
        rank = {arm: -math.inf if math.isnan(mean) else mean for arm, mean in rank.items()}
        rank |= {study.reference.number: math.inf for study in self.studies}
        best = sorted(rank, key=lambda arm: (-rank[arm], arm))[:HIGHLIGHTS]
        return {arm: place for place, arm in enumerate(sorted(best))}


def collect(
    sources: Sequence[Path], *, reference: str | None = None, margin: float | None = None
) -> ReportData:
    """Reads all records and plans below `sources` and sorts the records into arms.

    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    runs, plans, unreadable = read_sources([Path(source) for source in sources])
    values = frame(runs)
    datasets = names_of_datasets(runs)
    changed = {run.dataset for run, name in zip(runs, datasets, strict=True) if run.dataset != name}
    # From here on values stand in the frame alone, so that nothing averages them another way.
    bare = [
        replace(run, dataset=name, cases=[replace(case, metrics={}) for case in run.cases])
        for run, name in zip(runs, datasets, strict=True)
    ]
    arms = labelled(arms_of(bare, plans))
    numbers = {run.source: arm.number for arm in arms for run in arm.runs}
    values.insert(0, "arm", [numbers[run] for run in values["run"]])
    values = values.sort_values("arm", kind="stable", ignore_index=True)
    counted = [run.source for arm in arms for run in arm.counted]
    return ReportData(
        arms=arms,
        values=values,
        frame=values.loc[values["run"].isin(counted)],
        plans=tuple(plans),
        unreadable=unreadable,
        missing=tuple(missing_cells(plans, bare, unreadable)),
        changed=tuple(sorted(changed)),
        reference=reference,
        margin=margin,
    )


def _study(data: ReportData, dataset: str, wanted: Arm | None) -> Study | None:
    arms = tuple(arm for arm in data.arms if arm.dataset == dataset)
    wanted = wanted if wanted in arms else None
    values = run_means(data.frame).dropna(subset=["value"])
    values = values[values["arm"].isin([arm.number for arm in arms])]
    by_metric = {metric: values[values["metric"] == metric] for metric in METRICS}
    with_dice = set(by_metric[PRIMARY]["arm"])
    if not with_dice and wanted is None:
        return None
    paths = [run.path for arm in arms for run in arm.runs]
    plans = tuple(plan for plan in data.plans if any(plan.holds(path) for path in paths))
    reference, why, caution = _reference(arms, with_dice, plans, wanted)
    margin = data.margin
    if margin is None:
        margin = min((float(plan.margin) for plan in plans), default=MARGIN)
    observations = {
        metric: Observations(rows)
        for metric, rows in by_metric.items()
        if reference.number in set(rows["arm"])
    }
    compared = [
        _compared(metric, found, reference.number, why, margin)
        for metric, found in observations.items()
    ]
    return Study(
        dataset=dataset,
        arms=arms,
        plans=plans,
        reference=reference,
        why=why,
        caution=caution,
        margin=margin,
        observations=observations,
        comparisons=pd.concat(compared, ignore_index=True),
    )


def _compared(
    metric: str, observations: Observations, reference: int, why: str, margin: float
) -> pd.DataFrame:
    """All arms by one metric, best first."""
    higher = not METRICS[metric].lower_is_better
    own_margin = None if METRICS[metric].unit else margin  # a margin is one of a share
    found = compare(observations, reference, margin=own_margin, higher_is_better=higher)
    rows = [
        asdict(one)
        | {
            "outliers": "; ".join(one.outliers),
            "left_out": one.left_out.get(one.arm, 0),
            "left_out_reference": one.left_out.get(reference, 0),
        }
        for one in found
    ]
    seeds, cases = observations.seeds(reference), len(observations.cases(reference))
    rows.append(
        {"arm": reference, "reference": reference, "estimate": 0.0, "cases": cases}
        | {"seeds": seeds, "reference_seeds": seeds, "left_out": 0, "left_out_reference": 0}
        | {"verdict": "reference", "reason": why, "outliers": ""}
    )
    columns = [*(one.name for one in fields(Comparison)), "left_out_reference"]
    numbers = [one.name for one in fields(Comparison) if float in get_args(one.type)]
    table = pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(numbers, float))
    gain, other = table["estimate"] * (1 if higher else -1), table["verdict"] != "reference"
    table = table.assign(metric=metric, gain=gain, other=other)
    order = table.sort_values(["gain", "other", "arm"], ascending=[False, True, True])
    return order.drop(columns=["gain", "other"])


def _wanted_arm(arms: Sequence[Arm], name: str | None) -> Arm | None:
    """The arm of that label, or else of that number; None if nothing is asked for.

    Raises:
        ConfigError: no arm is called so.
    """
    if name is None:
        return None
    for name_of in (lambda arm: arm.label, lambda arm: str(arm.number)):
        found = next((arm for arm in arms if name_of(arm) == name.strip()), None)
        if found is not None:
            return found
    known = "; ".join(f"{arm.number}: {arm.label}" for arm in arms[:20])
    more = f"; and {len(arms) - 20} more" if len(arms) > 20 else ""
    raise ConfigError(f"reference={name}: no arm has that label or number; arms are {known}{more}")


def _reference(
    arms: Sequence[Arm], valued: set[int], plans: Sequence[AblationPlan], wanted: Arm | None
) -> tuple[Arm, str, str]:
    """The wanted arm, else the one that a plan names, else the first; why; what is against it.

    Raises:
        ConfigError: the wanted arm has no values.
    """
    if wanted is not None:
        if wanted.number not in valued:
            raise ConfigError(
                f"reference={wanted.label}: no completed run of it has a value to compare with; "
                "name another arm"
            )
        return wanted, "as asked for", ""
    for arm in (arm for plan in plans for arm in arms if arm.levels == plan.reference):
        if arm.levels and arm.number in valued:
            return arm, "named in the plan", ""
    first = next(arm for arm in arms if arm.number in valued)
    asked = next((plan.reference for plan in plans if plan.reference), None)
    if asked is None:
        return first, "the first arm", ""
    levels = " · ".join(asked.values())
    caution = f"The plan’s reference, {levels}, has no result; {first.label} stands in for it."
    return first, "the first arm with a result", caution
