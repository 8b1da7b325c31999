"""Everything that the templates show, as plain data."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
from markupsafe import Markup

from medseg.plotting import to_svg
from medseg.record import RunRecord
from medseg.report import figures, measures, prose, tables
from medseg.report.arm import Arm
from medseg.report.artifact_table import artifact_table
from medseg.report.cases import case_views
from medseg.report.cautions import cautions_of
from medseg.report.cells import counted
from medseg.report.collect import Collection
from medseg.report.costs import memory_promises, promises_table, step_promises
from medseg.report.figures import phase_maps, spectra
from medseg.report.problems import problems_table
from medseg.report.provenance import provenance_of
from medseg.report.studies import Study
from medseg.report.trade import fronts_of
from medseg.report.view import view_of
from medseg.statistics import RULE

CASE_BYTES = 8 * 2**20
_TRAJECTORIES = {
    "dc_gain_mean": "DC-gain imbalance of mean features",
    "constant_response": "Constant response",
    "cycle_spin": "Cycle-spin residual",
}
_CURVES = {"val_dice": "Validation Dice", "train_loss": "Training loss"}


def contents(
    collection: Collection,
    values: measures.Values,
    studies: Sequence[Study],
    *,
    date: datetime,
) -> dict[str, Any]:
    """Names of the templates → what they show."""
    arms = collection.arms
    views = [view_of(collection, study) for study in studies]
    references = {study.dataset: study.reference.arm for study in studies}
    style = _style(arms, values, references.values())
    return {
        **_heading(collection),
        "date": f"{date:%d %B %Y, %H:%M %Z}",
        "views": [view for view, _ in views],
        "nothing": _nothing(collection, studies),
        "cautions": cautions_of(collection, studies, [factors for _, factors in views]),
        "key": [(arm.number, arm.label, style.get(arm.number)) for arm in arms],
        "style": style,
        "highlights": figures.HIGHLIGHTS,
        "arms": tables.arms_table(arms, values, _verdicts(studies)),
        "classes": tables.classes_table(arms, values),
        "problems": problems_table(collection),
        "fronts": _fronts(arms, values, style),
        "cases": case_views(
            arms, _first_reference(arms, studies), sorted(style), budget_bytes=CASE_BYTES
        ),
        "curves": _curves(arms, style, _CURVES, "history"),
        "upsampling": tables.upsampling_table(arms),
        "artifacts": artifact_table(arms),
        "phases": _phases(arms, style),
        "trajectories": _curves(arms, style, _TRAJECTORIES, "artifact_history"),
        "promises": promises_table(arms, references),
        "promised": _promised(arms, references, style),
        "provenance": provenance_of(collection),
        "rule": RULE,
        "prose": prose,
    }


def _heading(collection: Collection) -> dict[str, Any]:
    arms, runs = collection.arms, collection.runs
    datasets = list(dict.fromkeys(arm.dataset for arm in arms if arm.dataset))
    plans = list(dict.fromkeys(found.plan.name for found in collection.plans))
    kind = f"Ablation {', '.join(plans)}" if plans else "Segmentation report"
    finished = sum(run.record.status == "completed" for run in runs)
    seeds = len({run.record.seed for run in runs})
    return {
        "title": ": ".join(filter(None, [kind, ", ".join(datasets)])),
        "headline": f"{counted(len(runs), 'run')} ({finished} completed) in "
        f"{counted(len(arms), 'arm')} with {counted(seeds, 'seed')}",
        "datasets": datasets,
        "missing_count": len(collection.missing),
        "unreadable_count": len(collection.unreadable),
    }


def _nothing(collection: Collection, studies: Sequence[Study]) -> list[str]:
    """What stands in for a summary where nothing can be compared."""
    if not any(arm.counted for arm in collection.arms):
        return ["No run has finished, so there is nothing to compare yet."]
    told = {study.dataset for study in studies}
    untold = dict.fromkeys(arm.dataset for arm in collection.arms if arm.counted)
    return [
        f"On {dataset or 'an unnamed dataset'} no Dice value is defined."
        for dataset in untold
        if dataset not in told
    ]


def _style(arms: Sequence[Arm], values: measures.Values, references: Any) -> dict[int, int]:
    """Colours for the best arms; a reference always has one."""
    means = {}
    for arm in arms:
        summary = values.summary(arm.number, "dice")
        if summary and summary.cases:
            means[arm.number] = summary.mean
    first = {arm.number: float("inf") for arm in references}
    return figures.styles(means | first)


def _verdicts(studies: Sequence[Study]) -> dict[int, str]:
    found = {c.arm: c.verdict for study in studies for c in study.chief.comparisons}
    return {**found, **{study.reference.arm.number: "reference" for study in studies}}


def _first_reference(arms: Sequence[Arm], studies: Sequence[Study]) -> int:
    return studies[0].reference.arm.number if studies else arms[0].number


def _fronts(
    arms: Sequence[Arm], values: measures.Values, style: dict[int, int]
) -> dict[str, list[Markup]]:
    """Quality → its figures, one by each cost."""
    drawn: dict[str, list[Markup]] = {}
    for front in fronts_of(arms, values):
        figure = figures.pareto(
            pd.DataFrame(map(vars, front.points)),
            x_label=front.cost.title,
            y_label=front.y_label,
            places=style,
            unit=front.cost.unit,
            higher_better=front.higher_y_better,
        )
        svg = to_svg(figure, f"{front.y_label} against {front.cost.title}")
        drawn.setdefault(front.y_label, []).append(Markup(svg))
    return drawn


def _curves(
    arms: Sequence[Arm], style: dict[int, int], wanted: dict[str, str], field: Any
) -> list[Markup]:
    drawn = (
        to_svg(
            figures.curve(figures.histories(arms, key, field), label, style), f"{label} by epoch"
        )
        for key, label in wanted.items()
    )
    return [Markup(svg) for svg in drawn if svg]


def _phases(arms: Sequence[Arm], style: dict[int, int]) -> list[tuple[Markup, str]]:
    """Heat-maps and spectra of the coloured arms, each from the first run that has them."""
    found = [(arm, _measured(arm)) for arm in arms if arm.number in style]
    maps = [
        (arm.number, arm.label, record.artifacts.phase_map)
        for arm, record in found
        if record and record.artifacts and record.artifacts.phase_map
    ]
    lines = [
        (arm.number, arm.label, record.artifacts.spectra)
        for arm, record in found
        if record and record.artifacts and record.artifacts.spectra
    ]
    drawn = (
        (to_svg(phase_maps(maps), "Gain of each phase by arm"), prose.PHASE_MAPS),
        (to_svg(spectra(lines), "Power of the logits by frequency, by arm"), prose.SPECTRA),
    )
    return [(Markup(svg), caption) for svg, caption in drawn if svg]


def _measured(arm: Arm) -> RunRecord | None:
    return next((run.record for run in arm.counted if run.record.artifacts), None)


def _promised(
    arms: Sequence[Arm], references: dict[str, Arm], style: dict[int, int]
) -> list[Markup]:
    drawn = []
    for promises, label, unit in (
        (memory_promises(arms), "Memory of a training step", "B"),
        (step_promises(arms, references), "Training step", "s"),
    ):
        frame = pd.DataFrame(map(vars, promises), columns=["arm", "promised", "measured"])
        figure = figures.predicted_figure(
            frame.rename(columns={"promised": "predicted"}), label=label, unit=unit, places=style
        )
        drawn.append(to_svg(figure, f"{label}: measured against predicted"))
    return [Markup(svg) for svg in drawn if svg]
