"""Prepared cases from which nothing, or the wrong thing, would be learned.

What makes a training or its scores meaningless is refused; what may be meant is warned of.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence

from medseg.data.cache import PreparedCase
from medseg.data.config import DataConfig
from medseg.data.preprocess import Window
from medseg.errors import DataError
from medseg.formatting import first_of

_LARGEST_RATIO_OF_SPACINGS = 1.2
_LARGEST_PADDING = 4  # times the voxels that a patch finds in the median case


def check_cases(
    training: Sequence[PreparedCase],
    validation: Sequence[PreparedCase],
    classes: Sequence[str],
    config: DataConfig,
) -> list[str]:
    """Refuses cases that cannot teach, or cannot test what was taught.

    Args:
        training: Cases that are trained on.
        validation: Cases that are held out.
        classes: Names of the foreground classes, by label value from 1.
        config: How they are cut and drawn from.

    Returns:
        Warnings about what may be meant.

    Raises:
        DataError: the same image on both sides of the split, or no foreground to train on.
    """
    everywhere = [*training, *validation]
    held_out = {case.case_id for case in validation}
    warnings = []
    for same in _same_images(everywhere):
        listed = f"{first_of(same)}: their images have identical content"
        if 0 < len(held_out & set(same)) < len(same):
            raise DataError(
                f"{listed}, and some train while others validate; keep one of them, or name the "
                "patient that they share with data.patient"
            )
        warnings.append(f"{listed}; keep one of them")
    trained = _classes_of(training)
    if not trained:
        raise DataError(
            "no training case has a foreground voxel: every label map is empty; correct the "
            "labels, or say in data.labels which values are classes"
        )
    tested = _classes_of(validation)
    for value, name in enumerate(classes, start=1):
        if value not in trained | tested:
            warnings.append(f"class {name!r} is in no label map: it is never learned nor scored")
        elif value not in trained:
            warnings.append(f"class {name!r} is absent from the training cases: never learned")
    return [*warnings, *_about_intensities(everywhere, config), *_about_grids(everywhere, config)]


def _classes_of(cases: Sequence[PreparedCase]) -> set[int]:
    """The foreground classes that label maps have."""
    return {value for case in cases for value in case.classes}


def _same_images(cases: Sequence[PreparedCase]) -> list[list[str]]:
    by_content: dict[str, list[str]] = defaultdict(list)
    for case in cases:
        by_content[case.image_sha256].append(case.case_id)
    return [same for same in by_content.values() if len(same) > 1]


def _about_intensities(cases: Sequence[PreparedCase], config: DataConfig) -> Iterator[str]:
    window = config.intensity
    if not isinstance(window, Window):
        return
    unsigned = [case.case_id for case in cases if window.low < 0 <= case.intensities[0]]
    if unsigned:
        yield (
            f"{first_of(unsigned)}: no intensity below 0, although air has -1000 HU: stored "
            "unsigned with an offset, such as 1024? Then subtract it from the voxels; the window "
            f"[{window.low:g}, {window.high:g}] is in HU"
        )
    outside = [
        case.case_id
        for case in cases
        if case.intensities[0] >= window.high or case.intensities[1] <= window.low
    ]
    if outside:
        yield (
            f"{first_of(outside)}: every intensity lies outside the window "
            f"[{window.low:g}, {window.high:g}], so that the image is constant; set data.intensity"
        )


def _about_grids(cases: Sequence[PreparedCase], config: DataConfig) -> Iterator[str]:
    names = config.preprocessing.axis_names
    spacings = [case.spacing[: config.spatial_dims] for case in cases]
    for axis, sizes in enumerate(zip(*spacings, strict=True)):
        if max(sizes) > _LARGEST_RATIO_OF_SPACINGS * min(sizes):
            yield (
                f"voxel sizes {names[axis]} differ from {min(sizes):g} to {max(sizes):g} mm and "
                f"are kept as they are; set data.spacing, whose median there is "
                f"{statistics.median(sizes):g} mm"
            )
    patch = [*config.patch_size, *[1] * (3 - len(config.patch_size))]
    shapes = [case.image.shape[1:] for case in cases]
    median = [statistics.median_low(lengths) for lengths in zip(*shapes, strict=True)]
    found = math.prod(min(pair) for pair in zip(patch, median, strict=True))
    if math.prod(patch) > _LARGEST_PADDING * found:
        yield (
            f"patches of {list(config.patch_size)} voxels are mostly padding: the median case has "
            f"{median[: len(config.patch_size)]}; choose a smaller data.patch_size"
        )
