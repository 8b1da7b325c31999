"""What arms cost: quantities to trade against quality, and predictions against measurements."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from medseg.record import RunRecord
from medseg.report import measures
from medseg.report.arm import Arm
from medseg.report.cells import (
    Cell,
    Column,
    Row,
    Table,
    amount,
    duration,
    figure,
    memory,
    words,
)


@dataclass(frozen=True, kw_only=True)
class Promise:
    """One quantity of an arm as predicted and as measured, in the same unit."""

    arm: int
    promised: float
    measured: float


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A quantity that is better when smaller.

    Args:
        key: Names it in code.
        title: Names it for readers.
        read: Record → its value.
        shown: Value → text.
        unit: "B", "s", or none of a count.
    """

    key: str
    title: str
    read: Callable[[RunRecord], object]
    shown: Callable[[float], str]
    unit: str = ""

    def of(self, arm: Arm) -> float:
        """Mean over the counted runs, NaN where none recorded it."""
        return measures.mean(measures.of_runs(arm, self.read))


PARAMETERS = Cost(
    key="parameters", title="Parameters", read=lambda record: record.parameters, shown=amount
)
MACS = Cost(key="macs", title="MACs of one patch", read=lambda record: record.macs, shown=amount)
STEP = Cost(
    key="step",
    title="Training step, median",
    read=lambda record: record.seconds.get("step"),
    shown=duration,
    unit="s",
)
MEMORY = Cost(
    key="memory",
    title="Peak memory",
    read=lambda record: record.peak_memory_bytes,
    shown=memory,
    unit="B",
)
COSTS = (PARAMETERS, MACS, STEP, MEMORY)


def memory_growth(record: RunRecord) -> float | None:
    """Bytes that training added to what the process held before; None if either is unknown."""
    peak, before = record.peak_memory_bytes, record.memory_before_bytes
    return None if peak is None or before is None else peak - before


def memory_promises(arms: Sequence[Arm]) -> list[Promise]:
    """Predicted peak of a training step against the measured growth."""
    return _promises(
        arms, _predicted_memory, lambda arm: _largest(measures.of_runs(arm, memory_growth))
    )


def step_promises(arms: Sequence[Arm], references: Mapping[str, Arm]) -> list[Promise]:
    """The reference's step scaled by MACs against the measured step."""
    return _promises(arms, lambda arm: _promised_step(arm, references), STEP.of)


def promises_table(arms: Sequence[Arm], references: Mapping[str, Arm]) -> Table:
    """One row per arm with any prediction.

    Args:
        arms: All arms.
        references: Dataset → the arm whose step is the measure of the others.
    """
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="memory", title="Memory predicted", unit="of a training step", numeric=True),
        Column(key="grown", title="Memory measured", unit="growth to the peak", numeric=True),
        Column(key="memory_ratio", title="Ratio", unit="measured / predicted", numeric=True),
        Column(key="promised", title="Step promised", unit="reference × MACs", numeric=True),
        Column(key="step", title="Step measured", unit="median", numeric=True),
        Column(key="step_ratio", title="Ratio", unit="measured / promised", numeric=True),
    )
    memories = {promise.arm: promise for promise in memory_promises(arms)}
    steps = {promise.arm: promise for promise in step_promises(arms, references)}
    rows = [
        Row(
            arm=arm.number,
            cells=(
                words(arm.label),
                *_cells(memories.get(arm.number), memory),
                *_cells(steps.get(arm.number), duration),
            ),
        )
        for arm in arms
        if arm.number in memories or arm.number in steps
    ]
    return Table(caption="Predicted and measured costs", columns=columns, rows=tuple(rows))


def _promises(
    arms: Sequence[Arm], promised: Callable[[Arm], float], measured: Callable[[Arm], float]
) -> list[Promise]:
    found = [
        Promise(arm=arm.number, promised=promised(arm), measured=measured(arm)) for arm in arms
    ]
    return [p for p in found if math.isfinite(p.promised) and math.isfinite(p.measured)]


def _predicted_memory(arm: Arm) -> float:
    return _largest(measures.of_runs(arm, lambda record: record.predicted_memory_bytes))


def _largest(numbers: Sequence[float]) -> float:
    return max(numbers, default=math.nan)


def _promised_step(arm: Arm, references: Mapping[str, Arm]) -> float:
    reference = references.get(arm.dataset)
    if reference is None or not (base := MACS.of(reference)) > 0:
        return math.nan
    return STEP.of(reference) * MACS.of(arm) / base


def _cells(promise: Promise | None, shown: Callable[[float], str]) -> tuple[Cell, ...]:
    if promise is None:
        return (figure(math.nan, ""),) * 3
    ratio = promise.measured / promise.promised if promise.promised > 0 else math.nan
    return (
        figure(promise.promised, shown(promise.promised)),
        figure(promise.measured, shown(promise.measured)),
        figure(ratio, f"{ratio:.2f}"),
    )
