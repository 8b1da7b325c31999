"""The comparisons of one dataset: every arm against the reference, by every metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from medseg.report.arm import Arm
from medseg.report.collect import Collection
from medseg.report.measures import METRICS, Values
from medseg.report.plans import FoundPlan
from medseg.report.reference import Reference, Wish, margin_of, plans_of, reference_of, wanted_arm
from medseg.statistics import (
    Comparison,
    Detectable,
    Observations,
    VarianceSplit,
    compare,
    probability_of_best,
    smallest_detectable,
    variance_split,
)

LOWER_IS_BETTER = ("hd95_mm",)
_WITHOUT_MARGIN = ("hd95_mm",)
CHIEF = "dice"  # what ranks, what factors and variances are taken of


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

    @property
    def title(self) -> str:
        """The metric's name."""
        return METRICS[self.metric]

    @property
    def higher_is_better(self) -> bool:
        """Whether a greater value is the better one."""
        return self.metric not in LOWER_IS_BETTER

    def of(self, arm: int) -> Comparison | None:
        """An arm's comparison; None for the reference and for arms without values."""
        return self._by_arm.get(arm)

    @cached_property
    def _by_arm(self) -> dict[int, Comparison]:
        return {found.arm: found for found in self.comparisons}


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is compared on one dataset.

    Args:
        dataset: Its name; empty if it was not recorded.
        arms: All its arms, those without a result too.
        plans: Of these arms.
        reference: What the others are compared with.
        margin: For Dice and surface Dice.
        verdicts: Metric → verdicts, of the metrics that the reference has.
        split: Where the variance of Dice lies.
        detectable: The smallest difference of Dice that such a study finds.
    """

    dataset: str
    arms: tuple[Arm, ...]
    plans: tuple[FoundPlan, ...]
    reference: Reference
    margin: float
    verdicts: Mapping[str, Verdicts]
    split: VarianceSplit
    detectable: Detectable

    @property
    def chief(self) -> Verdicts:
        """The verdicts by Dice."""
        return self.verdicts[CHIEF]

    @property
    def compared(self) -> tuple[Arm, ...]:
        """Arms with a Dice."""
        known = set(self.chief.observations.arms)
        return tuple(arm for arm in self.arms if arm.number in known)


def studies_of(collection: Collection, values: Values, wish: Wish) -> tuple[Study, ...]:
    """One study for every dataset on which an arm has a Dice.

    Raises:
        ConfigError: a reference that is not there, or a margin below 0.
    """
    wanted = wanted_arm(collection.arms, wish.reference)
    studies = []
    for dataset in dict.fromkeys(arm.dataset for arm in collection.arms):
        arms = tuple(arm for arm in collection.arms if arm.dataset == dataset)
        own = wanted if wanted in arms else None
        if study := _study(dataset, arms, collection.plans, values, own, wish.margin):
            studies.append(study)
    return tuple(studies)


def _study(
    dataset: str,
    arms: tuple[Arm, ...],
    all_plans: Sequence[FoundPlan],
    values: Values,
    wanted: Arm | None,
    wished_margin: float | None,
) -> Study | None:
    valued = {
        metric: [arm.number for arm in arms if values.by_case(arm.number, metric)]
        for metric in METRICS
    }
    if not valued[CHIEF] and wanted is None:
        return None
    plans = plans_of(arms, all_plans)
    reference = reference_of(arms, valued[CHIEF], plans, wanted)
    margin = margin_of(plans, wished_margin)
    verdicts = {
        metric: _verdicts(metric, numbers, reference.arm.number, values, margin)
        for metric, numbers in valued.items()
        if reference.arm.number in numbers
    }
    observations = verdicts[CHIEF].observations
    return Study(
        dataset=dataset,
        arms=arms,
        plans=tuple(plans),
        reference=reference,
        margin=margin,
        verdicts=verdicts,
        split=variance_split(observations),
        detectable=smallest_detectable(observations),
    )


def _verdicts(
    metric: str, arms: Sequence[int], reference: int, values: Values, margin: float
) -> Verdicts:
    higher = metric not in LOWER_IS_BETTER
    own_margin = None if metric in _WITHOUT_MARGIN else margin
    observations = Observations(values.of_runs(metric, arms))
    found = compare(observations, reference, margin=own_margin, higher_is_better=higher)
    sign = -1.0 if higher else 1.0
    ranked = sorted(
        found,
        key=lambda c: (c.estimate is None, sign * (c.estimate or 0.0), c.arm),
    )
    return Verdicts(
        metric=metric,
        margin=own_margin,
        observations=observations,
        comparisons=tuple(ranked),
        best=probability_of_best(observations, higher_is_better=higher),
    )
