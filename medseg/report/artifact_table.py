"""What the arms print that is locked to their strides: one row per arm."""

import math
from collections.abc import Callable, Sequence

from medseg.record import ArtifactRecord, Estimate
from medseg.report import measures
from medseg.report.arm import Arm
from medseg.report.cells import (
    NOTHING,
    TO,
    Cell,
    Column,
    Row,
    Table,
    counted,
    figure,
    significant,
    words,
)
from medseg.report.sources import number
from medseg.statistics import holm

_HEADLINES = {
    "gain": ("Gain κ", "phases amplify unequally"),
    "gain_excess": ("… over the input", "what the network adds"),
    "cycle_spin": ("Cycle-spin residual", "share of logits"),
    "staircase": ("Staircase κ", "voxels late on a slope"),
    "crack_distance": ("Boundaries", "TV to the truth"),
}


def artifact_table(arms: Sequence[Arm]) -> Table:
    """The headline of each arm's runs: means over seeds, with the interval over cases of one."""
    columns = (
        Column(key="arm", title="Arm"),
        *(
            Column(key=key, title=title, unit=unit, numeric=True)
            for key, (title, unit) in _HEADLINES.items()
        ),
        Column(key="p", title="Locked to the grid", unit="p, Holm over arms", numeric=True),
        Column(key="coherence", title="Coherence", unit="of cases", numeric=True),
        Column(key="constant", title="Constant response", unit="of logits’ SD", numeric=True),
        Column(key="gain_mean", title="DC-gain imbalance", unit="of mean features", numeric=True),
    )
    measured = [arm for arm in arms if _records(arm)]
    corrected = holm([_largest_p(_records(arm)) for arm in measured])
    rows = [
        Row(arm=arm.number, cells=(words(arm.label), *_cells(arm, p)))
        for arm, p in zip(measured, corrected, strict=True)
    ]
    return Table(
        caption="Patterns locked to the strides: means over cases, 95 % interval below",
        columns=columns,
        rows=tuple(rows),
    )


def _records(arm: Arm) -> list[ArtifactRecord]:
    return [run.record.artifacts for run in arm.counted if run.record.artifacts is not None]


def _cells(arm: Arm, p_value: float | None) -> list[Cell]:
    records = _records(arm)
    return [
        *(_headline([r.means[key] for r in records if key in r.means]) for key in _HEADLINES),
        _test(records, p_value),
        _mean(records, lambda r: r.prediction and r.prediction.coherence),
        _mean(records, lambda r: r.constant_response),
        _mean(records, lambda r: r.largest("dc_gain_mean")),
    ]


def _headline(found: Sequence[Estimate]) -> Cell:
    """The mean over seeds; the widest interval of any seed, or how many cases forbid one."""
    if not found:
        return Cell(text=NOTHING)
    value = measures.mean([number(e.mean) for e in found])
    ends = [(e.low, e.high) for e in found if e.low is not None and e.high is not None]
    if not ends:
        return figure(value, significant(value), note=counted(found[0].cases, "case"))
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    return figure(value, significant(value), note=f"{significant(low)}{TO}{significant(high)}")


def _largest_p(records: Sequence[ArtifactRecord]) -> float:
    """Of any seed: what every seed shows; NaN for too few cases."""
    tests = [r.prediction.p_value for r in records if r.prediction]
    return max((number(p) for p in tests if p is not None), default=math.nan)


def _test(records: Sequence[ArtifactRecord], p_value: float | None) -> Cell:
    if p_value is None:
        return Cell(text=NOTHING, note="fewer than 8 cases")
    inputs = [r.image.p_value for r in records if r.image and r.image.p_value is not None]
    note = f"input {significant(min(inputs))}" if inputs else ""
    return figure(p_value, significant(p_value), note=note)


def _mean(records: Sequence[ArtifactRecord], read: Callable[[ArtifactRecord], object]) -> Cell:
    found = [value for r in records if not math.isnan(value := number(read(r)))]
    value = measures.mean(found)
    return figure(value, significant(value))
