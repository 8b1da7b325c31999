"""One folder per patient: P01/t1.nii.gz, P01/t2.nii.gz, P01/seg.nii.gz.

What a file is, is its name without the patient's: `P01/P01_flair.nii.gz` is flair. Sessions are
folders below the patient's. A folder named segmentations holds one mask per class.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.data.forms.contents import dataset_of
from medseg.data.forms.form import Form, entries_of
from medseg.data.forms.matching import Findings
from medseg.data.forms.names import images_below, says_image, says_label, tokens_of
from medseg.data.forms.pairs import is_of_cases
from medseg.formatting import first_of

_IMAGE = "image"


@dataclass(frozen=True)
class _File:
    """A file of a patient: from its folder, in which session, what it is, and whether a label."""

    path: Path
    session: str
    role: str
    is_label: bool


class Patients(Form):
    """One folder per patient, with files named alike in all of them."""

    name = "patients"
    title = "one folder per patient"
    layout = "P01/t1.nii.gz, P01/seg.nii.gz, P02/t1.nii.gz, ...: files named alike in each"

    def evidence(self, folder: Path) -> str:
        """Several folders with images, none of which is one of labels."""
        folders = [path for path in entries_of(folder) if path.is_dir() and images_below(path)]
        if len(folders) < 2 or any(says_label(path.name) for path in folders):
            return ""
        if any(map(is_of_cases, folders)):
            return ""  # such as train and val
        return f"folders {first_of([path.name for path in folders], 3)}"

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        found = Findings()
        groups: dict[tuple[str, str], list[_File]] = {}
        for place in [path for path in entries_of(folder) if path.is_dir()]:
            files = _files_of(place)
            if not files:
                found.notes.append(f"{place.name}: is empty of images and left out")
            for file in files:
                groups.setdefault((place.name, file.session), []).append(file)
        found.faults.extend(_strangers(groups))
        channels = _channels(groups, found)
        found = Findings(channels=channels, faults=found.faults, notes=found.notes)
        masks = _mask_folders(file for files in groups.values() for file in files)
        for (patient, session), files in groups.items():
            _add_case(folder, patient, session, files, masks, found)
        if groups and not any(file.is_label for files in groups.values() for file in files):
            listed = first_of([str(file.path) for file in next(iter(groups.values()))])
            found.faults.append(
                f"no file has a name with label, mask, seg or the like: {listed}; say with "
                "data.files which are labels"
            )
        return dataset_of(folder, self.title, found, label_values)


def _case_id(patient: str, session: str) -> str:
    return "_".join(filter(None, (patient, *session.split("/"))))


def _strangers(groups: Mapping[tuple[str, str], list[_File]]) -> Iterator[CaseFault]:
    """Faults of files that are named after another patient than their folder."""
    patients = {tokens_of(patient): patient for patient, _ in groups}
    for (patient, session), files in groups.items():
        own = tokens_of(patient)
        for file in files:
            name = tokens_of(file.path.name)
            starts = [name[:n] for n in range(1, len(name) + 1)]
            named = [start for start in starts if start in patients]
            if named and own not in starts:
                text = (
                    f"{patient}/{file.path.name}: is named after {patients[named[-1]]}; whose is "
                    "it? Move or rename it"
                )
                yield CaseFault(text, _case_id(patient, session))


def _files_of(place: Path) -> list[_File]:
    """A patient's files; each folder with images and a label of its own is a session."""
    own = tokens_of(place.name)
    plain = [_file(place, path, own) for path in images_below(place)]
    by_session = defaultdict(set)
    for file in plain:
        by_session[file.session].add(file.is_label)
    if all(len(kinds) == 2 for kinds in by_session.values()):
        return plain
    return [
        _File(file.path, "", "/".join(filter(None, (file.session, file.role))), file.is_label)
        for file in plain
    ]


def _file(place: Path, path: Path, own: tuple[str, ...]) -> _File:
    folders = list(path.parent.parts)
    kinds = []
    while folders and (says_label(folders[-1]) or says_image(folders[-1])):
        kinds.insert(0, folders.pop())
    name = tokens_of(path.name)
    if name[: len(own)] == own:
        name = name[len(own) :]
    is_label = says_label("_".join(name)) or any(map(says_label, kinds))
    role = "/".join([*kinds, "_".join(name) or _IMAGE])
    return _File(place / path, "/".join(folders), role, is_label)


def _channels(groups: Mapping[Any, list[_File]], found: Findings) -> tuple[str, ...]:
    """Roles that more than half of the cases with images have; the others are not used."""
    images = [{file.role: file for file in files if not file.is_label} for files in groups.values()]
    counts = Counter(role for own in images for role in own)
    cases = sum(bool(own) for own in images)
    channels = sorted(role for role, count in counts.items() if 2 * count > cases)
    for role, count in counts.items():
        if role not in channels:
            first = next(own[role] for own in images if role in own).path
            where = "/".join(first.parts[-2:])
            found.notes.append(f"{where}: {count} of {cases} have such a file; it is not used")
    return tuple(channels) or ("",)


def _add_case(
    folder: Path, patient: str, session: str, files: list[_File], masks: set[str], found: Findings
) -> None:
    case_id = _case_id(patient, session)
    images = defaultdict(list)
    for file in files:
        if not file.is_label and file.role in found.channels:
            images[file.role].append(file.path)
    labels = _labels(files, masks)
    if not images:
        text = f"{case_id}: has a label ({_named(labels, folder)}) and no image"
        found.faults.append(CaseFault(text, case_id))
        return
    if not labels:
        found.notes.append(f"{case_id}: has no label and is left out")
        return
    for what, paths in (*images.items(), ("label", labels)):
        if len(paths) > 1:
            text = (
                f"{case_id}: {_named(paths, folder)}: which one is the {what}? Take the others "
                "away, or say it with data.files"
            )
            found.faults.append(CaseFault(text, case_id))
    found.faults.extend(
        CaseFault(f"{case_id}: has no {channel}", case_id)
        for channel in found.channels
        if channel not in images
    )
    paths = tuple(images[channel][0] for channel in found.channels if channel in images)
    found.cases.append(Case(case_id=case_id, images=paths, label=labels[0], patient=patient))


def _mask_folders(files: Iterable[_File]) -> set[str]:
    """Roles of folders that hold one mask per class, in any of the patients."""
    masks = defaultdict(set)
    for file in files:
        folder, _, name = file.role.rpartition("/")
        if file.is_label and folder and not says_label(name):
            masks[file.path.parent, folder].add(name)
    return {folder for (_, folder), names in masks.items() if len(names) > 1}


def _labels(files: list[_File], mask_folders: set[str]) -> list[Path]:
    """The label files; a folder of masks is one label."""
    found = {
        file.path.parent if file.role.rpartition("/")[0] in mask_folders else file.path: None
        for file in files
        if file.is_label
    }
    return [*found]


def _named(paths: list[Path], folder: Path) -> str:
    return " and ".join(str(path.relative_to(folder)) for path in paths)
