"""Images without labels, in the forms in which datasets have them: what prediction reads.

Files of one channel each belong to a case by their whole names. Which channel a file is says
nnU-Net's number (`_0001`) or the channel's name, at the end of its name or as its folder's.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medseg.data.dataset import Scan
from medseg.data.forms.contents import with_spacing
from medseg.data.forms.form import images_in
from medseg.data.forms.names import images_below, says_image, says_label, tokens_of, words_of
from medseg.data.forms.table import is_table, scans_of_table
from medseg.errors import DataError
from medseg.volumes import Found, case_id, describe, find_volumes, scan_dicom, sharing_a_case

_NUMBERED = re.compile(r"(.*?)_?(\d{4})")  # nnU-Net's channel, from 0
_OF_ONE_SCAN = {"dcm", "dicom", "series", "study"}  # folders that tell no patient or session


@dataclass(frozen=True)
class _Place:
    """What a path says: the folder that was named, those below it, name and channel of the case.

    Attributes:
        base: the folder that was named, or in which the file lies.
        folders: those between, but for such as `images`.
        name: of the file without its channel; empty if nothing else is left.
        channel: from 0; None if the path says none.
    """

    base: Path
    folders: tuple[str, ...]
    name: str
    channel: int | None


def find_scans(
    inputs: Iterable[Path], *, channels: int, names: Sequence[str] = ()
) -> tuple[Found, dict[Path, Scan]]:
    """The cases that files and folders name, each by the first of its files.

    Args:
        inputs: As of `find_volumes`; besides, tables whose columns point to images, and folders
            that hold folders: of patients, of channels or of DICOM series.
        channels: How many an image has.
        names: Of the channels, if they are known.

    Raises:
        DataError: there are inputs and no image can be used: why the first cannot.
    """
    inputs = [*map(Path, inputs)]
    tables = [path for path in inputs if is_table(path)]
    skipped: dict[Path, str] = {}
    below: dict[Path, Path] = {}
    for path in inputs:
        below |= dict.fromkeys(_nested(path, skipped), path)
    named = [path for path in inputs if path not in {*tables, *below.values()}]
    found = find_volumes([*named, *below], named=str)
    skipped |= found.skipped
    labels = _labels([path for path in found.volumes if path not in named], below)
    skipped |= dict.fromkeys(labels, "a label beside images")
    images = [path for path in found.volumes if path not in labels]
    places = {p: _place(p, below.get(p, p.parent), channels, names) for p in images}
    unusable = dict(found.unusable)
    whole = {p: place for p, place in places.items() if _is_whole(p, place, channels)}
    parts = {p: place for p, place in places.items() if p not in whole}
    cases = [(place, (p,)) for p, place in _of_one_file(whole, skipped).items()]
    cases += _of_several(parts, channels, names, unusable)
    scans = [scan for table in tables for scan in scans_of_table(table, channels, names)]
    ids = _ids([place for place, _ in cases], {path for path in inputs if path.is_dir()})
    for case, (_, files) in zip(ids, cases, strict=True):
        scans.append(with_spacing(Scan(case_id=case, images=files), []))
    by_file = {scan.image: scan for scan in scans}
    unusable |= dict(sharing_a_case(by_file, lambda path: by_file[path].case_id))
    usable = {path: scan for path, scan in by_file.items() if path not in unusable}
    if unusable and not usable:
        raise DataError(next(iter(unusable.values())))
    return Found(volumes=[*usable], unusable=unusable, skipped=skipped), usable


def _nested(folder: Path, skipped: dict[Path, str]) -> list[Path]:
    """Images in the folders below one that holds none itself, a DICOM series by its first file."""
    if not folder.is_dir() or images_in(folder):
        return []
    objects = scan_dicom(folder)
    if any(each.kind == "series" and each.path.parent == folder for each in objects):
        return []
    labels = [each.path for each in objects if each.kind in ("seg", "rtstruct")]
    skipped |= dict.fromkeys(labels, "a segmentation")
    series = [each.path for each in objects if each.kind == "series"]
    return [*(folder / path for path in images_below(folder)), *series]


def _labels(paths: Sequence[Path], below: Mapping[Path, Path]) -> list[Path]:
    """Files of folders that are labels by name; none where all are called so."""

    def is_label(path: Path) -> bool:
        folders = path.parent.relative_to(below[path]).parts if path in below else ()
        is_segmentation = path.name.lower().endswith(".seg.nrrd")
        return is_segmentation or any(map(says_label, (case_id(path), *folders)))

    found = [*filter(is_label, paths)]
    return found if len(found) < len(paths) else []


def _place(path: Path, base: Path, channels: int, names: Sequence[str]) -> _Place:
    parts, stem = path.parent.relative_to(base).parts, case_id(path)
    folders = tuple(part for part in parts if not says_image(part))
    if (numbered := _NUMBERED.fullmatch(stem)) and int(numbered[2]) < channels:
        return _Place(base, folders, numbered[1], int(numbered[2]))
    own, above = tokens_of(stem), tokens_of(path.parent.name)
    tails = {tokens_of(name.casefold()): n for n, name in enumerate(names) if name}
    for tail, number in sorted(tails.items(), key=lambda each: -len(each[0])):
        if _folded(own[-len(tail) :]) == tail:
            return _Place(base, folders, "_".join(own[: -len(tail)]), number)
        if channels > 1 and parts and _folded(above) == tail:
            is_kept = folders[-1:] == parts[-1:]
            return _Place(base, folders[:-1] if is_kept else folders, stem, number)
    return _Place(base, folders, stem, None)


def _folded(tokens: Sequence[str]) -> tuple[str, ...]:
    return tuple(token.casefold() for token in tokens)


def _is_whole(path: Path, place: _Place, channels: int) -> bool:
    """Whether a file holds all channels of its case."""
    if channels == 1:
        return True
    try:
        described = describe(path)
    except DataError:
        return True  # whoever reads it says what is wrong
    return described.channels == channels or (described.is_picture and place.channel is None)


def _of_one_file(places: Mapping[Path, _Place], skipped: dict[Path, str]) -> dict[Path, _Place]:
    """Cases of one file each; a patient's folder may hold other channels besides."""
    known = {(p.base, p.folders) for p in places.values() if p.folders and p.channel is not None}
    others = [
        path for path, p in places.items() if p.channel is None and (p.base, p.folders) in known
    ]
    skipped |= dict.fromkeys(others, "no channel of the network by its name")
    kept = {path: place for path, place in places.items() if path not in others}
    numbered = all(case_id(path).endswith("_0000") for path in kept)
    return {
        path: place if place.folders or numbered else replace(place, name=case_id(path))
        for path, place in kept.items()
    }


def _of_several(
    places: Mapping[Path, _Place],
    channels: int,
    names: Sequence[str],
    unusable: dict[Path, str],
) -> list[tuple[_Place, tuple[Path, ...]]]:
    """Cases of one file per channel, in their order."""
    wanted = [f"_{n:04d}" for n in range(channels)]
    for n, name in enumerate(names):
        wanted[n] += f" or {name}"
    groups: dict[_Place, dict[int, Path]] = {}
    for path, place in places.items():
        if place.channel is None:
            fault = f"has one of {channels} channels, and its name says none of {', '.join(wanted)}"
            unusable[path] = f"{path}: {fault}"
            continue
        own = groups.setdefault(replace(place, channel=None), {})
        other = own.setdefault(place.channel, path)
        if other != path:
            unusable[other] = f"{other} and {path}: which one is the image? Take the other away"
    cases = []
    for place, own in groups.items():
        files = tuple(own[n] for n in sorted(own))
        if lacking := [wanted[n] for n in range(channels) if n not in own]:
            unusable[files[0]] = f"{files[0]}: its case has no file {' and none '.join(lacking)}"
        elif not set(files) & set(unusable):
            cases.append((place, files))
    return cases


def _ids(places: Sequence[_Place], named: set[Path]) -> list[str]:
    """By the folder below the one that was named, as far as needed; else by the file.

    Where cases of several folders would be called alike, their folders' names go before, and are
    all where a folder that was named holds one case.
    """
    namings: list[Callable[[_Place], tuple[str, ...]]] = [
        lambda place: tuple(f for f in place.folders if not words_of(f) & _OF_ONE_SCAN)[:1],
        lambda place: place.folders[:1],
        lambda place: place.folders,
        lambda place: (*place.folders, place.name),
    ]
    naming = {}
    for base in {place.base for place in places}:
        deep = [place for place in places if place.folders and place.base == base]
        short = [name for name in namings if len(set(map(name, deep))) == len(deep)]
        naming[base] = [*short, *namings[-1:]][0]
    ids = [
        "_".join(filter(None, naming[place.base](place))) or _name(place.base)
        if place.folders
        else place.name or _name(place.base)
        for place in places
    ]
    bases: dict[str, set[Path]] = {}
    for own, place in zip(ids, places, strict=True):
        bases.setdefault(own, set()).add(place.base)
    alike = {own for own, places_of in bases.items() if len(places_of) > 1}
    whole = {base for own in alike for base in bases[own]} & named
    cases = Counter(place.base for place in places)
    for n, place in enumerate(places):
        if place.base in whole or ids[n] in alike:
            name = _name(place.base)
            is_all = place.base in whole and cases[place.base] == 1
            ids[n] = name if is_all else f"{name}_{ids[n]}"
    return ids


def _name(folder: Path) -> str:
    return os.path.basename(os.path.abspath(folder))
