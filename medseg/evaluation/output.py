"""Scores of label maps as tables, as CSV and as one page with the worst cases."""

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from medseg.evaluation.scores import Evaluation, on_truth
from medseg.files import FileId, replacing, write_text
from medseg.formatting import MISSING, counted, first_of, fixed, is_missing, one_line
from medseg.record import METRICS
from medseg.report.page import Html, Page, Section, environment, render_html
from medseg.report.tables import Cell, Table, number, table, to_csv, words
from medseg.volumes import picture_of_case, to_png, to_ras

PAGE, SCORES, CLASSES = "evaluation.html", "scores.csv", "classes.csv"
_DRAWN = 12  # cases, the worst first
_VOLUMES = {"volume_error_ml": "Volume error (ml)", "volume_error_percent": "Volume error (%)"}
_DIGITS = {name: metric.digits for name, metric in METRICS.items()} | dict.fromkeys(_VOLUMES, 2)
_TITLES = {
    name: f"{metric.title} ({metric.unit})" if metric.unit else metric.title
    for name, metric in METRICS.items()
} | _VOLUMES


def write_evaluation(
    found: Evaluation,
    folder: Path,
    *,
    overwrite: bool = False,
    inputs: frozenset[FileId] = frozenset(),
) -> tuple[Path, ...]:
    """Writes page and CSV.

    Args:
        found: What was scored.
        folder: Receives evaluation.html, scores.csv and classes.csv.
        overwrite: Replace files whoever wrote them.
        inputs: Files that are never replaced.

    Raises:
        ConfigError: a file there is not medseg's.
        ResourceError: it cannot be written.
    """
    texts = {
        folder / PAGE: _page(found),
        folder / SCORES: to_csv(found.table),
        folder / CLASSES: to_csv(pd.DataFrame(means(found))),
    }
    with replacing(texts, overwrite=overwrite, inputs=inputs):
        for path, text in texts.items():
            write_text(path, text)
    return tuple(texts)


def means(found: Evaluation) -> list[dict[str, Any]]:
    """One row per class × measure, over the cases in which it is defined."""
    rows = []
    for name in found.classes:
        cases = found.table[found.table["class"] == name]
        for measure in _TITLES:
            values = pd.Series(cases[measure], dtype=float).dropna()
            about = values.agg(["mean", "std", "median", "min", "max"]).to_dict()
            counts = {"cases": len(values), "undefined": len(cases) - len(values)}
            rows.append({"class": name, "measure": measure} | counts | about)
    return rows


def classes_table(found: Evaluation) -> Table:
    """Means of every class with the range over cases, and over classes."""
    found_means = means(found)
    rows = []
    for name in found.classes:
        own = {row["measure"]: row for row in found_means if row["class"] == name}
        undefined = own["dice"]["undefined"]
        row = {
            "Class": words(one_line(name)),
            "Cases": number(own["dice"]["cases"], str, f"{undefined} undefined" * bool(undefined)),
        }
        for measure, title in _TITLES.items():
            ends = " … ".join(_text(measure)(own[measure][end]) for end in ("min", "max"))
            note = ends if own[measure]["cases"] > 1 else ""
            row[title] = number(own[measure]["mean"], _text(measure), note)
        rows.append(row)
    if len(found.classes) > 1:
        over = {"Class": words("mean of the classes")}
        for measure in METRICS:
            values = [row["mean"] for row in found_means if row["measure"] == measure]
            known = [value for value in values if not is_missing(value)]
            over[_TITLES[measure]] = number(fmean(known) if known else None, _text(measure))
        rows.append(over)
    return table(
        f"Means over cases, with their range. Surface Dice at {found.tolerance_mm:g} mm; HD95 is "
        "the larger of the two directed 95th percentiles. A class in neither label map is "
        "undefined and left out; in one of them only, its Dice is 0 and its HD95 the diagonal "
        "of the volume. A volume error above 0 says that too much was segmented.",
        rows,
    )


def _text(measure: str) -> Callable[[float | None], str]:
    return partial(fixed, digits=_DIGITS[measure])


def unmatched(found: Evaluation) -> list[str]:
    """Sentences on the cases that only one side has, and those that could not be scored."""
    sides = {
        "of the truth without a prediction": found.without_prediction,
        "predicted without a truth": found.without_truth,
    }
    lines = [
        f"{counted(len(names), 'case')} {side}, not in the means: {first_of(names)}"
        for side, names in sides.items()
        if names
    ]
    return [one_line(line) for line in (*lines, *found.failures.values())]


def _page(found: Evaluation) -> str:
    worst = _worst(found)
    about = f"{counted(len(worst), 'case')}, {len(found.classes)} classes"
    cases = [_cases_table(found, [*worst]), _pictures(found, worst)]
    sections = [
        Section("Classes", [classes_table(found), unmatched(found)], key="classes"),
        Section("Cases", cases, key="cases"),
    ]
    return render_html(Page("Evaluation of label maps", about), sections)


def _worst(found: Evaluation) -> dict[str, float]:
    """Case → mean Dice over its classes, the lowest first; a case without any is last, with inf."""
    values: dict[str, list[float]] = {}
    for row in found.table.to_dict("records"):
        own = values.setdefault(row["case"], [])
        own += [] if is_missing(row["dice"]) else [row["dice"]]
    means = {case: fmean(own) if own else np.inf for case, own in values.items()}
    return {case: means[case] for case in sorted(means, key=lambda case: means[case])}


def _cases_table(found: Evaluation, cases: Sequence[str]) -> Table:
    place = {case: number for number, case in enumerate(cases)}
    rows = []
    for values in sorted(found.table.to_dict("records"), key=lambda own: place[own["case"]]):
        row: dict[str, Cell | str] = {
            "Case": words(one_line(values["case"])),
            "Class": words(one_line(values["class"])),
        }
        row |= {title: number(values[key], _text(key)) for key, title in _TITLES.items()}
        rows.append(row | {"Volume (ml)": number(values["truth_ml"], lambda v: fixed(v, 2))})
    return table("The case of the lowest mean Dice first; all of them in scores.csv.", rows)


def _pictures(found: Evaluation, worst: Mapping[str, float]) -> Html:
    shots = [
        {
            "case": one_line(case),
            "marks": f"mean Dice {fixed(value) if value < np.inf else MISSING}",
            "caption": "",
            "png": _drawn(case, found),
        }
        for case, value in [*worst.items()][:_DRAWN]
    ]
    about = "The worst cases at the axial slice with most label: true labels, and as predicted."
    template = environment().get_template("contact.html.j2")
    return Html(Markup(template.render(shots=shots, about=about)))


def _drawn(case: str, found: Evaluation) -> str:
    image, label = found.truths[case]()
    affine = label.geometry.affine
    true = to_ras(label.array, affine)
    behind = np.zeros(true.shape) if image is None else to_ras(image.array[0], affine)
    predicted = to_ras(on_truth(found.predictions[case], image, label).array, affine)
    picture = picture_of_case(behind, true, predicted, label.geometry.ras_spacing, size=240)
    return base64.b64encode(to_png(picture)).decode()
