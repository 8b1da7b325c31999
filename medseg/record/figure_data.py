"""Slices of a study that figures are drawn from, as plain arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureData:
    """Slices of single cases; None where the network or the cases do not allow one.

    Args:
        constant: Response to a constant image `(rows, columns)`, in logits.
        image: Intensities of a slice `(rows, columns)`; the others have its shape.
        deviation: How far its logits depart from their mean over shifts of the image, in logits.
        prediction: Its predicted labels.
        truth: Its true labels.
    """

    constant: NDArray[np.float64] | None = None
    image: NDArray[np.float64] | None = None
    deviation: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None
    truth: NDArray[np.float64] | None = None
