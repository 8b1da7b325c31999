"""One case, read to its last byte: its facts, what is odd about it, and three slices of it."""

import base64
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from medseg.data.cache import voxels_sha256
from medseg.data.dataset import Case, Dataset
from medseg.data.reading import read_case_of, read_scan
from medseg.data.sides import side_pairs
from medseg.errors import DataError, one_volume
from medseg.labelling import Labelling
from medseg.planning.fingerprint import CaseFacts, facts_of
from medseg.volumes import Box, Volume, draw_planes, to_png, to_ras

_EDGE = 132  # pixels of the longest side of a slice
_GAP = 4
_COLOURS = 48


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is kept of a case.

    Args:
        case: As the dataset lists it.
        problem: Why it cannot be used; empty if it can. The rest is then empty.
        notes: Of its readers.
        facts: As the plan has them.
        highest: Of each channel, the largest value; the smallest is among the facts.
        image_sha256: Of its image's voxels in RAS.
        label_sha256: Of its label's.
        outside: Voxels of foreground outside the box of what is not 0 in some channel.
        crossed: Pairs of classes named left and right of which the left lies on the right.
        picture: Three slices with the label's outlines as PNG in base64, where they were asked for.
    """

    case: Case
    problem: str = ""
    notes: tuple[str, ...] = ()
    facts: CaseFacts | None = None
    highest: tuple[float, ...] = ()
    image_sha256: str = ""
    label_sha256: str = ""
    outside: int = 0
    crossed: tuple[tuple[str, str], ...] = ()
    picture: str = ""


def see(case: Case, dataset: Dataset, *, pictures: bool) -> Seen:
    """Reads a case; whatever goes wrong with it is its own problem.

    Args:
        case: Of the dataset.
        dataset: Says what channels and classes it must have.
        pictures: Whether slices are drawn.
    """
    seen = Seen(case=case)
    gone = [path for path in (*case.images, case.label) if not path.exists()]
    if gone:
        return replace(seen, problem=f"{gone[0]}: no such file; restore it or remove the case")
    try:
        with one_volume(case.image):
            return _read(seen, dataset, pictures=pictures)
    except DataError as error:
        return replace(seen, problem=str(error))


def _read(seen: Seen, dataset: Dataset, *, pictures: bool) -> Seen:
    case = seen.case
    if not dataset.classes or not dataset.modalities:
        # a fault that is told already; what else is wrong can still be found
        image = read_scan(case, dataset.in_channels or None)
        return replace(seen, notes=image.notes)
    image, label = read_case_of(dataset, case)
    return replace(
        seen,
        notes=tuple(dict.fromkeys([*image.notes, *label.notes])),
        facts=facts_of(case.case_id, image, label, dataset.labelling, samples=0),
        highest=tuple(float(channel.max()) for channel in image.array),
        image_sha256=voxels_sha256(image),
        label_sha256=voxels_sha256(label),
        outside=_outside(image, label, dataset.labelling),
        crossed=_crossed(label, image, dataset.labelling) if dataset.spatial_dims == 3 else (),
        picture=_drawn(image, label) if pictures else "",
    )


def _outside(image: Volume, label: Volume, labelling: Labelling) -> int:
    content = Box.of_content(image.array).cut(label)
    whole, within = (
        np.count_nonzero((part.array > 0) & (part.array < labelling.ignored))
        for part in (label, content)
    )
    return int(whole - within)


def _crossed(label: Volume, image: Volume, labelling: Labelling) -> tuple[tuple[str, str], ...]:
    """Pairs of sides that lie the other way round; where only one of them is there, none."""
    pairs = side_pairs(labelling.names)
    if not pairs:
        return ()
    array = to_ras(label.array, image.geometry.affine)
    across = np.arange(array.shape[0])  # towards the patient's right

    def place(name: str) -> float:
        mask = labelling.mask(array, labelling.names.index(name))
        counts = np.count_nonzero(mask, axis=(1, 2))
        return float((across * counts).sum() / counts.sum()) if counts.any() else np.nan

    return tuple(pair for pair in pairs if place(pair[0]) > place(pair[1]))


def _drawn(image: Volume, label: Volume) -> str:
    """The slices with most label across each axis, as PNG in base64."""
    sheet = draw_planes(image.array, label.array, image.geometry, size=_EDGE, gap=_GAP)
    return base64.b64encode(to_png(sheet.quantize(_COLOURS, dither=Image.Dither.NONE))).decode()
