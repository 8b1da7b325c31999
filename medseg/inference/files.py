"""Prediction of one image: read, segment, write, report."""

import json
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from medseg import __version__
from medseg.data.dataset import Scan
from medseg.data.reading import read_scan
from medseg.errors import DataError
from medseg.files import file_ids, sha256, write_text
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel
from medseg.volumes import (
    Form,
    Volume,
    files_of,
    read_labels,
    write_labels,
    write_probabilities,
)


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files one case becomes.

    Args:
        labels: Label map, under the case's name.
        probabilities: Class probabilities.
        report: What was done.
    """

    labels: Path
    probabilities: Path
    report: Path

    @classmethod
    def of(cls, scan: Scan, folder: Path) -> "Outputs":
        """Names derived from the case's."""
        name = scan.case_id
        return cls(
            labels=folder / f"{name}.nii.gz",
            probabilities=folder / f"{name}_probabilities.nii.gz",
            report=folder / f"{name}.json",
        )

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """All three, whether they are there or not."""
        return self.labels, self.probabilities, self.report

    def written(self, *, probabilities: bool) -> tuple[Path, ...]:
        """Those that a prediction writes."""
        return self.paths if probabilities else (self.labels, self.report)


def predict_file(
    scan: Scan,
    outputs: Outputs,
    *,
    model: TrainedModel,
    predictor: Predictor,
    probabilities: bool = False,
    prefer: Form = "sform",
) -> dict[str, Any]:
    """Segments one image and writes its outputs; the report last.

    Voxels that are NaN or infinite are replaced by the channel's smallest value, with a note.

    Returns:
        The report, as written.

    Raises:
        DataError: the file cannot be used, or would be overwritten by its own result.
        ResourceError: memory or disk do not suffice.
    """
    start = time.perf_counter()
    if file_ids(outputs.paths) & file_ids(files_of_scan(scan)):
        raise DataError(
            f"{scan.image}: its own result would overwrite it; choose another output folder"
        )
    volume = read_scan(scan, model.card.in_channels, nonfinite="replace", prefer=prefer)
    read = time.perf_counter()
    prediction = predictor.predict(volume, probabilities=probabilities)
    predicted = time.perf_counter()
    if prediction.probabilities is not None:
        write_probabilities(outputs.probabilities, prediction.probabilities, volume)
    write_labels(outputs.labels, prediction.labels, volume)
    empty = [] if prediction.labels.any() else ["nothing was segmented: the label map is empty"]
    notes = [*volume.notes, *empty]
    files = _files_sha256(scan)
    seconds = {"read": read - start, **prediction.seconds}
    seconds |= {"write": time.perf_counter() - predicted, "total": time.perf_counter() - start}
    report = {
        "input": str(scan.image),
        "input_sha256": files.get(scan.image.name) or next(iter(files.values())),
        "files_sha256": files,
        "output": outputs.labels.name,
        "probabilities": outputs.probabilities.name if probabilities else None,
        "geometry": _geometry(volume),
        "notes": notes,
        "classes": _class_sizes(prediction.labels, model.card.classes, volume),
        "model": {
            "weights": str(model.source),
            "weights_sha256": model.sha256,
            "dataset": model.card.dataset,
            "network": model.card.network,
            "preprocessing": model.card.preprocessing,
        },
        "window": _window(model, predictor),
        "prefer": prefer,
        "device": str(predictor.device),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "versions": {"medseg": __version__} | {p: version(p) for p in ("torch", "monai")},
    }
    write_text(outputs.report, json.dumps(report, indent=1) + "\n")
    return report


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "source": volume.geometry.source,
        "shape": list(volume.array.shape[-3:]),
        "spacing_mm": [round(float(s), 6) for s in volume.geometry.spacing],
        "axes": "".join(volume.geometry.axcodes),
    }


def _class_sizes(labels: np.ndarray, classes: list[str], volume: Volume) -> dict[str, Any]:
    millilitres = abs(float(np.linalg.det(volume.geometry.affine[:3, :3]))) / 1000
    counts = np.bincount(labels.ravel(), minlength=len(classes) + 1)
    return {
        name: {
            "label": value,
            "voxels": int(counts[value]),
            "millilitres": round(int(counts[value]) * millilitres, 4),
        }
        for value, name in enumerate(classes, start=1)
    }


def files_of_scan(scan: Scan) -> list[Path]:
    """All files of an image."""
    return [file for path in scan.images for file in files_of(path)]


def _files_sha256(scan: Scan) -> dict[str, str]:
    """Name → SHA-256 of every file of an image; with its folder where names are not unique."""
    files = files_of_scan(scan)
    if len({path.name for path in files}) < len(files):
        return {f"{path.parent.name}/{path.name}": sha256(path) for path in files}
    return {path.name: sha256(path) for path in files}


def is_done(
    scan: Scan,
    outputs: Outputs,
    model: TrainedModel,
    *,
    predictor: Predictor,
    probabilities: bool = False,
    prefer: Form = "sform",
) -> bool:
    """Whether `outputs` are whole and come from this input, these weights and these options."""
    if probabilities and not outputs.probabilities.is_file():
        return False
    try:
        report = json.loads(outputs.report.read_text(encoding="utf-8"))
        files = _files_sha256(scan)
        # reports of medseg 0.1.0 know one file of an input, and not the preferred orientation
        if "files_sha256" not in report:
            files = {scan.image.name: files[scan.image.name]}
            report["files_sha256"] = {scan.image.name: report["input_sha256"]}
        found = read_labels(outputs.labels, num_classes=None)
        return (
            report["files_sha256"] == files
            and report["model"]["weights_sha256"] == model.sha256
            and report["model"]["preprocessing"] == model.card.preprocessing
            and report["window"] == _window(model, predictor)
            and report.get("prefer", "sform") == prefer
            and report["geometry"]["shape"] == list(found.array.shape)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError):
        return False


def _window(model: TrainedModel, predictor: Predictor) -> dict[str, Any]:
    return {"patch_size": model.card.patch_size, "overlap": predictor.overlap}
