"""Prepared cases from which nothing, or the wrong thing, would be learned.

What makes a training or its scores meaningless is refused; what may be meant is warned of.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from medseg.data.cache import PreparedCase
from medseg.data.config import DataConfig
from medseg.data.preprocess import Window
from medseg.errors import DataError
from medseg.formatting import first_of
from medseg.labelling import Labelling

ALL_EMPTY = (
    "every label map is empty; correct the labels, or say in data.labels which values are classes"
)
_LARGEST_RATIO_OF_SPACINGS = 1.2
_LARGEST_PADDING = 4  # times the voxels that a patch finds in the median case


def check_cases(
    training: Sequence[PreparedCase],
    validation: Sequence[PreparedCase],
    labelling: Labelling,
    config: DataConfig,
) -> list[str]:
    """Refuses cases that cannot teach, or cannot test what was taught.

    Args:
        training: Cases that are trained on.
        validation: Cases that are held out.
        labelling: What label values mean.
        config: How they are cut and drawn from.

    Returns:
        Warnings about what may be meant.

    Raises:
        DataError: the same image on both sides of the split, or no foreground to train on.
    """
    everywhere = [*training, *validation]
    held_out = {case.case_id for case in validation}
    warnings = []
    for same in same_content({case.case_id: case.image_sha256 for case in everywhere}):
        listed = f"{first_of(same)}: their images have identical content"
        if 0 < len(held_out & set(same)) < len(same):
            raise DataError(
                f"{listed}, and some train while others validate; keep one of them, or name the "
                "patient that they share with data.patient"
            )
        warnings.append(f"{listed}; keep one of them")
    trained = _classes_of(training)
    if not trained:
        raise DataError(f"no training case has a foreground voxel: {ALL_EMPTY}")
    tested = _classes_of(validation)
    for index, name in enumerate(labelling.names):
        own = {*labelling.members(index)}
        if not own & (trained | tested):
            warnings.append(in_no_label(name))
        elif not own & trained:
            warnings.append(f"class {name!r} is absent from the training cases: never learned")
    return [*warnings, *_about_intensities(everywhere, config), *_about_grids(everywhere, config)]


def _classes_of(cases: Sequence[PreparedCase]) -> set[int]:
    """The foreground classes that label maps have."""
    return {value for case in cases for value in case.classes}


def same_content(digests: Mapping[str, str]) -> list[list[str]]:
    """The cases that share a digest, several together."""
    by_content: dict[str, list[str]] = defaultdict(list)
    for case_id, digest in digests.items():
        by_content[digest].append(case_id)
    return [same for same in by_content.values() if len(same) > 1]


def in_no_label(name: str) -> str:
    """What to say of a class that no label map has."""
    return f"class {name!r} is in no label map: it is never learned nor scored"


def without_air(lowest: Mapping[str, float]) -> str:
    """What to say of CT without a value below 0, by case; empty where there is none.

    Args:
        lowest: Smallest intensity by case, in HU as far as is known.
    """
    unsigned = [case_id for case_id, value in lowest.items() if value >= 0]
    if not unsigned:
        return ""
    return (
        f"{first_of(unsigned)}: no intensity below 0, although air has -1000 HU: stored "
        "unsigned with an offset, such as 1024? Then subtract it from the voxels"
    )


def uneven_spacings(spacings: Mapping[str, Sequence[float]], axes: Sequence[str]) -> Iterator[str]:
    """What to say of voxels whose sizes differ much from case to case.

    Args:
        spacings: mm per axis, by case.
        axes: Names of the axes.
    """
    for axis, name in enumerate(axes):
        sizes = {case_id: spacing[axis] for case_id, spacing in spacings.items()}
        low, high = min(sizes, key=sizes.__getitem__), max(sizes, key=sizes.__getitem__)
        if sizes[high] > _LARGEST_RATIO_OF_SPACINGS * sizes[low]:
            yield (
                f"voxel sizes {name} differ from {sizes[low]:g} ({low}) to {sizes[high]:g} mm "
                f"({high}) and are kept as they are unless data.spacing is set, whose median "
                f"there is {statistics.median(sizes.values()):g} mm"
            )


def _about_intensities(cases: Sequence[PreparedCase], config: DataConfig) -> Iterator[str]:
    window = config.intensity
    if not isinstance(window, Window):
        return
    if window.low < 0 and (
        said := without_air({c.case_id: c.image_range.intensity[0] for c in cases})
    ):
        yield f"{said}; the window [{window.low:g}, {window.high:g}] is in HU"
    outside = [
        case.case_id
        for case in cases
        if case.image_range.intensity[0] >= window.high
        or case.image_range.intensity[1] <= window.low
    ]
    if outside:
        yield (
            f"{first_of(outside)}: every intensity lies outside the window "
            f"[{window.low:g}, {window.high:g}], so that the image is constant; set data.intensity"
        )


def _about_grids(cases: Sequence[PreparedCase], config: DataConfig) -> Iterator[str]:
    axes = config.preprocessing.axis_names[: config.spatial_dims]
    yield from uneven_spacings({case.case_id: case.spacing for case in cases}, axes)
    patch = [*config.patch_size, *[1] * (3 - len(config.patch_size))]
    shapes = [case.shape[1:] for case in cases]
    median = [statistics.median_low(lengths) for lengths in zip(*shapes, strict=True)]
    found = math.prod(min(pair) for pair in zip(patch, median, strict=True))
    if math.prod(patch) > _LARGEST_PADDING * found:
        yield (
            f"patches of {list(config.patch_size)} voxels are mostly padding: the median case has "
            f"{median[: len(config.patch_size)]}; choose a smaller data.patch_size"
        )
