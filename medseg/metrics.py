"""How well a label map agrees with the truth, per case and class, in mm.

The rule for empty masks:

=====================  ============================  =====================
class is absent from   Dice and surface Dice         HD95
=====================  ============================  =====================
both                   undefined (None)              undefined (None)
one of them            0                             the image's diagonal
=====================  ============================  =====================

Undefined values are left out of a mean, and counted. Voxels whose label lies beyond the classes are
ignored: background in label and prediction. An axis of one voxel is no dimension: a single slice is
measured in its plane. Another metric is a function here with
`@_metric` and a line in `medseg.record.METRICS`; records and reports then show it.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from torch import Tensor

from medseg.labelling import Labelling
from medseg.record import METRICS

Scores = dict[str, float | None]


def score_case(
    prediction: np.ndarray,
    label: np.ndarray,
    *,
    spacing: Sequence[float],
    labelling: Labelling,
    tolerance_mm: float,
) -> dict[str, Scores]:
    """Dice, surface Dice and HD95 of every foreground class, or region, of one case.

    Args:
        prediction: Label map `S`.
        label: True label map `S`; values beyond those of the labelling are ignored.
        spacing: mm per axis.
        labelling: What label values mean.
        tolerance_mm: Distance up to which surfaces agree, for surface Dice.

    Returns:
        `{class: {"dice": [0, 1], "surface_dice": [0, 1], "hd95_mm": ≥ 0}}`, None if undefined.

    Raises:
        ValueError: label maps of different shapes.
    """
    if prediction.shape != label.shape:
        raise ValueError(f"prediction {prediction.shape} and label {label.shape} differ in shape")
    prediction = np.where(label >= labelling.ignored, 0, prediction)
    thick = _dimensions(label.shape)
    spacing = [spacing[axis] for axis in thick]
    shape = tuple(label.shape[axis] for axis in thick)
    prediction, label = prediction.reshape(shape), label.reshape(shape)
    return {
        name: _score_class(
            labelling.mask(prediction, index), labelling.mask(label, index), spacing, tolerance_mm
        )
        for index, name in enumerate(labelling.names)
    }


def dice(prediction: np.ndarray | Tensor, label: np.ndarray | Tensor) -> float | None:
    """`2|P∩L| / (|P|+|L|)` of two masks; None if both are empty (Dice 1945)."""
    size = int(prediction.sum()) + int(label.sum())
    return 2 * int((prediction & label).sum()) / size if size else None


OfSurfaces = Callable[[Tensor, Tensor, Sequence[float], float], float]
"""Of two masks `(1, 1, *S)` that both hold voxels, the spacing in mm, and the tolerance in mm."""

_OF_SURFACES: dict[str, OfSurfaces] = {}


def _metric(function: OfSurfaces) -> OfSurfaces:
    """Registers a metric under its name, which `medseg.record.METRICS` describes."""
    _OF_SURFACES[function.__name__] = function
    return function


@_metric
def surface_dice(
    prediction: Tensor, label: Tensor, spacing: Sequence[float], tolerance_mm: float
) -> float:
    """Share of both surfaces that lies within the tolerance of the other.

    Surfaces have areas in mm² (3-D) and contours lengths in mm (2-D), by the neighbourhood of each
    voxel's corner, as DeepMind's `surface-distance` defines them.

    Reference: Nikolov et al. 2018, arXiv:1809.04430.
    """
    found = compute_surface_dice(
        prediction,
        label,
        class_thresholds=[tolerance_mm],
        include_background=True,
        spacing=spacing,
        use_subvoxels=True,
    )
    return float(found)


@_metric
def hd95_mm(prediction: Tensor, label: Tensor, spacing: Sequence[float], _: float) -> float:
    """95th percentile of the distances between surfaces, the larger direction, in mm.

    Distances go from the centre of each surface voxel to the nearest of the other surface. MONAI
    and DeepMind take the larger of the two directions' percentiles, too (DeepMind's weighted by
    areas); medpy pools the distances of both directions and takes one percentile.
    """
    found = compute_hausdorff_distance(
        prediction, label, include_background=True, percentile=95, spacing=spacing
    )
    return float(found)


def _score_class(
    prediction: np.ndarray, label: np.ndarray, spacing: Sequence[float], tolerance_mm: float
) -> Scores:
    overlap = dice(prediction, label)
    if overlap is None:
        return dict.fromkeys(METRICS)
    if not (prediction.any() and label.any()):
        diagonal = float(np.linalg.norm(np.multiply(label.shape, spacing)))
        return {name: diagonal if m.lower_is_better else 0.0 for name, m in METRICS.items()}
    box = _bounding_box(prediction | label)
    millimetres = [float(s) for s in spacing]  # MONAI refuses numpy's
    one, other = (torch.from_numpy(mask[box].copy())[None, None] for mask in (prediction, label))
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an option that it deprecates
        warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
        measures = _OF_SURFACES.items()
        found = {name: of(one, other, millimetres, tolerance_mm) for name, of in measures}
        return {"dice": overlap, **found}


def _dimensions(shape: tuple[int, ...]) -> list[int]:
    """The axes of more than one voxel; of a line or a point two all the same, as MONAI needs."""
    thick = [axis for axis, length in enumerate(shape) if length > 1]
    thin = [axis for axis, length in enumerate(shape) if length == 1]
    return sorted([*thick, *thin[: max(0, 2 - len(thick))]])


def _bounding_box(mask: np.ndarray) -> tuple[slice, ...]:
    # one voxel of margin keeps every surface voxel a surface voxel
    box = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        hits = np.flatnonzero(mask.any(axis=others))
        box.append(slice(max(0, hits[0] - 1), hits[-1] + 2))
    return tuple(box)
