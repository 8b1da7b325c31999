"""Histories of training by epoch."""

from collections.abc import Mapping
from typing import Literal

from medseg.plotting import HIGHLIGHTS
from medseg.report.figures.curves import curve, histories
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData


def curves(data: ReportData) -> Section:
    """Validation Dice and training loss of every arm."""
    labels = {"val_dice": "Validation Dice", "train_loss": "Training loss"}
    drawn = curve_figures(data, labels, "history")
    if not any(drawn):
        return Section("Training curves", ["No run recorded an epoch."], key="curves")
    coloured = (
        f" Coloured are the reference and the arms with the highest mean Dice, {HIGHLIGHTS} in all."
    )
    note = (
        "One line per arm, the mean of its runs; thin lines are single runs. Unfinished runs are "
        f"drawn as far as they came.{coloured if len(data.arms) > HIGHLIGHTS else ''}"
    )
    return Section("Training curves", [drawn, Note(note)], key="curves", legend=True)


def curve_figures(
    data: ReportData, labels: Mapping[str, str], field: Literal["history", "artifact_history"]
) -> list[Figure]:
    """A figure for each quantity of the runs' histories.

    Args:
        data: What the report shows.
        labels: Key of a history's rows → name of the quantity.
        field: Which history of a run.
    """
    return [
        Figure(curve(histories(data.arms, key, field), label, data.style), f"{label} by epoch")
        for key, label in labels.items()
    ]
