"""Label maps as classes: whole numbers, mapped, and none that is not meant."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medseg.volumes.container import refusal

IGNORE = "ignore"
"""What a label value is mapped to whose voxels neither train nor count."""
LARGEST_LABEL = int(np.iinfo(np.uint16).max)
Key = int | str
"""A label value, a colour such as "#ff0000", or the name of a segment or structure."""

_LISTED_VALUES = 10
_FLOAT_ROUNDING = 1e-3  # of labels that were computed with


def checked_label_values(values: Any) -> dict[Key, int | str]:
    """Label value, colour or name → class or "ignore", from a configuration or from JSON.

    Raises:
        ValueError: something else.
    """
    rule = (
        f"must map label values 0 to {LARGEST_LABEL}, colours or names of segments to classes or "
        f"to {IGNORE}, as in {{4: 3, '#ff0000': 1, Liver: 2, 255: ignore}}"
    )
    if not isinstance(values, Mapping):
        raise ValueError(f"labels={values!r} {rule}, or be null")
    checked: dict[Key, int | str] = {}
    for found, to in values.items():
        key = _key(found)
        if key is None or not (to == IGNORE or _is_label(to)):
            raise ValueError(f"labels={{{found}: {to}}} {rule}")
        if key in checked:
            raise ValueError(f"labels lists {found} twice; once is enough")
        checked[key] = to if to == IGNORE else int(to)
    return checked


def _key(found: Any) -> Key | None:
    """A number, a colour in small letters, or a name as it is; None for anything else."""
    if _is_label(found):
        return int(found)
    if not isinstance(found, str) or not re.search(r"[^\W\d_]|#", found):
        return None  # -1, 1.5 and 70000 are no names
    return found.lower() if re.fullmatch("#[0-9a-fA-F]{6}", found) else found


def _is_label(number: Any) -> bool:
    is_whole = isinstance(number, int) and not isinstance(number, bool)
    is_digits = isinstance(number, str) and number.isascii() and number.isdecimal()
    return (is_whole or is_digits) and 0 <= int(number) <= LARGEST_LABEL


def whole_numbers(
    path: Path, voxels: np.ndarray, slope: float, intercept: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scales label values; with a note, rounds those that rounding left beside whole numbers.

    Args:
        path: Of their file.
        voxels: As stored.
        slope: Value = slope * voxel + intercept.
        intercept: See `slope`.

    Raises:
        DataError: values that no rounding explains.
    """
    step = 0.0
    if (slope, intercept) != (1.0, 0.0):
        # whoever scales labels to fill an integer type is off by half a step
        if voxels.dtype.kind in "iu" and abs(slope) < 1:
            step = abs(slope) / 2
        voxels = voxels * np.float64(slope) + intercept
    if voxels.dtype.kind != "f":
        return voxels, ()
    whole = np.rint(voxels)
    with np.errstate(invalid="ignore"):  # NaN and infinite voxels are counted as wrong
        off = np.abs(voxels - whole)
        tolerance = max(step, _FLOAT_ROUNDING) + np.finfo(np.float32).eps * np.abs(whole)
        fine = np.isfinite(off) & (off <= tolerance)
    if wrong := fine.size - np.count_nonzero(fine):
        remedy = "pass a label map, not an image; resample labels with nearest neighbour"
        raise refusal(path, f"{wrong} of {voxels.size} voxels are not whole numbers", remedy)
    if not off.any():
        return voxels, ()
    return whole, (
        f"{np.count_nonzero(off)} of {off.size} label values lie up to {off.max():.2g} beside "
        "whole numbers, as rounding leaves them; rounded",
    )


def classes_of(path: Path, labels: np.ndarray, classes: Mapping[int, int]) -> np.ndarray:
    """Replaces label values by classes; a value that is not listed keeps its number.

    Args:
        path: Of the labels' file.
        labels: Whole numbers.
        classes: Label value → class.

    Raises:
        DataError: values outside 0..65535, or one that is not listed and that another becomes.
    """
    require_labels(path, labels, LARGEST_LABEL)
    table = np.arange(LARGEST_LABEL + 1, dtype=np.int32)
    table[list(classes)] = list(classes.values())
    labels = labels.astype(np.uint16)
    present = np.zeros(len(table), bool)
    present[labels] = True
    for value, to in classes.items():
        if to not in (0, value) and to not in classes and present[to]:
            raise refusal(
                path,
                f"holds label {to}, and data.labels makes {value} to {to} as well",
                f"say in data.labels what becomes of {to}",
            )
    return table[labels]


def require_labels(path: Path, labels: np.ndarray, largest: int) -> None:
    """Refuses label values outside 0..largest, with their numbers of voxels.

    Raises:
        DataError: there are some.
    """
    if labels.min() >= 0 and labels.max() <= largest:
        return
    values, counts = np.unique(labels[(labels < 0) | (labels > largest)], return_counts=True)
    names = listed([f"{value:.15g}" for value in values], counts, labels.size)
    raise refusal(
        path,
        f"holds labels outside 0..{largest}: {names}",
        "map them to classes with data.labels, or name them in dataset.json",
    )


def listed(names: Sequence[str], counts: np.ndarray, size: int) -> str:
    """The first names, each with its number of voxels, of `size`."""
    first = list(zip(names, counts, strict=True))[:_LISTED_VALUES]
    text = ", ".join(f"{name} ({count} of {size} voxels)" for name, count in first)
    more = len(names) - len(first)
    return f"{text} and {more} more values" if more else text
