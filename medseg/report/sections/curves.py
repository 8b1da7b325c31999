"""Histories of training by epoch."""

from medseg.report import figures
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData

_CURVES = {"val_dice": "Validation Dice", "train_loss": "Training loss"}


def curves(data: ReportData) -> Section:
    """Validation Dice and training loss of every arm."""
    drawn = [
        Figure(
            figures.curve(figures.histories(data.arms, key), label, data.style),
            f"{label} by epoch",
        )
        for key, label in _CURVES.items()
    ]
    if not any(drawn):
        return Section("Training curves", ["No run recorded an epoch."], key="curves")
    coloured = (
        " Coloured are the reference and the arms with the highest mean Dice, "
        f"{figures.HIGHLIGHTS} in all."
    )
    note = (
        "One line per arm, the mean of its runs; thin lines are single runs. Unfinished runs are "
        f"drawn as far as they came.{coloured if len(data.arms) > figures.HIGHLIGHTS else ''}"
    )
    return Section("Training curves", [drawn, Note(note)], key="curves", legend=True)
