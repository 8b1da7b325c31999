"""Artifacts as a page, as Markdown and as a table of cases."""

import base64
import csv
import io
from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from medseg.record import ArtifactRecord, CaseRow, Estimate, LayerRow, PhaseLocked
from medseg.record.checkerboard import band
from medseg.report.artifacts.drawings import Drawing

NOTHING = "–"
_BY_CASE = ("Decision", "Cases")  # long: they stand behind the figures
_GROUPS = ("prediction", "image", "truth", "labels", "cycle_spin", "decision")
_HEADLINES = {
    "gain": ("Gain κ", "phases amplify unequally; 0 is clean"),
    "gain_excess": ("Gain κ over that of the input", "what the network adds"),
    "cycle_spin": ("Cycle-spin residual", "share of the logits that does not move with the image"),
    "cycle_spin_locked": ("… locked to the grid", "the part that repeats with the strides"),
    "staircase": ("Staircase κ", "voxels that a phase is late on a slope"),
    "boundary_distance": ("Boundaries by phase against the truth", "total variation, 0 to 1"),
    "dice_change": ("Dice, cycle-spun over control", "what the phases cost"),
    "surface_dice_change": ("Surface Dice, cycle-spun over control", "what the phases cost"),
}


def render_html(title: str, record: ArtifactRecord, figures: Sequence[Drawing]) -> str:
    """The page; it needs no network."""
    page = Environment(
        loader=PackageLoader("medseg.report.artifacts"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return page.get_template("artifacts.html.j2").render(
        title=title,
        figures=[(base64.b64encode(f.png).decode(), f.caption) for f in figures],
        tables=tables(record),
        by_case=_BY_CASE,
        **_sentences(record),
    )


def render_markdown(title: str, record: ArtifactRecord) -> str:
    """The same tables."""
    said = _sentences(record)
    lines = [f"# {title}", "", said["lead"], ""]
    for name, (head, rows) in tables(record).items():
        lines += [f"## {name}", "", _row(head), _row(["---"] * len(head)), *map(_row, rows), ""]
    lines += [f"- {note}" for note in said["notes"]]
    return "\n".join(lines).rstrip() + "\n"


def render_csv(cases: Sequence[CaseRow]) -> str:
    """One row per case and measure, as `case,of,measure,value`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "of", "measure", "value"])
    for case in cases:
        for group in _GROUPS:
            values = case.values.get(group, {})
            writer.writerows(
                [case.case, group, name, "" if value is None else repr(value)]
                for name, value in values.items()
            )
    return text.getvalue()


def tables(record: ArtifactRecord) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Title → heads and rows; a table without rows is left out."""
    made = {
        "Headline": (
            ["measure", "mean over cases", "95 % interval", "cases", ""], _headline(record)
        ),
        "Test over cases": (["of", "p", "R² of phases", "coherence", "cases"], _tests(record)),
        "Upsampling layers": (
            ["layer", "stride", "overlap", "DC gain", "… of mean features", "… of features",
             "noise gain", "imaging", "sum rules"],
            _layers(record),
        ),
        "Gradients of strided layers": (
            ["layer", "stride", "overlap", "imbalance", ""],
            [
                [g.layer, _times(g.stride), *_values(g, "overlap", "gradient_imbalance"), g.note]
                for g in record.gradients
            ],
        ),
        "Rows of dilated convolutions": (
            ["layers", "dilations", "common factor", "largest gap", "coverage", "imbalance"],
            [
                [d.layer, d.operator.removeprefix("dilations "),
                 *_values(d, "common_factor", "largest_gap", "coverage", "gridding_imbalance")]
                for d in record.dilated
            ],
        ),
        "Cases": (
            ["case", "gain κ", "input's", "η²", "by level", "staircase", "line dB",
             "cycle-spin", "locked", "cracks TV"],
            [_case(case) for case in record.cases],
        ),
        "Decision": (
            ["case", "Dice", "cycle-spun", "control", "surface Dice", "cycle-spun", "control"],
            [_decision(case) for case in record.cases if "decision" in case.values],
        ),
    }  # fmt: skip
    return {name: (head, rows) for name, (head, rows) in made.items() if rows}


def _sentences(record: ArtifactRecord) -> dict:
    period = " × ".join(map(str, record.period))
    lead = f"{len(record.cases)} cases; the patterns of this network repeat every {period} voxels. "
    response = record.constant_response
    lead += (
        "The response to a constant was not measured."
        if response is None
        else f"On a constant it prints {number(100 * response)} % of the logits' spread: "
        f"{band(response)}."
    )
    return {"lead": lead, "notes": record.notes}


def _headline(record: ArtifactRecord) -> list[list[str]]:
    return [
        [title, number(found.mean), interval(found), str(found.cases), _word(name, found, meaning)]
        for name, (title, meaning) in _HEADLINES.items()
        if (found := record.means.get(name)) is not None
    ]


def _word(name: str, found: Estimate, meaning: str) -> str:
    return f"{band(found.mean)}: {meaning}" if name == "gain" else meaning


def _tests(record: ArtifactRecord) -> list[list[str]]:
    pairs: list[tuple[str, PhaseLocked | None]] = [
        ("prediction", record.prediction),
        ("input", record.image),
    ]
    return [
        [of, number(t.p_value), number(t.r_squared), number(t.coherence), str(t.cases)]
        for of, t in pairs
        if t is not None
    ]


def _layers(record: ArtifactRecord) -> list[list[str]]:
    return [
        [
            layer.layer,
            _times(layer.stride),
            *([layer.note, *[NOTHING] * 6] if layer.note else _values(
                layer, "overlap", "dc_gain", "dc_gain_mean", "dc_gain_data", "noise_gain",
                "imaging", "sum_rule_order",
            )),
        ]
        for layer in record.layers
    ]  # fmt: skip


def _case(case: CaseRow) -> list[str]:
    logits, spin = (case.values.get(group, {}) for group in ("prediction", "cycle_spin"))
    shares = [v for k, v in logits.items() if k.startswith("eta_squared_level_")]
    return [
        case.case,
        number(logits.get("gain")),
        number(case.get("image", "gain")),
        number(logits.get("eta_squared")),
        ", ".join(map(number, shares)),
        number(logits.get("staircase")),
        number(logits.get("line_decibel")),
        number(spin.get("cycle_spin")),
        number(spin.get("cycle_spin_locked")),
        number(case.get("labels", "boundary_distance")),
    ]


def _values(row: LayerRow, *names: str) -> list[str]:
    return [number(row.values.get(name)) for name in names]


def _decision(case: CaseRow) -> list[str]:
    suffixes = ("", "_spun", "_control")
    names = [f"{metric}{suffix}" for metric in ("dice", "surface_dice") for suffix in suffixes]
    found = [case.get("decision", name) for name in names]
    return [case.case, *(NOTHING if value is None else f"{value:.4f}" for value in found)]


def interval(found: Estimate) -> str:
    """`0.012 … 0.034`; none for fewer than 8 cases."""
    if found.low is None or found.high is None:
        return NOTHING
    return f"{number(found.low)} … {number(found.high)}"


def number(value: float | None) -> str:
    """Three significant digits; what is below 1e-6 of anything is rounding, and 0."""
    if value is None:
        return NOTHING
    if abs(value) < 1e-6:
        return "0"
    return f"{value:.3g}"


def _times(steps: Sequence[int]) -> str:
    return "×".join(map(str, steps))


def _row(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|") for cell in cells)
    return f"| {' | '.join(escaped)} |"
