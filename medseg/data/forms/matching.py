"""Which image belongs to which label, by whole names.

The names of labels are those of images (`case_1`), or differ from them by what all labels or all
images begin or end with (`IMG_1` and `IMG_1_seg`, `volume-1` and `segmentation-1`). Files of one
channel each have the channel at their end (`case_1_t1`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from medseg.data.dataset import Case, CaseFault
from medseg.data.forms.form import stem_of
from medseg.data.forms.names import Tokens, core_names, tokens_of
from medseg.formatting import first_of

_Naming = Callable[[Sequence[Path]], dict[Path, Tokens]]


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Cases that were found, and what was noticed on the way.

    Attributes:
        cases: complete or not.
        channels: names of the channels; one that is empty where there is one channel.
        faults: see `Dataset`.
        notes: see `Dataset`.
    """

    cases: list[Case] = field(default_factory=list)
    channels: tuple[str, ...] = ("",)
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def match(images: Sequence[Path], labels: Sequence[Path], root: Path) -> Findings:
    """Cases of images and labels that bear the same names.

    Args:
        images: Files.
        labels: Files.
        root: Of the dataset, from which files are named in messages.
    """
    namings: list[tuple[_Naming, _Naming]] = [
        (_whole, _whole), (_whole, core_names), (core_names, core_names)
    ]  # fmt: skip
    best = max(namings, key=lambda both: len(_owned(both[0](images), both[1](labels))))
    named = best[1](labels)
    owned = _owned(best[0](images), named)
    tails = sorted({tail for _, tail in owned.values()})
    found = Findings(channels=tuple("_".join(tail) for tail in tails) or ("",))
    _name_unmatched(found, images, owned, root)
    by_name: dict[Tokens, list[Path]] = {}
    for path, name in named.items():
        by_name.setdefault(name, []).append(path)
    for name, candidates in by_name.items():
        own = {path: tail for path, (owner, tail) in owned.items() if owner == name}
        if not own:
            found.notes.append(f"{candidates[0].relative_to(root)}: has no image and is left out")
            continue
        images_of = {tail: [path for path, its in own.items() if its == tail] for tail in tails}
        files = [paths[0] for paths in images_of.values() if paths]
        stem = stem_of(files[0])
        own_id = "_".join(tokens_of(stem)[: -len(tails[0])]) if len(tails) > 1 else stem
        for what, paths in (
            *(("image", paths) for paths in images_of.values()),
            ("label", candidates),
        ):
            if len(paths) > 1:
                named = " and ".join(str(path.relative_to(root)) for path in paths)
                text = f"{named}: which one is the {what}? Take the others away"
                found.faults.append(CaseFault(text, own_id))
        found.faults.extend(
            CaseFault(f"{stem}: has no {'_'.join(tail) or 'image'}", own_id)
            for tail, paths in images_of.items()
            if not paths
        )
        found.cases.append(Case(case_id=own_id, images=tuple(files), label=candidates[0]))
    _name_alike(found, root)
    if not found.cases:
        found.faults.append(
            f"no label has the name of an image: {first_of([p.name for p in labels], 2)} beside "
            f"{first_of([p.name for p in images], 2)}; say with data.files which belong together"
        )
    return found


def _whole(paths: Sequence[Path]) -> dict[Path, Tokens]:
    return {path: tokens_of(path.name) for path in paths}


def _owned(
    images: Mapping[Path, Tokens], labels: Mapping[Path, Tokens]
) -> dict[Path, tuple[Tokens, Tokens]]:
    """Image → the name of the label that is its whole beginning, and what follows."""
    known = set(labels.values())
    found = {}
    for path, name in images.items():
        for length in range(len(name), 0, -1):
            if name[:length] in known:
                found[path] = (name[:length], name[length:])
                break
    exact = {path: both for path, both in found.items() if not both[1]}
    return exact or found


def _name_unmatched(found: Findings, images: Sequence[Path], owned: Mapping, root: Path) -> None:
    if owned and (lonely := [str(p.relative_to(root)) for p in images if p not in owned]):
        found.notes.append(f"without a label and left out: {first_of(lonely)}")


def _name_alike(found: Findings, root: Path) -> None:
    """Notes ids that are one where case does not count, as on Windows and macOS."""
    folded: dict[str, list[str]] = {}
    for case in found.cases:
        folded.setdefault(case.case_id.casefold(), []).append(case.case_id)
    found.notes.extend(
        f"{' and '.join(alike)}: are one name on Windows and macOS"
        for alike in folded.values()
        if len(alike) > 1 and len(set(alike)) > 1
    )
