"""The page of `medseg artifacts`: the checkerboard record of one network as sections."""

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from medseg.errors import DataError
from medseg.files import replacing, write_text
from medseg.formatting import TO, counted, percent, printable, sizes
from medseg.plotting import save, svg_file
from medseg.record import (
    FILE_NAME,
    ArtifactRecord,
    Estimate,
    PhaseLocked,
    RunRecord,
    finite,
    from_plain,
)
from medseg.record.checkerboard import FigureData, band
from medseg.report.figures.checkerboard import (
    constant_response,
    cycle_spin_overlay,
    phase_maps,
    spectra,
)
from medseg.report.figures.curves import curve
from medseg.report.page import Figure, Page, Section, render_html, render_markdown
from medseg.report.sections.checkerboard import (
    PHASES,
    SPECTRA,
    estimate_cell,
    layers_table,
    measures_of,
    value_text,
)
from medseg.report.tables import Table, number, table, to_csv, words

RESULT = "artifacts.html"
OUTPUTS = (RESULT, "artifacts.md", "artifacts.csv", "artifacts.json", "figures", "maps")
"""All that `medseg artifacts` may write into its folder."""

_CONSTANT = (
    "Response of the network to a constant image, voxel by voxel: one colour if it is clean."
)
_SPUN = (
    "Where the logits depend on how the image lies on the grid: their departure from the mean "
    "over shifts, with the outlines of prediction and truth."
)


def write_results(
    folder: Path, record: ArtifactRecord, data: FigureData, *, title: str, run: Path
) -> None:
    """Writes page, Markdown, cases as CSV, the record, and each figure as PNG, PDF and SVG.

    All are made before the first is replaced. Figures of medseg's that are there already and are
    not drawn again are removed.

    Args:
        folder: Where they go; files of these names there are replaced.
        record: What was measured.
        data: What its figures are drawn from besides.
        title: Of the page.
        run: Where the network came from; a record of its training there adds the trajectories.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    plain = finite(dataclasses.asdict(record))
    record = from_plain(ArtifactRecord, plain)  # makes the names of cases printable
    figures = drawn(record, data, _training(run))
    pictures = {
        folder / "figures" / f"{name}.{ending}": one
        for name, one in figures.items()
        for ending in ("png", "pdf")  # for slides, and for LaTeX
    }
    page, parts = Page(printable(title)), sections(record, figures.values())
    texts = {
        folder / "artifacts.json": json.dumps(plain, indent=1) + "\n",
        folder / "artifacts.csv": to_csv(values(record)),
        folder / "artifacts.md": render_markdown(page, parts),
        folder / RESULT: render_html(page, parts),
    }
    texts |= {path.with_suffix(".svg"): svg_file(one.content) for path, one in pictures.items()}
    older = [p for end in ("png", "svg", "pdf") for p in (folder / "figures").glob(f"*.{end}")]
    with replacing((*pictures, *texts, *older), overwrite=True):
        for path, text in texts.items():
            write_text(path, text)
        for path, figure in pictures.items():
            assert not isinstance(figure.drawn, str | None)
            save(figure.drawn, path)


def sections(record: ArtifactRecord, figures: Iterable[Figure]) -> list[Section]:
    """Summary, layers, figures and cases of a record."""
    known = measures_of([record])
    layers = [
        layers_table(caption, [({}, [row]) for row in rows], known)
        for caption, rows in (
            ("Upsampling layers", record.layers),
            ("Gradients of strided layers", record.gradients),
            ("Rows of dilated convolutions", record.dilated),
        )
    ]
    means = [
        {
            "Measure": words(measure.title),
            "Estimate": estimate_cell([record.means[name]]),
            "Cases": number(record.means[name].cases, str),
        }
        for name, measure in known.items()
        if name in record.means
    ]
    caption = "Over cases: means, and of patterns the size of what cases share; 95 % interval below"
    meanings = {m.title: m.meaning for m in record.measures.values() if m.meaning}
    not_measured = Section("Not measured", [record.notes]) if record.notes else ""
    found = [
        Section(
            "Summary",
            [_facts(record), table(caption, means), _tests(record), not_measured],
            key="summary",
        ),
        Section("Layers", layers, key="layers"),
        Section("Figures", list(figures), key="figures"),
        Section("Cases", [cases_table(record)], key="cases"),
        Section("Meaning of the measures", [meanings], key="measures"),
    ]
    return [section for section in found if any(section.parts)]


def drawn(
    record: ArtifactRecord, data: FigureData, training: RunRecord | None = None
) -> dict[str, Figure]:
    """Every figure that there is something to draw of, by the name of its file."""
    maps = [(1, "all cases", record.phase_map)] if record.phase_map else []
    figures = {
        "phases": Figure(phase_maps(maps), "Gain of each phase", PHASES, wide=True),
        "spectrum": Figure(
            spectra([(1, "all cases", record.spectra)]), "Power by frequency", SPECTRA, wide=True
        ),
        "constant": Figure(constant_response(data), "Response to a constant", _CONSTANT, wide=True),
        "cycle_spin": Figure(cycle_spin_overlay(data), "Departure over shifts", _SPUN, wide=True),
    }
    history = pd.DataFrame(training.artifact_history if training else [])
    for name in history.columns.drop("epoch", errors="ignore"):
        lines = history[["epoch", name]].set_axis(["epoch", "value"], axis=1).dropna()
        label = record.describe(str(name)).title
        figure = curve(lines.assign(arm=1, run=0), f"{label} during training", {})
        figures[f"trajectory_{name}"] = Figure(figure, label, wide=True)
    return {name: figure for name, figure in figures.items() if figure}


def values(record: ArtifactRecord) -> pd.DataFrame:
    """One row per case, group and measure."""
    rows = [
        (case.case, group, name, value)
        for case in record.cases
        for group, found in case.values.items()
        for name, value in found.items()
    ]
    return pd.DataFrame(rows, columns=["case", "of", "measure", "value"])


def cases_table(record: ArtifactRecord) -> Table:
    """One row per case: measures with an estimate over cases, and the scores of the decision."""
    scores = [name for case in record.cases for name in case.values.get("decision", {})]
    rows = []
    for case in record.cases:
        row = {"Case": words(case.case)}
        for name in dict.fromkeys([*record.means, *scores]):
            of = (found[name] for g, found in case.values.items() if g != "image" and name in found)
            row[record.describe(name).title] = number(next(of, None), value_text)
        rows.append(row)
    return table("Cases, each with its own noise; all measures are in artifacts.csv", rows)


def _facts(record: ArtifactRecord) -> dict[str, str]:
    facts = {
        "Cases": counted(len(record.cases), "case"),
        "Period": sizes(record.period, "voxels"),
    }
    if (found := record.prediction) is not None and found.gain is not None:
        facts["Gain κ"] = f"{value_text(found.gain.mean)}, {_in_words(found.gain)}"
    response = record.constant_response
    if response is None:
        return facts | {"Response to a constant": "not measured"}
    text = f"{percent(response)} of the logits’ spread, {band(response)}"
    return facts | {"Response to a constant": text}


def _in_words(gain: Estimate) -> str:
    if gain.low is None or gain.high is None:
        return f"of {counted(gain.cases, 'case')}, too few for an interval"
    interval = f"{value_text(gain.low)}{TO}{value_text(gain.high)}"
    return f"{band(gain.mean)} ({interval})" if gain.low else f"none is shown ({interval})"


def _tests(record: ArtifactRecord) -> Table:
    pairs: list[tuple[str, PhaseLocked | None]] = [
        ("prediction", record.prediction),
        ("input", record.image),
    ]
    rows = [
        {
            "Of": words(of),
            "p": number(test.p_value, value_text),
            "R² of phases": number(test.r_squared, value_text),
            "Coherence": number(test.coherence, value_text),
            "Gain κ": estimate_cell([test.gain]),
            "Cases": number(test.cases, str),
        }
        for of, test in pairs
        if test is not None
    ]
    return table("Test over cases: whether they share one pattern", rows)


def _training(run: Path) -> RunRecord | None:
    try:
        return RunRecord.read(run / FILE_NAME)
    except DataError:
        return None
