"""The files of a case as two volumes on one grid: its image with all channels, and its label."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from medseg.data.dataset import Case, Dataset, Scan
from medseg.errors import DataError
from medseg.volumes import Volume, on_grid_of, read_image, read_labels


def read_case(
    case: Case,
    label_values: Mapping[int | str, int | str] | None,
    *,
    in_channels: int,
    num_classes: int,
) -> tuple[Volume, Volume]:
    """Reads image and label of a case.

    Args:
        case: Of a dataset.
        label_values: Label value of the file → class, or "ignore"; see `Dataset`.
        in_channels: How many the image must have.
        num_classes: Label values, background included.

    Returns:
        The image (channels, i, j, k), and the label (i, j, k) on its grid; ignored voxels are
        `num_classes`.

    Raises:
        DataError: a file that must not be used, files that do not lie on one grid, or a label
            of which every voxel is ignored.
    """
    image = read_scan(case, in_channels)
    label = read_labels(
        case.label,
        num_classes=num_classes,
        values=label_values,
        like=image,
        spacing=case.spacing,
    )
    if (label.array == num_classes).all():
        raise DataError(f"{case.label}: every voxel is ignored; remove the case")
    return image, on_grid_of(image, label)


def read_case_of(dataset: Dataset, case: Case) -> tuple[Volume, Volume]:
    """Reads a case as its dataset says; what is returned and raised as of `read_case`."""
    return read_case(
        case,
        dataset.label_values,
        in_channels=dataset.in_channels,
        num_classes=dataset.labelling.ignored,
    )


def read_scan(scan: Scan, channels: int | None, **options: Any) -> Volume:
    """Reads an image from one file with all channels, or joins files of one channel each.

    Args:
        scan: Its files.
        channels: How many the image must have; None: as many as there are.
        options: Further ones of `read_image`.

    Raises:
        DataError: a file that must not be used, or one that lies on another grid than the first.
    """
    options |= {"channels": channels if len(scan.images) == 1 else 1, "spacing": scan.spacing}
    first, *others = (read_image(path, **options) for path in scan.images)
    if not others:
        return first
    turned = [on_grid_of(first, replace(other, array=other.array[0])) for other in others]
    notes = [
        type(note)(f"{volume.path.name}: {note}")  # a doubt stays one
        for volume in (first, *turned)
        for note in volume.notes
    ]
    array = np.concatenate([first.array, *(other.array[None] for other in turned)])
    return replace(first, array=array, notes=tuple(notes))
