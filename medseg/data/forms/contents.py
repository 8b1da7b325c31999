"""What the files of a dataset hold: channels, dimensions and label values, where none describes it.

Headers of images are read, and the voxels of label maps.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from medseg.data.dataset import Case, CaseFault, Dataset, Scan
from medseg.data.forms.description import BACKGROUND, checked_labels, merged_classes
from medseg.data.forms.form import same_ids, stem_of
from medseg.data.forms.matching import Findings
from medseg.errors import DataError, one_volume
from medseg.formatting import first_of
from medseg.volumes import describe, label_keys

_BLACK = "#000000"
_MOST_VALUES = 64  # of masks that are pictures; smoothed ones have more
_ODD_VALUES = 3  # of a mask alone, between those of the others: smoothed
_WORKERS = 4
_T = TypeVar("_T")
_S = TypeVar("_S", bound=Scan)


def dataset_of(
    folder: Path, form: str, found: Findings, label_values: Mapping[Any, Any] | None, **more: Any
) -> Dataset:
    """A dataset that no file describes: channels and classes are what its files hold.

    Args:
        folder: Where it lies.
        form: In words.
        found: Its cases; is told further faults and notes.
        label_values: `data.labels` of the configuration.
        more: Further fields of `Dataset`.

    Raises:
        ConfigError: `label_values` maps no label values.
    """
    found.faults.extend(same_ids(found.cases))
    found.cases[:] = [with_spacing(case, found.faults) for case in found.cases]
    modalities, dims = contents_of(found.cases, found.channels, found.faults)
    classes, values = classes_in(found, label_values, is_picture=dims == 2)
    kinds = sorted({kind_of(case.image) for case in found.cases})
    fields: dict[str, Any] = {
        "name": folder.name,
        "form": f"{form} of {' and '.join(kinds)}" if kinds else form,
        "folder": folder,
        "modalities": modalities,
        "classes": classes,
        "cases": tuple(found.cases),
        "label_values": values,
        "spatial_dims": dims,
        "faults": tuple(found.faults),
        "notes": tuple(found.notes),
    }
    return Dataset(**fields | more)


def contents_of(
    cases: Sequence[Case], channels: Sequence[str], faults: list[str]
) -> tuple[tuple[str, ...], int]:
    """Names of the channels that the images have, and their dimensions, 2 or 3."""
    files = {path: case for case in cases for path in case.images}
    described = _of_each(describe, files, faults)
    flat = [path for path, has in described.items() if has.is_picture]
    if 0 < len(flat) < len(described):
        other = next(path for path in described if path not in set(flat))
        faults.append(
            f"{len(flat)} pictures, as {flat[0]}, and {len(described) - len(flat)} volumes, as "
            f"{other}; make two datasets of them"
        )
    counts = Counter(has.channels for has in described.values())
    usual = counts.most_common(1)[0][0] if counts else 1
    if flat:
        usual = max(counts)  # grey among colours is read as three equal channels
    else:
        faults.extend(
            CaseFault(
                f"{path}: has {has.channels} channels, where others have {usual}",
                files[path].case_id,
            )
            for path, has in described.items()
            if has.channels != usual
        )
    if len(channels) > 1 and usual > 1:
        faults.append(f"files of one channel each have {usual} channels")
    names = tuple(name or "image" for name in channels)
    if len(channels) == 1 and usual > 1:
        colours = ("red", "green", "blue")
        names = colours if usual == 3 and flat else tuple(f"channel {n}" for n in range(usual))
    return names, 2 if flat else 3


def dimensions_of(cases: Sequence[Case], faults: list[str]) -> int:
    """2 if the images are pictures, 3 if they are volumes; both is a fault.

    Endings tell, but that of TIFF, which may hold one page or many.
    """
    pictures = [case for case in cases if "pictures" in kind_of(case.image)]
    if 0 < len(pictures) < len(cases):
        names = [case.image.name for case in pictures]
        faults.append(f"pictures among volumes: {first_of(names)}; make two datasets of them")
    if not pictures:
        return 3
    is_tiff = kind_of(pictures[0].image).startswith("TIFF")
    return contents_of(pictures[:1], ("",), faults)[1] if is_tiff else 2


def classes_in(
    found: Findings, label_values: Mapping[Any, Any] | None, *, is_picture: bool
) -> tuple[tuple[str, ...], dict[int | str, int | str] | None]:
    """Classes by the values, colours or names that the labels have, and what becomes which.

    Raises:
        ConfigError: `label_values` maps no label values.
    """
    labels = {case.label: case for case in found.cases}
    keys = _of_each(label_keys, labels, found.faults)
    everywhere = Counter(key for own in keys.values() for key in own)
    gaps = {key for key in everywhere if isinstance(key, int)} != set(range(len(everywhere)))
    for path, own in keys.items():
        odd = [key for key in own if everywhere[key] == 1]
        if is_picture and gaps and len(odd) >= _ODD_VALUES and len(keys) > _ODD_VALUES:
            text = (
                f"{path}: {len(odd)} values that no other mask has, as smoothing or JPEG leaves "
                "them; resize masks with nearest neighbour and save them without loss"
            )
            found.faults.append(CaseFault(text, labels[path].case_id))
            everywhere.subtract(list(own))
    present = [key for key, count in everywhere.items() if count > 0]
    numbers = sorted(key for key in present if isinstance(key, int))
    if numbers and numbers[0] < 0:
        below = [str(path) for path, own in keys.items() if numbers[0] in own]
        found.faults.append(
            f"{first_of(below)}: has the label value {numbers[0]}; write values from 0 to 65535"
        )
        return (), None
    names = [key for key in present if isinstance(key, str) and key != _BLACK]
    if numbers and names:
        found.faults.append(
            f"labels: some have numbers ({first_of([*map(str, numbers)])}), others names or "
            f"colours ({first_of(names)}); make them alike"
        )
        return (), None
    if len(numbers) > _MOST_VALUES and is_picture and label_values is None:
        found.faults.append(
            f"labels: {len(numbers)} grey values, from {numbers[0]} to {numbers[-1]}; masks have "
            "one value per class, saved without loss; or say in data.labels what they are"
        )
        return (), None
    if names:
        return _named_classes(found, keys, names, label_values)
    foreground = [value for value in numbers if value]
    if label_values is not None:
        return _numbered_classes(foreground, label_values, found)
    if not foreground and found.cases:
        found.faults.append("labels: every label map is empty; no class besides the background")
    mapping: dict[int | str, int | str] = {value: n for n, value in enumerate(foreground, start=1)}
    if all(value == to for value, to in mapping.items()):
        return tuple(map(str, foreground)), None
    listed = ", ".join(f"{value}: {to}" for value, to in mapping.items())
    found.notes.append(f"label values become classes: {{{listed}}}; data.labels says otherwise")
    return tuple(str(n) for n in mapping.values()), mapping


def kind_of(path: Path) -> str:
    """What a file is, as its name ends."""
    ending = path.name.lower().rpartition(".")[2]
    kinds = {"nrrd": "NRRD", "nhdr": "NRRD", "mha": "MetaImage", "mhd": "MetaImage"}
    kinds |= {"png": "PNG pictures", "jpg": "JPEG pictures", "jpeg": "JPEG pictures"}
    kinds |= {"tif": "TIFF pictures", "tiff": "TIFF pictures", "bmp": "BMP pictures"}
    kinds |= {"nii": "NIfTI", "gz": "NIfTI", "hdr": "NIfTI", "img": "NIfTI"}
    return kinds.get(ending, "DICOM")


def with_spacing(case: _S, faults: list[str]) -> _S:
    """With what nnU-Net's CASE.json beside a TIFF says: mm per axis, that of the pages first."""
    path = case.image.with_name(re.sub(r"_\d{4}$", "", stem_of(case.image)) + ".json")
    if not kind_of(case.image).startswith("TIFF") or not path.is_file():
        return case
    try:
        spacing = [float(mm) for mm in json.loads(path.read_text(encoding="utf-8"))["spacing"]]
    except (OSError, ValueError, KeyError, TypeError):
        spacing = []
    if len(spacing) not in (2, 3) or not all(0 < mm < math.inf for mm in spacing):
        text = f'{path.name}: must hold {{"spacing": [page, row, column]}} in mm'
        faults.append(CaseFault(text, case.case_id))
        return case
    return replace(case, spacing=(*spacing[::-1], 1.0)[:3])


def _numbered_classes(
    foreground: Sequence[int], label_values: Mapping[Any, Any], found: Findings
) -> tuple[tuple[str, ...], dict[int | str, int | str] | None]:
    names = {0: BACKGROUND} | {value: str(value) for value in foreground}
    names |= {value: str(value) for value in checked_labels(label_values) if isinstance(value, int)}
    classes, values = merged_classes(names, label_values, found.faults)
    return classes, None if values is None else dict(values)


def _named_classes(
    found: Findings,
    keys: Mapping[Path, Mapping[int | str, str]],
    names: Sequence[str],
    label_values: Mapping[Any, Any] | None,
) -> tuple[tuple[str, ...], dict[int | str, int | str] | None]:
    """Classes that labels name, in the order of the first label that has them all, or of a map."""
    if label_values is not None:
        mapping = checked_labels(label_values)
        merged: dict[int, list[str]] = {}
        for name, to in mapping.items():
            if isinstance(to, int) and to > 0:
                merged.setdefault(to, []).append(str(name))
        if sorted(merged) != list(range(1, len(merged) + 1)):
            found.faults.append(f"labels: the classes {sorted(merged)} must be 1, 2, ...")
        if left := [name for name in names if name not in mapping]:
            found.notes.append(f"labels: not in data.labels and left out: {first_of(left)}")
        return tuple("+".join(merged[to]) for to in sorted(merged)), mapping
    if _named_alike(names, keys, found):
        return tuple(map(str, names)), None
    is_colours = all(name.startswith("#") for name in names)
    order = sorted(names, reverse=True) if is_colours else _by_first(names, keys)
    for name in order:
        lacking = [str(path) for path, own in keys.items() if name not in own]
        if lacking and not is_colours:
            found.notes.append(f"class {name!r}: not in {first_of(lacking)}: absent, or not drawn?")
    mapping: dict[int | str, int | str] = {name: n for n, name in enumerate(order, start=1)}
    listed = ", ".join(f"{name} {n}" for name, n in mapping.items())
    found.notes.append(f"classes are numbered {listed}; data.labels says otherwise")
    return tuple(map(str, mapping.values())) if is_colours else tuple(order), mapping


def _named_alike(
    names: Sequence[str], keys: Mapping[Path, Mapping[int | str, str]], found: Findings
) -> bool:
    """Refuses names that differ in their spelling alone; whether there are any."""
    by_sound: dict[str, list[str]] = {}
    for name in names:
        sound = "".join(c for c in name.casefold() if c.isalnum())
        by_sound.setdefault(sound, []).append(name)
    wanted = ", ".join(
        f"{name}: {n}" for n, alike in enumerate(by_sound.values(), 1) for name in alike
    )
    several = [alike for alike in by_sound.values() if len(alike) > 1]
    for alike in several:
        usual, *others = sorted(alike, key=lambda n: -sum(n in own for own in keys.values()))
        odd = [str(path) for path, own in keys.items() if set(others) & set(own)]
        found.faults.append(
            f"labels: {' and '.join(map(repr, alike))}: one class or two? {others[0]!r} is in "
            f"{first_of(odd)}, {usual!r} in the others; say it, as in data.labels={{{wanted}}}"
        )
    return bool(several)


def _by_first(names: Sequence[str], keys: Mapping[Path, Mapping[int | str, str]]) -> list[str]:
    """As the fullest label lists them, then the rest."""
    fullest = max(keys.values(), key=len)
    first = [name for name in fullest if name in names]
    return [*map(str, first), *(name for name in names if name not in first)]


def _of_each(
    look: Callable[[Path], _T], files: Mapping[Path, Case], faults: list[str]
) -> dict[Path, _T]:
    """What `look` finds in each file; what cannot be read is a fault."""

    def looked(path: Path) -> _T | DataError | None:
        try:
            with one_volume(path):
                return look(path) if path.exists() else None
        except DataError as error:
            return error

    with ThreadPoolExecutor(_WORKERS) as pool:
        results = dict(zip(files, pool.map(looked, files), strict=True))
    faults.extend(
        CaseFault(str(result), files[path].case_id)
        for path, result in results.items()
        if isinstance(result, DataError)
    )
    return {
        path: result
        for path, result in results.items()
        if result is not None and not isinstance(result, DataError)
    }
