"""The files of one case: its image is read, its outputs and a report are written."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from medseg import __version__
from medseg.data.dataset import Scan
from medseg.data.reading import read_scan
from medseg.errors import DataError
from medseg.files import file_ids, is_own, lists_own_files, sha256, write_bytes, write_text
from medseg.formatting import one_line
from medseg.inference.ensemble import Ensemble
from medseg.inference.outputs import Outputs, Wanted
from medseg.inference.segment import Prediction
from medseg.labelling import Labelling
from medseg.volumes import (
    Volume,
    draw_planes,
    files_of,
    range_of,
    read_labels,
    to_png,
    write_map,
    write_probabilities,
)
from medseg.volumes.writers import FORMATS, LabelMap
from medseg.volumes.writers.tables import write_colour_table, write_label_descriptions

_PLAIN = Wanted()


@dataclass(frozen=True, kw_only=True)
class Input:
    """A case that was read.

    Args:
        scan: Its files.
        volume: Its image; voxels that were NaN or infinite are the channel's smallest value.
        seconds: That reading took.
    """

    scan: Scan
    volume: Volume
    seconds: float


def read_input(
    scan: Scan, outputs: Outputs, *, ensemble: Ensemble, wanted: Wanted = _PLAIN
) -> Input:
    """Reads one image.

    Raises:
        DataError: the file cannot be used, or would be overwritten by its own result.
    """
    start = time.perf_counter()
    if file_ids(outputs.paths) & file_ids(files_of_scan(scan)):
        raise DataError(
            f"{scan.image}: its own result would overwrite it; choose another output folder"
        )
    volume = read_scan(scan, ensemble.in_channels, nonfinite="replace", prefer=wanted.prefer)
    return Input(scan=scan, volume=volume, seconds=time.perf_counter() - start)


def write_outputs(
    read: Input,
    prediction: Prediction,
    outputs: Outputs,
    *,
    ensemble: Ensemble,
    wanted: Wanted = _PLAIN,
) -> dict[str, Any]:
    """Writes the outputs of one image; the report last.

    Returns:
        The report, as written.

    Raises:
        ResourceError: memory or disk do not suffice.
    """
    start, volume, scan = time.perf_counter(), read.volume, read.scan
    if prediction.probabilities is not None:
        write_probabilities(outputs.probabilities, prediction.probabilities, volume)
    if prediction.uncertainty is not None:
        write_map(outputs.uncertainty, prediction.uncertainty, volume)
    labels, labelling = prediction.labels, ensemble.labelling
    if wanted.postprocessing:
        labels = wanted.postprocessing(labels, _voxel_mm3(volume), labelling)
    names = [one_line(name) for name in labelling.value_names]
    _write(LabelMap.of(labels, names, volume), outputs, wanted, labelling)
    empty = [] if labels.any() else ["nothing was segmented: the label map is empty"]
    files = _files_sha256(scan)
    seconds = {"read": read.seconds, **prediction.seconds}
    seconds["write"] = time.perf_counter() - start
    seconds["total"] = sum(seconds.values())
    engines = {member.predictor.engine for member in ensemble.members}
    libraries = sorted({"torch", "monai"} | engines)
    report = {
        "input": str(scan.image),
        "input_sha256": files.get(scan.image.name) or next(iter(files.values())),
        "files_sha256": files,
        "format": outputs.file_format,
        "output": outputs.labels.name,
        "probabilities": outputs.probabilities.name if wanted.probabilities else None,
        "uncertainty": outputs.uncertainty.name if wanted.uncertainty else None,
        "geometry": _geometry(volume),
        "notes": [*volume.notes, *_unlike(volume, ensemble), *empty],
        "classes": _class_sizes(labels, labelling, volume),
        **_shaped_by(ensemble, wanted),
        "device": str(ensemble.device),
        "seconds": {stage: round(value, 4) for stage, value in seconds.items()},
        "versions": {"medseg": __version__} | {name: version(name) for name in libraries},
    }
    write_text(outputs.report, json.dumps(report, indent=1) + "\n")
    return report


def _write(label_map: LabelMap, outputs: Outputs, wanted: Wanted, labelling: Labelling) -> None:
    """Writes a label map, and what else is made of it."""
    write = FORMATS[outputs.file_format].write
    write(outputs.labels, label_map)
    if wanted.overlay:
        like = label_map.like
        picture = draw_planes(like.array, label_map.labels, like.geometry)
        write_bytes(outputs.overlay, to_png(picture))
    if wanted.label_names:
        table, descriptions = outputs.tables
        write_colour_table(table, label_map)
        write_label_descriptions(descriptions, label_map)
    if wanted.split_classes:
        for index, path in enumerate(outputs.classes):
            write(path, label_map.mask_of(one_line(labelling.names[index]), labelling, index))


def _shaped_by(ensemble: Ensemble, wanted: Wanted) -> dict[str, Any]:
    """All that decides the outputs besides the input."""
    members = [member.describe() for member in ensemble.members]
    several = {"members": members} if len(members) > 1 else {"model": members[0]}
    labelling, names = ensemble.labelling, ensemble.labelling.output_names
    predictors = [member.predictor for member in ensemble.members]
    windows = [list(predictor.window) for predictor in predictors]
    overlaps = list(dict.fromkeys(predictor.overlap for predictor in predictors))
    precisions = list(dict.fromkeys(predictor.precision for predictor in predictors))
    engines = list(dict.fromkeys(predictor.engine for predictor in predictors))
    return several | {
        "window": {
            "patch_size": windows if len(windows) > 1 else windows[0],
            "overlap": overlaps if len(overlaps) > 1 else overlaps[0],
        },
        "precision": precisions if len(precisions) > 1 else precisions[0],
        "engine": engines if len(engines) > 1 else engines[0],
        "prefer": wanted.prefer,
        "postprocessing": wanted.postprocessing.describe(labelling.names),
        "probabilities_of": [names[index] for index in wanted.probabilities],
    }


def _geometry(volume: Volume) -> dict[str, Any]:
    return {
        "source": volume.geometry.source,
        "shape": list(volume.array.shape[-3:]),
        "spacing_mm": [round(float(s), 6) for s in volume.geometry.spacing],
        "axes": "".join(volume.geometry.axcodes),
    }


def _voxel_mm3(volume: Volume) -> float:
    return abs(float(np.linalg.det(volume.geometry.affine[:3, :3])))


def _unlike(volume: Volume, ensemble: Ensemble) -> list[str]:
    """How an image differs from those that the networks have learnt from."""
    known = [member.predictor.card.trained_on for member in ensemble.members]
    image = range_of(volume) if any(known) else None
    differences = [text for own in known if own and image for text in own.differences(image)]
    return [f"unlike the images of training: {text}" for text in dict.fromkeys(differences)]


def _class_sizes(labels: np.ndarray, labelling: Labelling, volume: Volume) -> dict[str, Any]:
    """Of each class or region its size, and its mean intensity in every channel."""
    millilitres = _voxel_mm3(volume) / 1000
    counts = np.zeros(labelling.ignored, int)
    sums = np.zeros((len(volume.array), labelling.ignored))
    axis = int(np.argmax(labels.strides))  # along which slices are contiguous
    for part, image in zip(
        np.moveaxis(labels, axis, 0), np.moveaxis(volume.array, axis + 1, 0), strict=True
    ):
        flat = part.ravel()
        counts += np.bincount(flat, minlength=len(counts))
        for total, channel in zip(sums, image, strict=True):
            total += np.bincount(flat, weights=channel.ravel(), minlength=len(counts))
    found = {}
    for index, name in enumerate(labelling.names):
        values = list(labelling.members(index))
        voxels = int(counts[values].sum())
        found[name] = {
            "label": values if labelling.overlap else values[0],
            "voxels": voxels,
            "millilitres": round(voxels * millilitres, 4),
            "mean_intensity": [
                round(float(total[values].sum() / voxels), 6) if voxels else None for total in sums
            ],
        }
    return found


def files_of_scan(scan: Scan) -> list[Path]:
    """All files of an image."""
    return [file for path in scan.images for file in files_of(path)]


def _files_sha256(scan: Scan) -> dict[str, str]:
    """Name → SHA-256 of every file of an image; with its folder where names are not unique."""
    files = files_of_scan(scan)
    if len({path.name for path in files}) < len(files):
        return {f"{path.parent.name}/{path.name}": sha256(path) for path in files}
    return {path.name: sha256(path) for path in files}


def is_done(scan: Scan, outputs: Outputs, *, ensemble: Ensemble, wanted: Wanted = _PLAIN) -> bool:
    """Whether `outputs` are whole and come from this input, these weights and these options."""
    try:
        report = json.loads(outputs.report.read_text(encoding="utf-8"))
        files = _files_sha256(scan)
        # reports of medseg 0.1.0 know one file of an input
        if "files_sha256" not in report:
            files = {scan.image.name: files[scan.image.name]}
            report["files_sha256"] = {scan.image.name: report["input_sha256"]}
        same = _compared(report) == _compared(_shaped_by(ensemble, wanted))
        if wanted.probabilities and "probabilities_of" in report:
            names = ensemble.labelling.output_names
            same &= report["probabilities_of"] == [names[n] for n in wanted.probabilities]
        return (
            same
            and report["files_sha256"] == files
            and report.get("format", "nifti") == outputs.file_format
            and _are_whole(outputs, wanted, report)
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError):
        return False


def _are_whole(outputs: Outputs, wanted: Wanted, report: Mapping[str, Any]) -> bool:
    written = outputs.written(wanted)
    if lists_own_files(outputs.report.parent):
        return all(map(is_own, written))
    found = read_labels(outputs.labels, num_classes=None)  # medseg 0.1.0 listed no files
    is_there = all(path.is_file() for path in written)
    return is_there and report["geometry"]["shape"] == list(found.array.shape)


def _compared(report: Mapping[str, Any]) -> Any:
    """What decides a label map; where a report of medseg 0.1.0 is silent, nothing was done."""
    members = report.get("members") or [report["model"]]
    kept = [
        {
            "sha256": member["weights_sha256"],
            "preprocessing": member["preprocessing"],
            "mirrored": member.get("mirrored", []),
            "shifted": [shift for shift in member.get("shifts", ()) if any(shift)],
        }
        for member in members
    ]
    steps = {name: step for name, step in report.get("postprocessing", {}).items() if step}
    # reports of medseg 0.1.0 tell neither precision nor engine: fp32 on a CPU, and torch
    numbers = report["window"], report.get("precision", "fp32"), report.get("engine", "torch")
    return kept, numbers, report.get("prefer", "sform"), steps
