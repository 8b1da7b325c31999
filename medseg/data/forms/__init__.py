"""Forms of datasets: one place that recognises them by looking, one class each.

A form is recognised by a file that describes the dataset, else by what lies where; the first kind
goes before the second. Two forms at once are refused, never chosen between.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.data.dataset import Dataset
from medseg.data.forms.decathlon import Decathlon
from medseg.data.forms.dicom import Dicom
from medseg.data.forms.form import Form, entries_of, files_below, refuse_faults
from medseg.data.forms.names import says_image, says_label, says_test
from medseg.data.forms.nnunet import NnunetV1, NnunetV2
from medseg.data.forms.pairs import Pairs, SideBySide
from medseg.data.forms.patients import Patients
from medseg.data.forms.patterns import read_patterns
from medseg.data.forms.table import Table
from medseg.data.splits import patients_by_name
from medseg.errors import ConfigError, DataError
from medseg.formatting import first_of
from medseg.labelling import Labelling

FORMS: tuple[Form, ...] = (
    Decathlon(),
    NnunetV2(),
    NnunetV1(),
    Table(),
    Pairs(),
    Patients(),
    SideBySide(),
    Dicom(),
)
"""All forms; a new one is a class in this package and an entry here."""


_KNOWN: dict[tuple[str, str], tuple[str, Dataset]] = {}
"""What was read, by what was asked for, as long as the files are those: a start reads it often."""


def look_at_dataset(
    folder: Path | str,
    label_values: Mapping[Any, Any] | None = None,
    *,
    form: str | None = None,
    files: Mapping[str, Any] | None = None,
) -> Dataset:
    """As `read_dataset`, but a dataset with faults is returned, and they with it.

    Raises:
        DataError: no form is recognised, or several, or its description cannot be read.
        ConfigError: `label_values` or `form` is something else.
    """
    folder = Path(folder).expanduser()
    known = (os.path.abspath(folder), repr((label_values, form, files)))
    state = _state(folder)
    if _KNOWN.get(known, (None,))[0] != state:
        if files is not None:
            dataset = read_patterns(folder, files, label_values)
        else:
            found, place = _recognised(folder, form)
            dataset = found.read(place, label_values)
        _KNOWN[known] = state, _with_patients(dataset)
    return _KNOWN[known][1]


def read_dataset(
    folder: Path | str,
    label_values: Mapping[Any, Any] | None = None,
    *,
    regions: Mapping[str, Any] | None = None,
    order: Sequence[int] | None = None,
    form: str | None = None,
    files: Mapping[str, Any] | None = None,
) -> Dataset:
    """Recognises a dataset and finds all its files; nothing is written.

    Args:
        folder: Where it lies; the folder above it will do if it holds no other.
        label_values: `data.labels` of the configuration: label value of the files → class, or
            "ignore". A class bears the names of the values that become it.
        regions: `data.regions`, in place of what the dataset says; None: as it says.
        order: `data.regions_class_order`.
        form: The name of its form; None: as it looks.
        files: Patterns of the files of images and labels; None: as they look.

    Raises:
        DataError: lists all that is wrong, not only the first.
        ConfigError: `label_values`, `regions` or `form` is something else.
    """
    dataset = look_at_dataset(folder, label_values, form=form, files=files)
    refuse_faults(dataset)
    if regions is None:
        return dataset
    try:
        return dataset.with_regions(Labelling.of_regions(regions, order))
    except ValueError as error:
        raise ConfigError(f"data.{error}") from error


def _state(folder: Path) -> str:
    """Changes whenever a file below a folder comes, goes or is written to."""
    digest = hashlib.sha256()
    for path in files_below(folder):
        digest.update(os.fsencode(path))
        with suppress(OSError):  # a broken link
            status = path.stat()
            digest.update(f"{status.st_size} {status.st_mtime_ns}".encode())
    return digest.hexdigest()


def _with_patients(dataset: Dataset) -> Dataset:
    """Where no one says whose the cases are, but their names do: eyes, sessions, slices."""
    if any(case.patient for case in dataset.cases):
        return dataset
    patients = patients_by_name(case.case_id for case in dataset.cases)
    if not patients:
        return dataset
    cases = tuple(replace(c, patient=patients.get(c.case_id)) for c in dataset.cases)
    first = next(iter(patients))
    note = (
        f"by their names, several cases are of one patient, as {first} is of {patients[first]}: "
        "they stay on one side of the split; data.patient says otherwise"
    )
    return replace(dataset, cases=cases, notes=(*dataset.notes, note))


def _recognised(folder: Path, form: str | None) -> tuple[Form, Path]:
    if form is not None:
        return form_named(form), folder
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; name the one that holds the dataset")
    is_part = says_image(folder.name) or says_label(folder.name) or says_test(folder.name)
    if is_part and any(form.described and form.evidence(folder.parent) for form in FORMS):
        raise DataError(f"{folder} is a part of the dataset in {folder.parent}; name that folder")
    if found := _form_of(folder):
        return found, folder
    places = [path for path in entries_of(folder) if not says_test(path.name)]
    inside = [(below, path) for path in places if (below := _form_of(path))]
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = first_of([path.name for _, path in inside])
        raise DataError(f"{folder} holds {len(inside)} datasets; name one of them: {names}")
    raise DataError(*_unknown(folder))


def _form_of(folder: Path) -> Form | None:
    """The form of a folder by what lies in it.

    Raises:
        DataError: it could be of several.
    """
    if not folder.is_dir():
        return None
    for described in (True, False):
        found = {
            form: evidence
            for form in FORMS
            if form.described == described and (evidence := form.evidence(folder))
        }
        if len(found) > 1:
            seen = "; ".join(f"{form.title} ({evidence})" for form, evidence in found.items())
            names = " or ".join(f"data.form={form.name}" for form in found)
            raise DataError(f"{folder} could be of several forms: {seen}; say {names}")
        if found:
            return next(iter(found))
    return None


def form_named(form: str) -> Form:
    """The form that `data.form` asks for.

    Raises:
        ConfigError: there is none of this name.
    """
    by_name = {each.name: each for each in FORMS}
    if form not in by_name:
        raise ConfigError(
            f"data.form={form} is no form of dataset; choose from {', '.join(by_name)}"
        )
    return by_name[form]


def _unknown(folder: Path) -> list[str]:
    """Why nothing was recognised, and the forms that would be."""
    entries = [path.name for path in entries_of(folder)]
    holds = f"holds {first_of(entries)}" if entries else "is empty"
    forms = [f"{form.title} (data.form={form.name}): {form.layout}" for form in FORMS]
    head = f"{folder} {holds}: no image with a label is found there; a dataset has one of the forms"
    return [head, *forms]
