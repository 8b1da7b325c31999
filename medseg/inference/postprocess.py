"""Label maps cleaned class by class: small components removed, the largest kept, holes filled.

Of regions that overlap each is cleaned by itself, and the label map is composed of them anew: what
is removed from the core of a tumour, say, stays part of the whole.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import ndimage

from medseg.labelling import Labelling
from medseg.models.weights import ModelCard

_TOUCHING = np.ones((3, 3, 3), bool)  # by a face, an edge or a corner, as nnU-Net has it


@dataclass(frozen=True, kw_only=True)
class Postprocessing:
    """What is done to the classes of a label map, in this order; what is removed is background.

    Regions have numbers from 1 here, as classes have.

    Args:
        min_volume: Class → mm³; smaller components are removed.
        keep_largest: Classes of which all but the largest component is removed.
        fill_holes: Classes that fill the background that they enclose; other classes stay.
    """

    min_volume: Mapping[int, float] = field(default_factory=dict)
    keep_largest: Sequence[int] = ()
    fill_holes: Sequence[int] = ()

    def __bool__(self) -> bool:
        """Whether anything is done."""
        return bool(self.min_volume or self.keep_largest or self.fill_holes)

    def __call__(self, labels: np.ndarray, voxel_mm3: float, labelling: Labelling) -> np.ndarray:
        """Label map `(i, j, k)` → a cleaned copy.

        Args:
            labels: Whole numbers, 0 is background.
            voxel_mm3: Volume of a voxel.
            labelling: What they mean.
        """
        if not (self and labelling.overlap):
            return self._cleaned(labels.copy(), voxel_mm3)
        masks = [
            self._of(index + 1)._cleaned(labelling.mask(labels, index).astype(np.uint8), voxel_mm3)
            for index in range(labelling.outputs)
        ]
        return labelling.composed(masks).astype(labels.dtype)

    def _of(self, number: int) -> "Postprocessing":
        """What is done to one class, as if it were the only one."""
        return Postprocessing(
            min_volume={1: self.min_volume[number]} if number in self.min_volume else {},
            keep_largest=[1] if number in self.keep_largest else [],
            fill_holes=[1] if number in self.fill_holes else [],
        )

    def _cleaned(self, labels: np.ndarray, voxel_mm3: float) -> np.ndarray:
        """Changes a label map of classes in place."""
        for value in sorted({*self.min_volume, *self.keep_largest}):
            least = math.ceil(self.min_volume.get(value, 0) / voxel_mm3 - 1e-6)
            for part in _around(labels, value):
                components = _components(part == value, _TOUCHING)
                sizes = np.bincount(components.ravel())[1:]
                kept = sizes >= least
                if value in self.keep_largest:
                    kept &= np.arange(len(sizes)) == sizes.argmax()
                part[np.r_[False, ~kept][components]] = 0
        for value in self.fill_holes:
            for part in _around(labels, value):
                # what a border of background around does not reach
                outside = _components(np.pad(part != value, 1, constant_values=True))
                enclosed = (outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]
                part[enclosed & (part == 0)] = value
        return labels

    def describe(self, classes: Sequence[str]) -> dict[str, Any]:
        """As plain data, classes by name."""
        return {
            "min_volume_mm3": {classes[v - 1]: float(mm3) for v, mm3 in self.min_volume.items()},
            "keep_largest": [classes[value - 1] for value in self.keep_largest],
            "fill_holes": [classes[value - 1] for value in self.fill_holes],
        }


def kept_classes(card: ModelCard) -> list[str]:
    """Classes whose largest component alone had the higher mean Dice on the validation cases.

    nnU-Net's rule (Isensee et al. 2021), but that it tries all cases of a cross-validation.
    """
    return [
        name
        for name, mean in card.largest_component.items()
        if (mean.get("kept") or 0.0) > (mean.get("dice") or 0.0)
    ]


def _components(mask: np.ndarray, touching: np.ndarray | None = None) -> np.ndarray:
    """Voxels of a mask by the number of their component, from 1; by faces unless told."""
    found: Any = ndimage.label(mask, touching)
    return found[0]


def _around(labels: np.ndarray, value: int) -> Iterator[np.ndarray]:
    """The smallest box that holds a class, if any does; a view."""
    boxes = ndimage.find_objects((labels == value).view(np.uint8))
    yield from (labels[box] for box in boxes)
