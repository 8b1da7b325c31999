"""Which arm the others are compared with, and which difference is of no consequence."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from medseg.errors import ConfigError
from medseg.report.arm import Arm
from medseg.report.plans import FoundPlan

MARGIN = 0.01


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the reader asked for; None where nothing was asked.

    Args:
        reference: Label or number of an arm.
        margin: Differences of Dice and surface Dice up to this one are of no consequence.
    """

    reference: str | None = None
    margin: float | None = None


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The arm that others are compared with, why that one, and what speaks against it."""

    arm: Arm
    why: str
    caution: str = ""


def plans_of(arms: Sequence[Arm], plans: Sequence[FoundPlan]) -> list[FoundPlan]:
    """The plans beside which runs of these arms lie."""
    paths = [run.path for arm in arms for run in arm.runs]
    return [found for found in plans if any(found.holds(path) for path in paths)]


def wanted_arm(arms: Sequence[Arm], wish: str | None) -> Arm | None:
    """The arm of that label, or else of that number; None if nothing is wished.

    Raises:
        ConfigError: no arm is called so.
    """
    if wish is None:
        return None
    for name in (lambda arm: arm.label, lambda arm: str(arm.number)):
        found = next((arm for arm in arms if name(arm) == wish.strip()), None)
        if found is not None:
            return found
    known = "; ".join(f"{arm.number}: {arm.label}" for arm in arms[:20])
    more = f"; and {len(arms) - 20} more" if len(arms) > 20 else ""
    raise ConfigError(f"reference={wish}: no arm has that label or number; arms are {known}{more}")


def reference_of(
    arms: Sequence[Arm],
    with_values: Collection[int],
    plans: Sequence[FoundPlan],
    wanted: Arm | None,
) -> Reference:
    """The wanted arm, else the one that a plan names, else the first; it must have values.

    Args:
        arms: Of one dataset, at least one with values.
        with_values: Numbers of the arms that have values.
        plans: Of these arms.
        wanted: What the reader asked for, if it belongs to this dataset.

    Raises:
        ConfigError: the wanted arm has no values.
    """
    if wanted is not None:
        if wanted.number not in with_values:
            raise ConfigError(
                f"reference={wanted.label}: no completed run of it has a value to compare with; "
                "name another arm"
            )
        return Reference(arm=wanted, why="as asked for")
    first = next(arm for arm in arms if arm.number in with_values)
    named = [arm for found in plans for arm in arms if dict(arm.levels) == found.plan.reference]
    for arm in named:
        if arm.levels and arm.number in with_values:
            return Reference(arm=arm, why="named in the plan")
    asked = next((found.plan.reference for found in plans if found.plan.reference), None)
    if asked is None:
        return Reference(arm=first, why="the first arm")
    levels = " · ".join(asked.values())
    return Reference(
        arm=first,
        why="the first arm with a result",
        caution=f"The plan’s reference, {levels}, has no result; {first.label} stands in for it.",
    )


def margin_of(plans: Sequence[FoundPlan], wish: float | None) -> float:
    """The wanted margin, else the smallest of the plans, else 0.01."""
    if wish is not None:
        return wish
    return min((float(found.plan.margin) for found in plans), default=MARGIN)
