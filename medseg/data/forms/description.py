"""dataset.json, which the Decathlon and nnU-Net share: its channels, label values and classes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault
from medseg.data.forms.form import is_litter, stem_of
from medseg.data.splits import NNUNET_FOLDS, Split, faults_of_folds, read_folds, repeated
from medseg.errors import ConfigError, DataError
from medseg.labelling import Labelling
from medseg.volumes import IGNORE, checked_label_values

DESCRIPTION = "dataset.json"
BACKGROUND = "background"
_REMEDY = "correct it (data/README.md has an example) and start again"

Values = Mapping[int | str, int | str]


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a folder's dataset.json.

    Raises:
        DataError: it is missing, or no JSON object; line and column of the fault are named.
    """
    path = folder / DESCRIPTION
    try:
        description = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; {_REMEDY}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, as the Decathlon and nnU-Net have it, is no readable JSON ({error}); "
            f"{_REMEDY}"
        ) from error
    if not isinstance(description, dict):
        raise DataError(f"{path} holds no JSON object; {_REMEDY}")
    return description


def nnunet_version(folder: Path) -> int:
    """Of whose form a folder with a dataset.json is: 2 or 1 of nnU-Net, 0 the Decathlon's.

    Version 1 has the Decathlon's dataset.json; they differ by which files exist: patient_00.nii.gz
    of its list is patient_00_0000.nii.gz and so on in imagesTr.

    Raises:
        DataError: dataset.json cannot be read.
    """
    description = read_description(folder)
    if "channel_names" in description or "file_ending" in description:
        return 2
    images = [folder / image for image, _ in listed_cases(description, [])]
    numbered = any(channel_file(path, 0).is_file() for path in images if not path.is_file())
    return 1 if numbered else 0


def channel_file(image: Path, channel: int) -> Path:
    """nnU-Net's name of the file of one channel of an image."""
    stem = stem_of(image)
    return image.with_name(f"{stem}_{channel:04d}{image.name.removeprefix(stem)}")


def listed_cases(description: Mapping[str, Any], problems: list[str]) -> list[tuple[str, str]]:
    """Image and label of every case of `training`, as they are written there."""
    entries = description.get("training")
    if not isinstance(entries, list):
        problems.append("training: missing; it must list the cases")
        return []
    if not entries:
        problems.append("training: the list is empty")
    listed = []
    for number, entry in enumerate(entries):
        files = entry if isinstance(entry, dict) else {"image": entry}
        image, label = files.get("image"), files.get("label")
        if isinstance(image, str) and is_litter(Path(image)):
            continue  # macOS puts such a companion beside every file of an archive
        if isinstance(image, str) and isinstance(label, str):
            listed.append((image, label))
        else:
            lacking = "label" if isinstance(image, str) else "image"
            text = f"training[{number}]: {image or label or entry} has no {lacking}"
            named = [stem_of(Path(name)) for name in (image, label) if isinstance(name, str)]
            problems.append(CaseFault(text, *named) if named else text)
    return listed


def folds_beside(folder: Path, cases: Iterable[Case], problems: list[str]) -> tuple[Split, ...]:
    """The folds of nnU-Net's file beside a dataset.json, if it is there."""
    path = folder / NNUNET_FOLDS
    folds = read_folds(path) if path.is_file() else ()
    problems += faults_of_folds(folds, [case.case_id for case in cases], NNUNET_FOLDS)
    return folds


def provenance(description: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Name, licence and reference, as arguments of `Dataset`."""
    return {
        "name": str(description.get("name") or folder.name),
        "licence": str(description.get("licence") or description.get("license") or ""),
        "reference": str(description.get("reference") or "").strip(),
    }


def modalities_of(description: Mapping[str, Any], key: str, problems: list[str]) -> tuple[str, ...]:
    """Names of the channels, which `key` maps from their numbers."""
    return _in_order(_numbered(description, key, problems), key, problems)


def classes_of(
    description: Mapping[str, Any],
    label_values: Mapping[Any, Any] | None,
    problems: list[str],
) -> tuple[Labelling, Values | None]:
    """Classes or regions, and what label values become.

    Args:
        description: Has `labels`: value → name, or nnU-Net's name → value or list of values.
        label_values: `data.labels` of the configuration.
        problems: Is told what cannot be used.

    Raises:
        ConfigError: `label_values` is something else.
    """
    labels = description.get("labels")
    values = labels.values() if isinstance(labels, dict) else ()
    if isinstance(labels, dict) and any(isinstance(v, list) and len(v) != 1 for v in values):
        order = description.get("regions_class_order")
        return _regions(labels, order, label_values, problems)
    named = _named_values(description, problems)
    classes, mapped = merged_classes(named, label_values, problems)
    return Labelling(classes), mapped


def merged_classes(
    names: Mapping[int, str], label_values: Mapping[Any, Any] | None, problems: list[str]
) -> tuple[tuple[str, ...], Values | None]:
    """Classes of named label values, each of which bears the names of all values that become it.

    Raises:
        ConfigError: `label_values` maps no label values.
    """
    if not names:
        return (), None
    if label_values is None:
        values: dict[int | str, int | str] = {v: IGNORE for v, n in names.items() if _ignores(n)}
    else:
        values = checked_labels(label_values)
        problems += [
            f"labels: value {value} is called {name!r}; say data.labels={{{value}: {IGNORE}}} too"
            for value, name in names.items()
            if _ignores(name) and value not in values
        ]
    merged: dict[int, list[str]] = {}
    for value, name in names.items():
        to = values.get(value, value)
        if not isinstance(to, str):
            merged.setdefault(to, []).append(name)
    if sorted(merged) != list(range(len(merged))) and label_values is None and 0 in merged:
        listed = [f"{v}: {to}" for to, v in enumerate(sorted(merged)) if v != to]
        wanted = ", ".join([*listed, *(f"{value}: {IGNORE}" for value in values)])
        problems.append(
            f"labels: {sorted(merged)} must be consecutive from 0; with data.labels={{{wanted}}} "
            "they are"
        )
        return (), None
    classes = _in_order({to: "+".join(merged[to]) for to in merged}, "labels", problems)
    if len(classes) == 1:
        problems.append("labels: no class besides the background")
    problems += [
        f"labels: value {value} is called 'background', which is value 0"
        for value, name in enumerate(classes)
        if value > 0 and name.casefold() == BACKGROUND
    ]
    problems += [
        f"labels: data.labels makes {value} to {to}, and the classes are 0 to {len(classes) - 1}"
        for value, to in values.items()
        if isinstance(to, int) and classes and to >= len(classes)
    ]
    return classes[1:], values or None


def checked_labels(label_values: Mapping[Any, Any]) -> dict[int | str, int | str]:
    """`data.labels` as plain numbers and names.

    Raises:
        ConfigError: it is something else.
    """
    try:
        return {**checked_label_values(label_values)}
    except ValueError as error:
        raise ConfigError(f"data.{error}") from error


def _numbered(description: Mapping[str, Any], key: str, problems: list[str]) -> dict[int, str]:
    """Name by number from a mapping such as {"1": "Anterior", "0": "background"}."""
    mapping = description.get(key)
    if not isinstance(mapping, dict) or not mapping:
        problems.append(
            f'{key}: {mapping or "missing"}; it must map numbers to names, as in {{"0": "..."}}'
        )
        return {}
    try:
        return {int(number): str(name) for number, name in mapping.items()}
    except ValueError:
        problems.append(f"{key}: {list(mapping)} must be whole numbers")
        return {}


def _named_values(description: Mapping[str, Any], problems: list[str]) -> dict[int, str]:
    """Name by label value; nnU-Net maps names to values."""
    labels = description.get("labels")
    if not isinstance(labels, dict):
        return _numbered(description, "labels", problems)
    values: list[Any] = [
        v[0] if isinstance(v, list) and len(v) == 1 else v for v in labels.values()
    ]
    if not all(key.isdecimal() for key in labels):
        values = [int(v) if isinstance(v, str) and v.isdecimal() else v for v in values]
    if values and all(type(value) is int for value in values):
        if twice := repeated(values):
            problems.append(f"labels: value {twice[0]} has several names")
        return {int(value): str(name) for value, name in zip(values, labels, strict=True)}
    return _numbered(description, "labels", problems)


def _regions(
    labels: Mapping[str, Any],
    order: Any,
    label_values: Mapping[Any, Any] | None,
    problems: list[str],
) -> tuple[Labelling, Values | None]:
    """nnU-Net's regions of label values, which are mapped, and what label values become."""
    mapped = {} if label_values is None else checked_labels(label_values)

    def values_of(own: Any) -> list[Any]:
        listed = own if isinstance(own, list) else [own]
        return [mapped.get(value, value) if type(value) is int else value for value in listed]

    ignored = [value for name, value in labels.items() if _ignores(name)]
    rest = {name: own for name, own in labels.items() if not _ignores(name)}
    regions = {name: values_of(own) for name, own in rest.items() if own not in (0, [0])}
    try:
        labelling = Labelling.of_regions(
            regions, values_of(order) if isinstance(order, list) else order
        )
    except ValueError as error:
        problems.append(f"labels: {error}")
        return Labelling(()), None
    if taken := [v for v in ignored if type(v) is not int or v in mapped or v < labelling.ignored]:
        problems.append(
            f"labels: 'ignore' is {taken[0]}, and must be a value beyond those of regions, "
            f"{labelling.ignored} for instance"
        )
        return labelling, None
    return labelling, mapped | dict.fromkeys(ignored, IGNORE) or None


def _in_order(by_number: Mapping[int, str], key: str, problems: list[str]) -> tuple[str, ...]:
    if sorted(by_number) != list(range(len(by_number))):
        problems.append(f"{key}: {sorted(by_number)} must be consecutive from 0")
        return ()
    names = tuple(by_number[number] for number in range(len(by_number)))
    problems += [f"{key}: '{name}' is named several times" for name in repeated(names)]
    return names


def _ignores(name: str) -> bool:
    return name.strip().casefold() == IGNORE
