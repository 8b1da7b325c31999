"""Checkerboard patterns: what the layers, the network and its answers to real cases show."""

from collections.abc import Mapping
from dataclasses import replace
from statistics import fmean

from medseg.formatting import TO, counted, is_missing, significant
from medseg.record import ArtifactRecord, Estimate, LayerRow, Measure
from medseg.report.arms import Arm
from medseg.report.figures.phases import phase_maps, spectra
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
_WEIGHTS = [
    "DC-gain imbalance belongs to one upsampling layer. It asks what the layer does to a "
    "constant: 0 means that every output phase receives the same gain, so that a constant stays "
    "a constant; 1 means that all the energy of the response alternates with the stride.",
    "Anchors in closed form, at stride 2: an all-ones kernel of size 3 has 0.19 in 2-D and 0.271 "
    "in 3-D; random learned kernels of any size expect 1 − 1/P, with P the product of the "
    "strides, so 0.75 in 2-D and 0.875 in 3-D; interpolation has exactly 0.",
    "A large imbalance is a property of the layer, not of the segmentation: the convolutions, "
    "normalisations and skip connections that follow can damp it.",
    "The constant response is that of the whole trained network: the part of its answer to a "
    "constant image that repeats with the strides, as a fraction of the standard deviation of the "
    "logits on real data. 0.01 is a pattern of one hundredth of the contrast that the network "
    "normally produces.",
]
_CASES = [
    "Gain κ: how unequally the phases of the stride grid amplify the logits, in the pattern that "
    "real cases share, 0 for equal; noise, which is no case's neighbour's, is not in it. Below "
    "0.005 it is clean, below 0.02 detectable, below 0.1 visible in the logits, above severe; no "
    "pattern is shown where the interval begins at 0. κ of the input is the control: a grid that "
    "the images bring along, by their acquisition or a resampling, is not the network's.",
    "Cycle-spin residual: the share of the logits that does not move along when the image is "
    "moved by less than a period. It holds aliasing of the encoder and patterns of the decoder; "
    "texture moves along and does not count.",
    "Locked to the grid: p that the cases share one pattern by chance, the phases of each case "
    "permuted; the largest of the seeds, corrected for the number of arms by Holm. No claim is "
    "made below 8 cases. The part of each case that is looked at begins at a phase drawn for it, "
    "since borders at one phase pass for a grid. A tiny pattern can have a small p: read κ first. "
    "Records written before that rule have p-values that are too small. Coherence "
    "is 1 if all cases show the same pattern, one over their number by chance.",
    "Boundaries: distance between the phases at which predicted and true label boundaries fall. "
    "Few boundaries differ by chance, so compare arms on the same cases.",
]
_MAPS = (
    "Gain of each phase of the stride grid, as its departure from the mean over phases, of the "
    "first run of each coloured arm. A cell without colour has no pattern; chance is what cases "
    "without a common pattern would show."
)
_SPECTRA = (
    "Power of the logits by frequency, over its mean. Dots are the frequencies of the strides: a "
    "pattern that is locked to the grid stands out there and nowhere else."
)
_FIRST = ("dc_gain", "cycle_spin_locked", "gain")  # of records that do not describe themselves


def checkerboard(data: ReportData) -> Section:
    """Headlines of the arms, phase maps, spectra and trajectories, then every measure and layer."""
    known = _measures(data)
    headlines = {name: found for name, found in known.items() if found.headline}
    others = measures_table(data, {n: found for n, found in known.items() if n not in headlines})
    layers = layers_table(data, known)
    trajectories = curve_figures(data, _TRAJECTORIES, "artifact_history")
    meanings = {found.title: found.meaning for found in known.values() if found.meaning}
    rows = counted(len(layers.frame), "row")
    return Section(
        "Checkerboard",
        [
            _WEIGHTS,
            *([measures_table(data, headlines, locked=True), _CASES] if known else []),
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
        row = {found.title: _measure_cell(arm, name) for name, found in measures.items()}
        tests = {
            "Gain κ of the input": _estimate_cell(
                [r.image.gain for r in arm.records if r.image and r.image.gain]
            ),
            "Locked to the grid": _test(arm.records, p),
            "Coherence": mean_cell(
                [r.prediction.coherence for r in arm.records if r.prediction], significant
            ),
        }
        rows.append({"Arm": arm_cell(arm)} | row | (tests if locked else {}))
    units = {found.title: found.unit for found in measures.values()}
    return table(
        "Patterns locked to the strides: estimates over cases, 95 % interval below",
        rows,
        units | {"Locked to the grid": "p, Holm over arms", "Coherence": "of cases"},
    )


def layers_table(data: ReportData, measures: Mapping[str, Measure]) -> Table:
    """One row per arm and upsampling layer: means over seeds, their range below."""
    rows = []
    for arm in data.arms:
        found: dict[tuple[str, str], list[LayerRow]] = {}
        for layer in (layer for record in arm.records for layer in record.layers):
            found.setdefault((layer.layer, layer.operator), []).append(layer)
        for (layer, operator), same in found.items():
            names = [name for name in measures if any(name in one.values for one in same)]
            rows.append(
                {
                    "Arm": arm_cell(arm),
                    "Upsampling layer": words(layer, code=True),
                    "Operator": words(operator, code=True),
                }
                | {
                    measures[n].title: mean_cell([one.values.get(n) for one in same], significant)
                    for n in names
                }
            )
    return table("Mean over seeds", rows, {m.title: m.unit for m in measures.values()})


def _measures(data: ReportData) -> dict[str, Measure]:
    """Every measure with a value for an arm, as the records describe it, headlines first."""
    found: dict[str, Measure] = {}
    for record in (record for arm in data.arms for record in arm.records):
        rows = [*record.layers, *record.gradients, *record.dilated]
        names = {*record.means, *record.values, *(name for row in rows for name in row.values)}
        for name in [*record.measures, *(n for n in sorted(names) if n not in record.measures)]:
            described = record.describe(name)
            if name in names and name not in found:
                first = described.headline or (not record.measures and name in _FIRST)
                found[name] = replace(described, headline=first)
    return dict(sorted(found.items(), key=lambda item: not item[1].headline))


def _measure_cell(arm: Arm, name: str) -> Cell:
    """A mean over cases where the record has one, else a value of the network or of its layers."""
    estimates = [record.means[name] for record in arm.records if name in record.means]
    if not estimates:
        return mean_cell([_value(record, name) for record in arm.records], significant)
    return _estimate_cell(estimates)


def _estimate_cell(estimates: list[Estimate]) -> Cell:
    """Mean over seeds, with the widest interval."""
    if not estimates:
        return number(None, significant)
    values = [e.mean for e in estimates if not is_missing(e.mean)]
    ends = [(e.low, e.high) for e in estimates if e.low is not None and e.high is not None]
    note = counted(estimates[0].cases, "case")
    if ends:
        low, high = min(low for low, _ in ends), max(high for _, high in ends)
        note = f"{significant(low)}{TO}{significant(high)}"
    return number(fmean(values) if values else None, significant, note if values else "")


def _value(record: ArtifactRecord, name: str) -> float | None:
    """Of the network, else the largest over layers."""
    if name in record.values:
        return record.values[name]
    rows = [*record.layers, *record.gradients, *record.dilated]
    return max((v for row in rows if (v := row.values.get(name)) is not None), default=None)


def _largest_p(records: list[ArtifactRecord]) -> float | None:
    """Of any seed: what every seed shows; None for too few cases."""
    tests = [r.prediction.p_value for r in records if r.prediction]
    return max((p for p in tests if p is not None), default=None)


def _test(records: list[ArtifactRecord], p_value: float | None) -> Cell:
    inputs = [r.image.p_value for r in records if r.image and r.image.p_value is not None]
    note = f"input {significant(min(inputs))}" if inputs else ""
    return number(p_value, significant, "fewer than 8 cases" if p_value is None else note)


def _phases(data: ReportData) -> list[Figure]:
    """Heat-maps and spectra of the coloured arms, each from the first run that has them."""
    found = [
        (arm.number, arm.label, arm.records[0])
        for arm in data.arms
        if arm.number in data.style and arm.records
    ]
    maps = [(arm, label, r.phase_map) for arm, label, r in found if r.phase_map]
    lines = [(arm, label, r.spectra) for arm, label, r in found if r.spectra]
    return [
        Figure(phase_maps(maps), "Gain of each phase", _MAPS),
        Figure(spectra(lines), "Power of the logits by frequency", _SPECTRA),
    ]
