"""Images and labels in two folders, or side by side in one."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medseg.data.dataset import Case, CaseFault, Dataset
from medseg.data.forms.contents import dataset_of
from medseg.data.forms.form import Form, entries_of, images_in, stem_of
from medseg.data.forms.matching import Findings, match
from medseg.data.forms.names import says_image, says_label, says_test, tokens_of
from medseg.formatting import first_of

_MODALITIES = ("ct", "mr", "mri")  # folders of these are channels beside others


class Pairs(Form):
    """A folder of images and a folder of labels, or one of images per channel."""

    name = "pairs"
    title = "pairs of folders"
    layout = "a folder named images (or one per channel) and one named labels, masks or the like"

    def evidence(self, folder: Path) -> str:
        """Folders of files, some of them named as labels are."""
        images, labels = _folders(folder)
        if not images or not labels:
            return ""
        return f"folders {first_of([path.name for path in [*images, *labels]])}"

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        images, labels = _folders(folder)
        named = [p for p in images if says_image(p.name) and p.name.casefold() not in _MODALITIES]
        found = Findings()
        for what, places in (("label", labels), ("image", named)):
            if len(places) > 1:
                found.faults.append(
                    f"{' and '.join(path.name for path in places)}: which folder holds the "
                    f"{what}s? Take the others away, or say it with data.files"
                )
        found.faults.extend(
            f"{path.name}: is empty; add the files that belong to those of the other folder"
            for path in (*named, *labels)
            if not images_in(path)
        )
        if not found.faults:
            found = _matched(folder, named or images, labels[0])
        if unused := [path.name for path in images if named and path not in named]:
            found.notes.append(
                f"{first_of(unused)}: not called images as {named[0].name}; not used"
            )
        if tests := [path.name for path in entries_of(folder) if says_test(path.name)]:
            found.notes.append(f"{first_of(tests)}: for testing, no part of the training")
        return dataset_of(folder, self.title, found, label_values)


class SideBySide(Form):
    """Images and labels in one folder, the labels with something behind the image's name."""

    name = "side_by_side"
    title = "pairs in one folder"
    layout = "case_1.nii.gz and case_1_seg.nii.gz (or mask, label, ...) side by side"

    def evidence(self, folder: Path) -> str:
        """Two files or more, where no folder of labels lies beside them."""
        files = images_in(folder)
        return f"files {first_of([path.name for path in files], 2)}" if len(files) > 1 else ""

    def read(self, folder: Path, label_values: Mapping[Any, Any] | None) -> Dataset:
        """See `Form.read`."""
        files = images_in(folder)
        labels = [path for path in files if says_label(stem_of(path))]
        found = Findings()
        if not labels:
            labels = _behind_pictures(files, found)
        if labels and not found.faults:
            found = match([path for path in files if path not in labels], labels, folder)
        elif not found.faults:
            names = first_of([path.name for path in files])
            found.faults.append(
                f"no file has a name with label, mask, seg or the like: {names}; say with "
                "data.files which are labels"
            )
        return dataset_of(folder, self.title, found, label_values)


def is_of_cases(folder: Path) -> bool:
    """Whether a folder is a dataset of pairs by itself, of several cases."""
    images, labels = _folders(folder)
    named = [path for path in images if says_image(path.name)] or images
    return len(labels) == 1 and any(len(_matched(folder, [p], labels[0]).cases) > 1 for p in named)


def _folders(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders with files of images, and of labels, directly below one."""
    places = [p for p in entries_of(folder) if p.is_dir() and not says_test(p.name)]
    full = [path for path in places if images_in(path)]
    empty = [path for path in places if says_image(path.name) or says_label(path.name)]
    places = [p for p in places if p in full or (full and p in empty and not entries_of(p))]
    labels = [path for path in places if says_label(path.name)]
    return [path for path in places if path not in labels], labels


def _matched(folder: Path, images: list[Path], labels: Path) -> Findings:
    """Cases of one folder of images, or of one per channel."""
    if len(images) == 1:
        return match(images_in(images[0]), images_in(labels), folder)
    found = Findings(channels=tuple(path.name for path in images))
    by_label: dict[Path, dict[str, Case]] = {}
    for place in images:
        own = match(images_in(place), images_in(labels), folder)
        found.faults.extend(own.faults)
        found.notes.extend(note for note in own.notes if place.name in note)
        for case in own.cases:
            by_label.setdefault(case.label, {})[place.name] = case
    for label, cases in by_label.items():
        files = tuple(case.images[0] for case in cases.values())
        name = next(iter(cases.values())).case_id
        lacking = [channel for channel in found.channels if channel not in cases]
        found.faults.extend(
            CaseFault(f"{name}: has no image in {channel}", name) for channel in lacking
        )
        found.cases.append(Case(case_id=name, images=files, label=label))
    return found


def _behind_pictures(files: list[Path], found: Findings) -> list[Path]:
    """Masks that no word names: PNG files with something behind the name of a JPEG picture."""
    pictures = {tokens_of(p.name): p for p in files if p.suffix.lower() in (".jpg", ".jpeg")}
    behind: dict[Path, list[Path]] = {}
    for path in files:
        name = tokens_of(path.name)
        owners = [pictures[name[:n]] for n in range(1, len(name) + 1) if name[:n] in pictures]
        if path not in pictures.values() and owners:
            behind.setdefault(owners[-1], []).append(path)
    several = {owner: masks for owner, masks in behind.items() if len(masks) > 1}
    if several:
        owner, masks = next(iter(several.items()))
        names = [path.name for path in masks]
        pattern = masks[0].name.replace(stem_of(owner), "{case}")
        found.faults.append(
            f"{owner.name}: {' and '.join(names)}: which one is the label? Say it for all "
            f"{len(several)} pictures, as in data.files={{image: '{{case}}{owner.suffix}', "
            f"label: '{pattern}'}}"
        )
    return [path for masks in behind.values() for path in masks]
