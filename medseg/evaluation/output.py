"""Scores of label maps as tables, as CSV and as one page with the worst cases."""

import base64
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from medseg.evaluation.scores import Evaluation, Scored, on_truth
from medseg.files import FileId, replacing, write_text
from medseg.formatting import MISSING, counted, first_of, fixed, is_missing, one_line
from medseg.record import METRICS
from medseg.report.page import Html, Page, Section, environment, render_html
from medseg.report.tables import Cell, Table, number, table, to_csv, words
from medseg.volumes import picture_of_case, to_png, to_ras

PAGE, SCORES, CLASSES = "evaluation.html", "scores.csv", "classes.csv"
_DRAWN = 12  # cases, the worst first
_VOLUME = "volume_error_ml"
_DIGITS = {name: metric.digits for name, metric in METRICS.items()} | {_VOLUME: 2}
_TITLES = {
    name: f"{metric.title} ({metric.unit})" if metric.unit else metric.title
    for name, metric in METRICS.items()
} | {_VOLUME: "Volume error (ml)"}


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
    worst = sorted(found.scored, key=_overall)
    about = f"{counted(len(found.scored), 'case')}, {len(found.classes)} classes"
    sections = [
        Section("Classes", [classes_table(found), unmatched(found)], key="classes"),
        Section(
            "Cases", [_cases_table(worst, found.classes), _pictures(worst, found)], key="cases"
        ),
    ]
    return render_html(Page("Evaluation of label maps", about), sections)


def _overall(case: Scored) -> float:
    """Mean Dice over the classes; a case without any is last."""
    values = [own["dice"] for own in case.metrics.values() if own["dice"] is not None]
    return fmean(values) if values else np.inf


def _cases_table(cases: Sequence[Scored], classes: Sequence[str]) -> Table:
    rows = []
    for case in cases:
        for name in classes:
            true, predicted = case.millilitres[name]
            values = case.metrics[name] | {_VOLUME: predicted - true}
            row: dict[str, Cell | str] = {
                "Case": words(one_line(case.case_id)),
                "Class": words(one_line(name)),
            }
            for measure, title in _TITLES.items():
                row[title] = number(values[measure], _text(measure))
            row["Volume (ml)"] = number(true, lambda v: fixed(v, 2))
            rows.append(row)
    return table("The case of the lowest mean Dice first; all of them in scores.csv.", rows)


def _pictures(cases: Sequence[Scored], found: Evaluation) -> Html:
    shots = []
    for case in cases[:_DRAWN]:
        value = _overall(case)
        shots.append(
            {
                "case": one_line(case.case_id),
                "marks": f"mean Dice {fixed(value) if value < np.inf else MISSING}",
                "caption": "",
                "png": _drawn(case, found),
            }
        )
    about = "The worst cases at the axial slice with most label: true labels, and as predicted."
    template = environment().get_template("contact.html.j2")
    return Html(Markup(template.render(shots=shots, about=about)))


def _drawn(case: Scored, found: Evaluation) -> str:
    image, label = found.truths[case.case_id].read()
    affine = label.geometry.affine
    true = to_ras(label.array, affine)
    behind = np.zeros(true.shape) if image is None else to_ras(image.array[0], affine)
    predicted = to_ras(on_truth(case.prediction, image, label).array, affine)
    picture = picture_of_case(behind, true, predicted, label.geometry.ras_spacing, size=240)
    return base64.b64encode(to_png(picture)).decode()
