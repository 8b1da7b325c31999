"""How well a label map agrees with the truth, per case and class, in mm.

The rule for empty masks, which aggregates of other libraries hide:

=====================  ============================  =====================
class is absent from   Dice and surface Dice         HD95
=====================  ============================  =====================
both                   undefined (None)              undefined (None)
one of them            0                             the image's diagonal
=====================  ============================  =====================

Undefined values are left out of a mean, and counted.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from torch import Tensor

Scores = dict[str, float | None]


def score_case(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    spacing: Sequence[float],
    classes: Sequence[str],
    tolerance_mm: float,
) -> dict[str, Scores]:
    """Dice, surface Dice and HD95 of every foreground class of one case.

    Args:
        prediction: Label map `S`.
        label: True label map `S`.
        spacing: mm per axis.
        classes: Names of the foreground classes, by label value from 1.
        tolerance_mm: Distance up to which surfaces agree, for surface Dice.

    Returns:
        `{class: {"dice": [0, 1], "surface_dice": [0, 1], "hd95_mm": ≥ 0}}`, None if undefined.

    Raises:
        ValueError: label maps of different shapes.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    return {
        name: _score_class(prediction == value, label == value, spacing, tolerance_mm)
        for value, name in enumerate(classes, start=1)
    }


def dice(prediction: np.ndarray | Tensor, label: np.ndarray | Tensor) -> float | None:
    """`2|P∩L| / (|P|+|L|)` of two masks; None if both are empty (Dice 1945)."""
    size = int(prediction.sum()) + int(label.sum())
    return 2 * int((prediction & label).sum()) / size if size else None


def _score_class(
    prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float], tolerance_mm: float
) -> Scores:
    overlap = dice(prediction, label)
    if overlap is None:
        return {"dice": None, "surface_dice": None, "hd95_mm": None}
    if not (prediction.any() and label.any()):
        diagonal = float(np.linalg.norm(np.multiply(label.shape, spacing)))
        return {"dice": 0.0, "surface_dice": 0.0, "hd95_mm": diagonal}
    box = _bounding_box(prediction | label)
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an option that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        return {"dice": overlap} | _surface_scores(
            prediction[box], label[box], spacing, tolerance_mm
        )


def _surface_scores(
    prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float], tolerance_mm: float
) -> Scores:
    millimetres = [float(s) for s in spacing]  # MONAI refuses numpy's
    pair = [torch.from_numpy(mask.copy())[None, None] for mask in (prediction, label)]
    surface = compute_surface_dice(
        *pair,
        class_thresholds=[tolerance_mm],
        include_background=True,
        spacing=millimetres,
        use_subvoxels=len(spacing) == 3,
    )
    hd95 = compute_hausdorff_distance(
        *pair, include_background=True, percentile=95, spacing=millimetres
    )
    return {"surface_dice": float(surface), "hd95_mm": float(hd95)}


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    # one voxel of margin keeps every surface voxel a surface voxel
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, hits[0] - 1), hits[-1] + 2))
    return tuple(box)
