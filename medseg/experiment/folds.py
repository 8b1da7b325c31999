"""A cross-validation as one result: a table, out-of-fold label maps, an ensemble.

Beside the runs of its folds lie `folds.csv`, `out_of_fold/CASE.nii.gz`, each case as segmented by
the fold that did not see it, and `ensemble/`, a model folder of each fold with `ensemble.json`.
"""

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from medseg.errors import DataError
from medseg.experiment.folder import label_maps
from medseg.files import atomic_path, replacing, write_text
from medseg.formatting import first_of, fixed, markdown_table
from medseg.models.members import ENSEMBLE, ENSEMBLE_FOLDER, members_text
from medseg.models.weights import MODEL_FILES, MODEL_FOLDER
from medseg.record import FILE_NAME, METRICS, AblationPlan, RunRecord
from medseg.record.frame import frame

log = logging.getLogger(__name__)

TABLE = "folds.csv"
OUT_OF_FOLD = "out_of_fold"
ALL = "all"


def gather(plan: AblationPlan, folder: Path) -> list[str]:
    """Writes the result of a cross-validation whose folds are all completed, wholly or not at all.

    Args:
        plan: Of the cross-validation.
        folder: With the runs of its folds.

    Returns:
        The table of `fold_table`, as lines.

    Raises:
        DataError: a run's record or one of its files is gone.
        ConfigError: a file would be replaced that medseg did not write.
    """
    runs = {cell.fold: RunRecord.read(folder / cell.folder / FILE_NAME) for cell in plan.cells}
    table = fold_table(list(runs.values()))
    members = {f"fold_{fold}": run.path.parent / MODEL_FOLDER for fold, run in runs.items()}
    copies = {
        folder / ENSEMBLE_FOLDER / member / name: model / name
        for member, model in members.items()
        for name in MODEL_FILES
    }
    for case, label_map in _label_maps(list(runs.values())).items():
        copies[folder / OUT_OF_FOLD / f"{case}.nii.gz"] = label_map
    if lost := [path for path in copies.values() if not path.is_file()]:
        raise DataError(
            f"{first_of([str(path) for path in lost])}: gone since the fold was trained; move the "
            "fold's folder away and repeat the command"
        )
    listing, csv = folder / ENSEMBLE_FOLDER / ENSEMBLE, folder / TABLE
    with replacing([*copies, csv, listing]):
        for target, source in copies.items():
            with atomic_path(target) as part:
                shutil.copyfile(source, part)
        write_text(csv, table.to_csv(index=False))
        write_text(listing, members_text(members))
    return _lines(table)


def fold_table(runs: Sequence[RunRecord]) -> pd.DataFrame:
    """Means over held-out cases, by fold and class.

    Args:
        runs: One of each fold.

    Returns:
        Columns `fold`, "all" in the rows of all held-out cases together, `class`, `cases`, and one
        for each of `METRICS`: the mean over the cases that define it, NaN where none does.
    """
    values = frame(runs)
    together = pd.concat([values, values.assign(fold=ALL)], ignore_index=True)
    keys = ["fold", "class"]
    means = together.pivot_table(
        index=keys, columns="metric", values="value", aggfunc="mean", sort=False, dropna=False
    )
    cases = pd.DataFrame({"cases": together.groupby(keys, sort=False)["case"].nunique()})
    return cases.join(means.reindex(columns=list(METRICS))).reset_index()


def _label_maps(runs: Sequence[RunRecord]) -> dict[str, Path]:
    """Case → the label map of the fold that held it out; says which have several or none."""
    found: dict[str, Path] = {}
    for run in runs:
        own = [case.case for case in run.cases]
        if strange := [case for case in own if Path(case).name != case]:
            raise DataError(f"{run.source}: {first_of(strange)}: is no name of a case")
        for case, path in zip(own, label_maps(run.path.parent, own), strict=True):
            found.setdefault(case, path)
    counted = Counter(case.case for run in runs for case in run.cases)
    if several := sorted(case for case, count in counted.items() if count > 1):
        text = "held out by several folds, the first of which gives their out-of-fold label map"
        log.warning("%s: %s", first_of(several), text)
    known = {case for run in runs for side in run.split.values() for case in side}
    if never := sorted(known - counted.keys()):
        log.warning("%s: held out by no fold", first_of(never))
    return found


def _lines(table: pd.DataFrame) -> list[str]:
    head = ["fold", "class", "cases", *(f"{m.title} {m.unit}".strip() for m in METRICS.values())]
    rows = [
        [str(row["fold"]), str(row["class"]), str(row["cases"])]
        + [fixed(float(row[metric]), about.digits) for metric, about in METRICS.items()]
        for row in table.to_dict("records")
    ]
    numeric = [True, False, True, *[True] * len(METRICS)]
    return markdown_table(head, rows, numeric).splitlines()
