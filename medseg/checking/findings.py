"""All that is wrong with a dataset, in one list: structure, files, voxels, folds."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Literal, get_args

from medseg.checking.case import Seen, see
from medseg.data.checks import (
    ALL_EMPTY,
    in_no_label,
    same_content,
    uneven_spacings,
    without_air,
)
from medseg.data.dataset import CaseFault, Dataset
from medseg.data.preprocess import BODY_AXES
from medseg.data.splits import FoldFault, Patients, check, split_cases
from medseg.errors import DataError
from medseg.formatting import first_of
from medseg.planning.fingerprint import CaseFacts, cases_at_once, in_hounsfield_units
from medseg.progress import bar
from medseg.volumes import Doubt

Severity = Literal["refuse", "warn", "repairable"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""It cannot be trained; a person has to look; it is read as it is meant, which is said."""

_FACTOR_OF_SIZES = 10  # between a case's extent and the median's: another unit
_LONGEST = 3000  # mm
_LEAST_RANGE = 20  # HU from air to bone are some thousand
_SHARE_OF_PATIENTS = 0.2


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Args:
        severity: How much that matters.
        cases: Ids of the cases; none where it is the dataset's.
        text: What, and the remedy.
        is_fixed: Whether `--fix` writes a copy without it.
    """

    severity: Severity
    cases: tuple[str, ...] = ()
    text: str
    is_fixed: bool = False


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A dataset, its cases as they were read, and all that is wrong, worst first."""

    dataset: Dataset
    seen: tuple[Seen, ...]
    findings: tuple[Finding, ...]

    def is_refused(self, *, fixed: bool = False) -> bool:
        """Whether it cannot be trained as it is, or as `--fix` writes it."""
        left = [finding for finding in self.findings if not (fixed and finding.is_fixed)]
        return any(finding.severity == "refuse" for finding in left)


def check_dataset(dataset: Dataset, *, patient: Patients = None, pictures: bool = False) -> Checked:
    """Reads every case, as many at a time as the memory holds.

    Args:
        dataset: Of `look_at_dataset`, with its faults.
        patient: As `data.patient`; None: as the dataset says.
        pictures: Whether slices of every case are drawn.
    """
    with (
        bar(len(dataset.cases), "reading") as step,
        ThreadPoolExecutor(cases_at_once(dataset)) as pool,
    ):
        seen = []
        for each in pool.map(lambda case: see(case, dataset, pictures=pictures), dataset.cases):
            seen.append(each)
            step()
    found = [
        *_faults(dataset),
        *(Finding(severity="warn", text=note) for note in dataset.notes),
        *_problems(dataset, seen),
        *_notes(seen),
        *_folds(dataset, patient),
        *_copies(dataset, seen),
        *_labels(dataset, seen),
        *_outside(seen),
        *_values(dataset, seen),
        *_grids(dataset, seen),
    ]
    found.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Checked(dataset=dataset, seen=tuple(seen), findings=tuple(dict.fromkeys(found)))


def _facts(seen: Sequence[Seen]) -> dict[str, CaseFacts]:
    return {each.case.case_id: each.facts for each in seen if each.facts}


def _faults(dataset: Dataset) -> Iterator[Finding]:
    for fault in dataset.faults:
        cases = fault.cases if isinstance(fault, CaseFault) else ()
        text = fault.removeprefix(f"{first_of(cases)}: ")  # which is shown before it
        yield Finding(severity="refuse", cases=cases, text=text)


def _problems(dataset: Dataset, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Cases that cannot be read; what the structure says already of missing files is left out."""
    files = max((len(each.case.images) for each in seen), default=0)
    of_cases = [fault for fault in dataset.faults if isinstance(fault, CaseFault)]
    told = {case_id for fault in of_cases for case_id in fault.cases}
    for each in seen:
        own = (*each.case.images, each.case.label)
        is_short = len(each.case.images) < files or not all(path.exists() for path in own)
        is_told = each.problem in dataset.faults or (is_short and each.case.case_id in told)
        if each.problem and not is_told:
            yield Finding(severity="refuse", cases=(each.case.case_id,), text=each.problem)


def _notes(seen: Sequence[Seen]) -> Iterator[Finding]:
    """What readers noted, once for all cases of which it is true."""
    cases_of: dict[str, list[str]] = defaultdict(list)
    for each in seen:
        for note in each.notes:
            cases_of[note].append(each.case.case_id)
    for note, cases in cases_of.items():
        is_doubt = isinstance(note, Doubt)
        yield Finding(
            severity="warn" if is_doubt else "repairable",
            cases=tuple(cases),
            text=note if is_doubt else f"{note}; --fix writes it so",
            is_fixed=not is_doubt,
        )


def _patients(dataset: Dataset, patient: Patients) -> Patients:
    return patient or {case.case_id: case.patient or case.case_id for case in dataset.cases}


def _folds(dataset: Dataset, patient: Patients) -> Iterator[Finding]:
    """Folds that leak patients; without folds, whether a split can be drawn."""
    ids = [case.case_id for case in dataset.cases]
    patients = _patients(dataset, patient)
    if any(isinstance(fault, FoldFault) for fault in dataset.faults):
        return
    for number, fold in enumerate(dataset.folds):
        try:
            check(fold, ids, patient=patients)
        except DataError as error:
            text = f"{dataset.folds_from}: fold {number}: {error}"
            yield Finding(severity="refuse", text=text)
    if not dataset.folds and (ids or not dataset.faults):
        try:
            split_cases(ids, validation_fraction=_SHARE_OF_PATIENTS, seed=0, patient=patients)
        except DataError as error:
            yield Finding(severity="refuse", text=str(error))


def _copies(dataset: Dataset, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Images, and labels of different images, with the same voxels."""
    read = {each.case.case_id: each for each in seen if each.facts}
    copies = copies_of(seen)
    images = {case_id: each.image_sha256 for case_id, each in read.items()}
    for same in same_content(images):
        patients = {read[c].case.patient or c for c in same}
        text = "their images have identical content"
        if len(patients) > 1:
            text += f", under {len(patients)} patients"
        if len({read[c].label_sha256 for c in same}) > 1:
            text += ", and their labels differ"
        parted = any(0 < len(set(same) & {*fold.validation}) < len(same) for fold in dataset.folds)
        remedy = "keep one of them, or name the patient that they share with data.patient"
        if parted:
            text += f", and a fold of {dataset.folds_from} trains on one and validates on the other"
        is_fixed = any(set(same) == {first, *others} for first, others in copies)
        yield Finding(
            severity="refuse" if parted else "warn",
            cases=tuple(same),
            text=f"{text}; {remedy}" + (f"; --fix keeps {same[0]}" if is_fixed else ""),
            is_fixed=is_fixed,
        )
    filled = {c: each for c, each in read.items() if any(_voxels(each).values())}
    for same in same_content({c: each.label_sha256 for c, each in filled.items()}):
        if len({images[c] for c in same}) > 1:
            text = "their labels are identical and their images are not; was one copied?"
            yield Finding(severity="warn", cases=tuple(same), text=text)


def copies_of(seen: Sequence[Seen]) -> list[tuple[str, tuple[str, ...]]]:
    """A case, and the others whose images and labels have its voxels and sizes of voxels."""
    contents = {
        each.case.case_id: f"{each.image_sha256}{each.label_sha256}{each.facts.spacing}"
        for each in seen
        if each.facts
    }
    return [(first, tuple(others)) for first, *others in same_content(contents)]


def _labels(dataset: Dataset, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Classes that are nowhere or in one case alone, empty labels, and sides that are crossed."""
    read = {each.case.case_id: _voxels(each) for each in seen if each.facts}
    empty = [case_id for case_id, voxels in read.items() if not any(voxels.values())]
    if empty and len(empty) == len(seen):
        yield Finding(severity="refuse", text=ALL_EMPTY)
        return
    if empty:
        text = "no foreground: patches are drawn from the background; is that so, or not drawn?"
        yield Finding(severity="warn", cases=tuple(empty), text=text)
    whole = len(read) == len(seen)  # what cannot be read may have the class
    for name in dataset.classes if whole else ():
        cases = [case_id for case_id, voxels in read.items() if voxels[name]]
        if not cases:
            yield Finding(severity="warn", text=in_no_label(name))
        elif len(cases) == 1 and len(read) > 1:
            text = f"class {name!r} is in this case alone: it is trained or scored, never both"
            yield Finding(severity="warn", cases=tuple(cases), text=text)
    for pair in dict.fromkeys(pair for each in seen for pair in each.crossed):
        cases = [each.case.case_id for each in seen if pair in each.crossed]
        text = (
            f"{pair[0]!r} lies on the patient's right of {pair[1]!r}: is the image mirrored, or "
            "are the labels swapped? Look at it, and correct the header or the labels"
        )
        yield Finding(severity="warn", cases=tuple(cases), text=text)


def _outside(seen: Sequence[Seen]) -> Iterator[Finding]:
    """Foreground beyond the image's content, which `data.crop=nonzero` leaves out."""
    outside = {each.case.case_id: each.outside for each in seen if each.outside}
    if outside:
        text = (
            f"{sum(outside.values())} voxels of foreground lie around the image's content, where "
            "every channel is 0: do image and label belong together? Cropping (data.crop=nonzero, "
            "which medseg plan may choose) leaves them out of training"
        )
        yield Finding(severity="warn", cases=tuple(outside), text=text)


def _voxels(seen: Seen) -> Mapping[str, int]:
    return seen.facts.voxels if seen.facts else {}


def _values(dataset: Dataset, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Whether channels of CT are in Hounsfield units."""
    for channel, name in enumerate(dataset.modalities):
        if in_hounsfield_units([name]):
            yield from _hounsfield(seen, channel)


def _hounsfield(seen: Sequence[Seen], channel: int) -> Iterator[Finding]:
    lowest = {case_id: own.lowest[channel] for case_id, own in _facts(seen).items()}
    highest = {each.case.case_id: each.highest[channel] for each in seen if each.facts}
    narrow = [c for c in lowest if 0 < highest[c] - lowest[c] < _LEAST_RANGE]
    if narrow:
        text = (
            f"intensities of CT from {min(lowest[c] for c in narrow):g} to "
            f"{max(highest[c] for c in narrow):g}: rescaled, and no HU; export them again, or do "
            "not call the channel CT"
        )
        yield Finding(severity="warn", cases=tuple(narrow), text=text)
    others = {c: value for c, value in lowest.items() if c not in narrow}
    if text := without_air(others):
        yield Finding(severity="warn", text=text)


def _grids(dataset: Dataset, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Voxels of very different sizes, and cases whose lengths seem to be in another unit."""
    facts = _facts(seen)
    if not facts:
        return
    axes = BODY_AXES[: dataset.spatial_dims]
    for text in uneven_spacings({c: own.spacing for c, own in facts.items()}, axes):
        yield Finding(severity="warn", text=text)
    extents = {
        c: max(n * mm for n, mm in zip(own.size, own.spacing, strict=True))
        for c, own in facts.items()
    }
    usual = median(extents.values())
    far = [
        c for c, mm in extents.items() if not 1 / _FACTOR_OF_SIZES < mm / usual < _FACTOR_OF_SIZES
    ]
    if not far and dataset.spatial_dims == 3 and usual > _LONGEST:
        text = (
            f"a median case is {usual:.3g} mm long, longer than any scanner: is the voxel size in "
            "another unit? Correct it in the headers"
        )
        yield Finding(severity="warn", text=text)
    if far:
        text = (
            f"{first_of([f'{extents[c]:.3g} mm' for c in far])} long, the median case {usual:.3g} "
            "mm: is the voxel size in another unit? Correct it in the header"
        )
        yield Finding(severity="warn", cases=tuple(far), text=text)
