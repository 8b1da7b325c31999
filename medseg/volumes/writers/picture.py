"""PNG masks: the pixels are the labels, a palette makes them visible."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from medseg.files import atomic_path
from medseg.volumes.formats import describe
from medseg.volumes.writers.label_map import LabelMap

_MOST_CLASSES = 255  # of a palette of 256 colours


def fault_of_png(image: Path, classes: Sequence[str]) -> str:
    """Why a PNG cannot hold the labels of an image; empty where it can.

    Raises:
        DataError: the image cannot be read.
    """
    if len(classes) > _MOST_CLASSES:
        return f"a PNG holds {_MOST_CLASSES} classes, and there are {len(classes)}"
    return "" if describe(image).is_picture else "a PNG holds one picture, and it is a volume"


def write_png(target: Path, label_map: LabelMap) -> None:
    """Writes the labels of a picture, turned as it is shown.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    mask = Image.fromarray(np.ascontiguousarray(label_map.labels[:, :, 0].T, np.uint8))
    mask.putpalette([share for colour in ((0, 0, 0), *label_map.colours) for share in colour])
    with atomic_path(target) as part:
        mask.save(part, format="PNG")
