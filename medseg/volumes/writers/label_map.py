"""What a label map holds, whatever the format of its file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.labelling import Labelling
from medseg.volumes.colours import class_colours
from medseg.volumes.reader import Volume


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Labels, the names and colours of their classes, and the image that they segment.

    Attributes:
        labels: whole numbers 0..len(classes), (i, j, k) on the grid of `like`.
        classes: names by label value from 1, one line each.
        colours: RGB of each class, 0 to 255.
        like: the image.
    """

    labels: np.ndarray
    classes: Sequence[str]
    colours: Sequence[tuple[int, int, int]]
    like: Volume

    @classmethod
    def of(cls, labels: np.ndarray, classes: Sequence[str], like: Volume) -> "LabelMap":
        """A label map in the colours of `class_colours`."""
        return cls(labels, classes, class_colours(len(classes)), like)

    def mask_of(self, name: str, labelling: Labelling, index: int) -> "LabelMap":
        """One class or region alone, as label value 1 in its colour.

        Args:
            name: What it is called.
            labelling: What the labels mean.
            index: Which of its names it has there.
        """
        mask = labelling.mask(self.labels, index).astype(np.uint8)
        return LabelMap(mask, [name], class_colours(index + 1)[-1:], self.like)
