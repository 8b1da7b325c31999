"""Checkerboard patterns: what the layers, the network and its answers to real cases show."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from medseg.formatting import TO, counted, is_missing, significant, sizes
from medseg.record import ArtifactRecord, Estimate, LayerRow, Measure
from medseg.report.arms import Arm
from medseg.report.figures.checkerboard import phase_maps, spectra
from medseg.report.page import Figure, Section
from medseg.report.sections.curves import curve_figures
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, arm_cell, mean_cell, number, table, words
from medseg.statistics import holm

_TRAJECTORIES = {
    "dc_gain_mean": "DC-gain imbalance of mean features",
    "constant_response": "Constant response",
    "cycle_spin": "Cycle-spin residual",
}
_READ = [
    "A large DC-gain imbalance is a property of the layer, not of the segmentation: what follows "
    "can damp it. At stride 2 random learned kernels expect 0.75 in 2-D and 0.875 in 3-D, "
    "interpolation has 0.",
    "Gain κ: below 0.005 clean, below 0.02 detectable, below 0.1 visible in the logits, above "
    "severe; no pattern is shown where the interval begins at 0. κ of the input is the control: a "
    "grid that the images bring along, by their acquisition or a resampling, is not the network's.",
    "Locked to the grid: p that the cases share one pattern by chance, the largest of the seeds. "
    "No claim is made below 8 cases, and a tiny pattern can have a small p: read κ first. p-values "
    "of records from before cases were read from a phase drawn for each are too small.",
    "Few boundaries differ by chance, so compare their distance on the same cases.",
]
PHASES = (
    "How each phase of the stride grid amplifies the logits, as its departure from the mean over "
    "phases. A cell without colour has no pattern; chance is what cases without a common pattern "
    "would show."
)
SPECTRA = (
    "Power of the logits by frequency, over its mean. Dots are the frequencies of the strides: a "
    "pattern that is locked to the grid stands out there and nowhere else."
)
_FIRST = ("dc_gain", "cycle_spin_locked", "gain")  # of records that do not describe themselves


def checkerboard(data: ReportData) -> Section:
    """Headlines of the arms, phase maps, spectra and trajectories, then every measure and layer."""
    known = measures_of(record for arm in data.arms for record in arm.records)
    headlines = {name: found for name, found in known.items() if found.headline}
    others = measures_table(data, {n: found for n, found in known.items() if n not in headlines})
    layers = layers_table("Mean over seeds", _same_layers(data), known)
    trajectories = curve_figures(data, _TRAJECTORIES, "artifact_history")
    meanings = {found.title: found.meaning for found in known.values() if found.meaning}
    rows = counted(len(layers.frame), "row")
    return Section(
        "Checkerboard",
        [
            *([measures_table(data, headlines, locked=True), _READ] if known else []),
            _phases(data),
            trajectories,
            Section("All measures", [others, meanings], folded=True) if others else "",
            Section("By upsampling layer", [layers], folded=True, about=rows)
            if layers
            else "No finished run recorded an upsampling layer.",
        ],
        key="checkerboard",
        legend=any(trajectories),
    )


def measures_of(records: Iterable[ArtifactRecord]) -> dict[str, Measure]:
    """Every measure with a value for a network, as the records describe it, headlines first."""
    found: dict[str, Measure] = {}
    for record in records:
        layers = (name for row in _layers(record) for name in row.values)
        names = {*record.means, *record.values, *layers}
        for name in [*record.measures, *sorted(names - record.measures.keys())]:
            described = record.describe(name)
            if name in names and name not in found:
                first = described.headline or (not record.measures and name in _FIRST)
                found[name] = replace(described, headline=first)
    return dict(sorted(found.items(), key=lambda item: not item[1].headline))


def measures_table(
    data: ReportData, measures: Mapping[str, Measure], *, locked: bool = False
) -> Table:
    """One row per arm with a record: means over its seeds, the interval over cases below.

    Args:
        data: What the report shows.
        measures: Name → description, in the order of the columns.
        locked: Whether the test over cases stands behind them.
    """
    measured = [arm for arm in data.arms if arm.records]
    corrected = holm([_largest_p(arm.records) for arm in measured])
    rows = []
    for arm, p in zip(measured, corrected, strict=True) if measures else ():
        row = {found.title: measure_cell(arm, name) for name, found in measures.items()}
        tests = {
            "Gain κ of the input": estimate_cell(r.image.gain for r in arm.records if r.image),
            "Locked to the grid": _test(arm.records, p),
            "Coherence": mean_cell(
                [r.prediction.coherence for r in arm.records if r.prediction], value_text
            ),
        }
        rows.append({"Arm": arm_cell(arm)} | row | (tests if locked else {}))
    units = {found.title: found.unit for found in measures.values()}
    return table(
        "Patterns locked to the strides: estimates over cases, 95 % interval below",
        rows,
        units | {"Locked to the grid": "p, Holm over arms", "Coherence": "of cases"},
    )


def layers_table(
    caption: str,
    rows: Iterable[tuple[Mapping[str, Cell], Sequence[LayerRow]]],
    measures: Mapping[str, Measure],
) -> Table:
    """One row per layer, one column per measure that any of them has.

    Args:
        caption: Of the table.
        rows: The first cells of a row, and the layer in each run: means are shown, ranges below.
        measures: Name → description, in the order of the columns.
    """
    rows = list(rows)
    names = [n for n in measures if any(n in one.values for _, same in rows for one in same)]
    cells = [
        {
            **first,
            "Layer": words(same[0].layer, same[0].note, code=True),
            "Operator": words(same[0].operator, code=True),
            "Stride": Cell(sizes(same[0].stride)),
        }
        | {measures[n].title: mean_cell([o.values.get(n) for o in same], value_text) for n in names}
        for first, same in rows
    ]
    return table(caption, cells, {m.title: m.unit for m in measures.values()})


def estimate_cell(estimates: Iterable[Estimate | None]) -> Cell:
    """Mean over runs, with the widest interval."""
    known = [e for e in estimates if e is not None and not is_missing(e.mean)]
    if not known:
        return number(None, value_text)
    ends = [(e.low, e.high) for e in known if e.low is not None and e.high is not None]
    note = counted(known[0].cases, "case")
    if ends:
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        note = f"{value_text(low)}{TO}{value_text(high)}"
    return number(fmean(e.mean for e in known), value_text, note)


def value_text(value: float | None) -> str:
    """Three significant digits; what is below 1e-6 of anything is rounding, and 0."""
    return "0" if value is not None and abs(value) < 1e-6 else significant(value, 3)


def _layers(record: ArtifactRecord) -> list[LayerRow]:
    return [*record.layers, *record.gradients, *record.dilated]


def _same_layers(data: ReportData) -> list[tuple[dict[str, Cell], list[LayerRow]]]:
    """Each upsampling layer of each arm, in all its runs."""
    found: dict[tuple[int, str, str], list[LayerRow]] = {}
    for arm in data.arms:
        for layer in (layer for record in arm.records for layer in record.layers):
            found.setdefault((arm.number, layer.layer, layer.operator), []).append(layer)
    arms = {arm.number: {"Arm": arm_cell(arm)} for arm in data.arms}
    return [(arms[number], same) for (number, _, _), same in found.items()]


def measure_cell(arm: Arm, name: str) -> Cell:
    """An estimate over cases where the record has one, else of the network or its worst layer."""
    if any(name in record.means for record in arm.records):
        return estimate_cell(record.means.get(name) for record in arm.records)
    values = []
    for record in arm.records:
        layers = (row.values.get(name) for row in _layers(record))
        largest = max((value for value in layers if value is not None), default=None)
        values.append(record.values.get(name, largest))
    return mean_cell(values, value_text)


def _largest_p(records: list[ArtifactRecord]) -> float | None:
    """Of any seed: what every seed shows; None for too few cases."""
    tests = [r.prediction.p_value for r in records if r.prediction]
    return max((p for p in tests if p is not None), default=None)


def _test(records: list[ArtifactRecord], p_value: float | None) -> Cell:
    inputs = [r.image.p_value for r in records if r.image and r.image.p_value is not None]
    note = f"input {value_text(min(inputs))}" if inputs else ""
    return number(p_value, value_text, "fewer than 8 cases" if p_value is None else note)


def _phases(data: ReportData) -> list[Figure]:
    """Maps and spectra of the coloured arms, each from the first run that has them."""
    found = [
        (arm.number, arm.label, arm.records[0])
        for arm in data.arms
        if arm.number in data.style and arm.records
    ]
    maps = [(arm, label, r.phase_map) for arm, label, r in found if r.phase_map]
    lines = [(arm, label, r.spectra) for arm, label, r in found if r.spectra]
    of = " Of the first run of each coloured arm."
    return [
        Figure(phase_maps(maps), "Gain of each phase", PHASES + of),
        Figure(spectra(lines), "Power of the logits by frequency", SPECTRA + of),
    ]
