"""What a report is made of: arms, one frame of their metrics, and the comparisons per dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from medseg.errors import ConfigError
from medseg.record import METRICS, RunRecord
from medseg.record.frame import case_means, frame, run_means, summaries
from medseg.report.arms import (
    Arm,
    FoundPlan,
    Missing,
    Unreadable,
    arms_of,
    missing_cells,
    read_plans,
    read_runs,
)
from medseg.report.figures import styles
from medseg.report.labels import labelled
from medseg.statistics import (
    Comparison,
    Detectable,
    Effect,
    Observations,
    compare,
    effects,
    probability_of_best,
    smallest_detectable,
    variance_components,
)

PRIMARY = "dice"  # what ranks, what factors and variances are taken of
MARGIN = 0.01


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the reader asked for; None where nothing was asked.

    Args:
        reference: Label or number of an arm.
        margin: Differences of Dice and surface Dice up to this one are of no consequence.
    """

    reference: str | None = None
    margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """The arms of one dataset by one metric.

    Args:
        metric: Its key in records.
        margin: Differences up to this one are of no consequence; None: no such margin.
        observations: The values compared.
        comparisons: Every arm but the reference, best first.
        best: Arm → probability that it is the best of all.
    """

    metric: str
    margin: float | None
    observations: Observations
    comparisons: tuple[Comparison, ...]
    best: Mapping[int, float]

    def of(self, arm: int) -> Comparison | None:
        """An arm's comparison; None for the reference and for arms without values."""
        return next((found for found in self.comparisons if found.arm == arm), None)

    def called(self, verdict: str) -> list[Comparison]:
        """The comparisons with this verdict, best first."""
        return [found for found in self.comparisons if found.verdict == verdict]


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
        verdicts: Metric → verdicts, of the metrics that the reference has.
        split: Shares of the variance of a single Dice: `case`, `fold`, `seed`, `residual`.
        detectable: The smallest difference of Dice that such a study finds.
    """

    dataset: str
    arms: tuple[Arm, ...]
    plans: tuple[FoundPlan, ...]
    reference: Arm
    why: str
    caution: str
    margin: float
    verdicts: Mapping[str, Verdicts]
    split: Mapping[str, float]
    detectable: Detectable

    @property
    def name(self) -> str:
        """The dataset's name for readers."""
        return self.dataset or "an unnamed dataset"

    @property
    def primary(self) -> Verdicts:
        """The verdicts by Dice."""
        return self.verdicts[PRIMARY]

    @property
    def compared(self) -> tuple[Arm, ...]:
        """Arms with a Dice."""
        known = set(self.primary.observations.arms)
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
            self.primary.observations,
            {arm.number: arm.levels for arm in self.in_grid},
            self.reference.levels if self.reference in self.in_grid else None,
        )


@dataclass(frozen=True, kw_only=True)
class ReportData:
    """Everything that the sections show.

    Args:
        arms: All arms; their runs are all readable ones.
        plans: All readable plans of ablations.
        unreadable: Files that are neither records nor plans.
        missing: Cells of plans without a record.
        options: What the reader asked for.
    """

    arms: tuple[Arm, ...]
    plans: tuple[FoundPlan, ...] = ()
    unreadable: tuple[Unreadable, ...] = ()
    missing: tuple[Missing, ...] = ()
    options: Options = Options()

    @property
    def runs(self) -> list[RunRecord]:
        """All runs, arm by arm."""
        return [run for arm in self.arms for run in arm.runs]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """Every metric value of the counted runs (`medseg.record.frame`)."""
        return frame({arm.number: arm.counted for arm in self.arms})

    @cached_property
    def run_means(self) -> pd.DataFrame:
        """Arm × metric × run × case: mean over the classes that are defined."""
        return run_means(self.frame)

    @cached_property
    def case_means(self) -> pd.DataFrame:
        """Arm × metric × case: mean over classes, then over runs."""
        return case_means(self.frame)

    @cached_property
    def summaries(self) -> pd.DataFrame:
        """(Arm, metric) → mean, deviation, cases, undefined, total."""
        return summaries(self.frame)

    @cached_property
    def class_summaries(self) -> pd.DataFrame:
        """(Arm, metric, class) → mean, deviation, cases, undefined, total."""
        return summaries(self.frame, "class")

    @cached_property
    def studies(self) -> tuple[Study, ...]:
        """One study for every dataset on which an arm has a Dice.

        Raises:
            ConfigError: a reference that is not there, or a margin below 0.
        """
        wanted = _wanted_arm(self.arms, self.options.reference)
        datasets = dict.fromkeys(arm.dataset for arm in self.arms)
        found = (_study(self, dataset, wanted) for dataset in datasets)
        return tuple(study for study in found if study)

    @cached_property
    def style(self) -> dict[int, int]:
        """Arm → place in the palette, for the references and the best arms; others are grey."""
        table = self.summaries.reset_index()
        means = table[(table["metric"] == PRIMARY) & (table["cases"] > 0)]
        rank = dict(zip(means["arm"], means["mean"], strict=True))
        rank |= {study.reference.number: float("inf") for study in self.studies}
        return styles({arm.number: rank.get(arm.number, float("-inf")) for arm in self.arms})


def collect(sources: Sequence[Path], options: Options | None = None) -> ReportData:
    """Reads all records and plans below `sources` and sorts the records into arms.

    Raises:
        DataError: nothing is there, or nothing that can be read.
    """
    sources = [Path(source) for source in sources]
    runs, bad_records = read_runs(sources)
    plans, bad_plans = read_plans(sources)
    return ReportData(
        arms=labelled(arms_of(runs, plans)),
        plans=tuple(plans),
        unreadable=(*bad_records, *bad_plans),
        missing=tuple(missing_cells(plans, runs, bad_records)),
        options=options or Options(),
    )


def _study(data: ReportData, dataset: str, wanted: Arm | None) -> Study | None:
    arms = tuple(arm for arm in data.arms if arm.dataset == dataset)
    wanted = wanted if wanted in arms else None
    means = data.case_means.dropna(subset=["value"])
    valued = {
        metric: set(means.loc[means["metric"] == metric, "arm"]) & {arm.number for arm in arms}
        for metric in METRICS
    }
    if not valued[PRIMARY] and wanted is None:
        return None
    paths = [run.path for arm in arms for run in arm.runs]
    plans = tuple(found for found in data.plans if any(found.holds(path) for path in paths))
    reference, why, caution = _reference(arms, valued[PRIMARY], plans, wanted)
    margin = data.options.margin
    if margin is None:
        margin = min((float(found.plan.margin) for found in plans), default=MARGIN)
    verdicts = {
        metric: _verdicts(data, metric, numbers, reference.number, margin)
        for metric, numbers in valued.items()
        if reference.number in numbers
    }
    observations = verdicts[PRIMARY].observations
    return Study(
        dataset=dataset,
        arms=arms,
        plans=plans,
        reference=reference,
        why=why,
        caution=caution,
        margin=margin,
        verdicts=verdicts,
        split=_shares(variance_components(observations)),
        detectable=smallest_detectable(observations),
    )


def _verdicts(
    data: ReportData, metric: str, arms: set[int], reference: int, margin: float
) -> Verdicts:
    higher = not METRICS[metric].lower_is_better
    own_margin = None if METRICS[metric].unit else margin  # a margin is one of a share
    table = data.run_means
    rows = table[(table["metric"] == metric) & table["arm"].isin(list(arms))]
    columns = (rows[name] for name in ("arm", "fold", "seed", "case", "value"))
    observations = Observations(zip(*columns, strict=True))
    found = compare(observations, reference, margin=own_margin, higher_is_better=higher)
    sign = -1.0 if higher else 1.0
    ranked = sorted(found, key=lambda c: (c.estimate is None, sign * (c.estimate or 0.0), c.arm))
    return Verdicts(
        metric=metric,
        margin=own_margin,
        observations=observations,
        comparisons=tuple(ranked),
        best=probability_of_best(observations, higher_is_better=higher),
    )


def _shares(components: Mapping[str, float]) -> dict[str, float]:
    total = sum(components.values())
    return {name: part / total for name, part in components.items() if total}


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
    arms: Sequence[Arm], valued: set[int], plans: Sequence[FoundPlan], wanted: Arm | None
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
    for arm in (arm for found in plans for arm in arms if arm.levels == found.plan.reference):
        if arm.levels and arm.number in valued:
            return arm, "named in the plan", ""
    first = next(arm for arm in arms if arm.number in valued)
    asked = next((found.plan.reference for found in plans if found.plan.reference), None)
    if asked is None:
        return first, "the first arm", ""
    levels = " · ".join(asked.values())
    caution = f"The plan’s reference, {levels}, has no result; {first.label} stands in for it."
    return first, "the first arm with a result", caution
