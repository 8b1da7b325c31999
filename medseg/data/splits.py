"""Which cases train and which validate: decided by patient, by seed, and written down."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self, TypeGuard

import numpy as np

from medseg.errors import ConfigError, DataError
from medseg.files import write_text
from medseg.formatting import first_of

_SESSION = re.compile(r"(sub-[A-Za-z0-9]+)_.*")
_SLICE = re.compile(r"(.+?)[_\-. ]?(?:slices?|sl)[_\-. ]?\d+", re.IGNORECASE)
_SIDE = re.compile(r"(.*\d)[_\-. ]?(l|r|left|right|os|od)", re.IGNORECASE)

Patients = str | Mapping[str, str] | None
"""How cases tell their patients: see `patient_of`."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """Case ids by their use, each side sorted.

    Attributes:
        train: seen by the optimiser.
        validation: never seen by it; empty where all cases train.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]

    def write(self, path: Path | str) -> None:
        """Writes a JSON object with the lists "train" and "validation"."""
        write_text(Path(path), json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """Reads what `write` wrote.

        Raises:
            DataError: no such file, or not in that form.
        """
        return cls._of(_json(path), path)

    @classmethod
    def _of(cls, content: Any, path: Path | str) -> Self:
        sides = content if isinstance(content, dict) else {}
        train, validation = sides.get("train"), sides.get("validation", sides.get("val"))
        if not (_is_names(train) and _is_names(validation)):
            raise DataError(f"split file {path} is not in the right form; {_FORM}")
        return cls(train=tuple(sorted(train)), validation=tuple(sorted(validation)))


NNUNET_FOLDS = "splits_final.json"
"""What nnU-Net calls its list of folds."""
_NNUNET_SEED = 12345

_FORM = (
    'it must hold {"train": ["case", ...], "validation": ["case", ...]}, or as nnU-Net\'s '
    f'{NNUNET_FOLDS} a list of {{"train": [...], "val": [...]}}, one per fold'
)


def read_folds(path: Path | str) -> tuple[Split, ...]:
    """Reads a file of one split, or of nnU-Net's list of folds.

    Raises:
        DataError: no such file, or not in one of these forms.
    """
    content = _json(path)
    folds = content if isinstance(content, list) and content else [content]
    return tuple(Split._of(fold, path) for fold in folds)


def folds_text(folds: Iterable[Split]) -> str:
    """Folds as nnU-Net's list of them."""
    plain = [{"train": [*fold.train], "val": [*fold.validation]} for fold in folds]
    return json.dumps(plain, indent=1) + "\n"


class FoldFault(str):
    """A fault of the folds that a dataset brings along."""


def faults_of_folds(folds: Sequence[Split], case_ids: Iterable[str], path: str) -> list[FoldFault]:
    """What is wrong with the folds that a dataset brings along, in one line each.

    Args:
        folds: as read from a file.
        case_ids: all cases of the dataset.
        path: of the file, for the messages.
    """
    known, faults = set(case_ids), []
    for number, fold in enumerate(folds):
        place = f"{path}: fold {number}"
        if unknown := sorted({*fold.train, *fold.validation} - known):
            faults.append(f"{place}: not in the dataset: {first_of(unknown)}; remove them there")
        if leaking := sorted({*fold.train} & {*fold.validation}):
            faults.append(f"{place}: trains and validates: {first_of(leaking)}; keep one")
        if not fold.train or not fold.validation:
            faults.append(f"{place}: a side is empty; name at least one case to train and one not")
    return [*map(FoldFault, faults)]


def _json(path: Path | str) -> Any:
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"split file {path} cannot be read ({error}); {_FORM}") from error


def split_cases(
    case_ids: Iterable[str],
    *,
    validation_fraction: float,
    seed: int,
    patient: Patients = None,
) -> Split:
    """Draws the validation patients by `seed`; the order of `case_ids` does not matter.

    Args:
        case_ids: all cases, each once.
        validation_fraction: part of the patients, at least 0 and below 1; above 0 at least one
            patient is left on either side, and with 0 all train.
        seed: 0 or more.
        patient: see `patient_of`.

    Raises:
        DataError: a single patient, some of whom are to be held out, or a case listed twice.
        ConfigError: a fraction or a pattern that means nothing.
    """
    if not 0 <= validation_fraction < 1:
        raise ConfigError(
            f"data.validation_fraction={validation_fraction} must be 0 or more and below 1; try 0.2"
        )
    if validation_fraction == 0:
        groups = _by_patient(case_ids, patient, least=1)
        return _held_out(groups, np.array([], int))
    groups = _by_patient(case_ids, patient, least=2)
    count = min(max(round(validation_fraction * len(groups)), 1), len(groups) - 1)
    drawn = np.random.default_rng(seed).permutation(len(groups))[:count]
    return _held_out(groups, drawn)


def draw_folds(
    case_ids: Iterable[str], *, folds: int, seed: int, patient: Patients = None
) -> tuple[Split, ...]:
    """The folds of a cross-validation, which hold out every patient once.

    Args:
        case_ids: all cases, each once; their order does not matter.
        folds: 2 or more, at most one per patient; their sizes differ by at most one patient.
        seed: 0 or more.
        patient: see `patient_of`.

    Raises:
        DataError: fewer patients than folds, or a case listed twice.
        ConfigError: numbers or a pattern that mean nothing.
    """
    _require_folds(folds)
    groups = _by_patient(case_ids, patient, least=folds)
    drawn = np.random.default_rng(seed).permutation(len(groups))
    return tuple(_held_out(groups, drawn[fold::folds]) for fold in range(folds))


def draw_nnunet_folds(
    case_ids: Iterable[str], *, folds: int = 5, patient: Patients = None
) -> tuple[Split, ...]:
    """The folds that nnU-Net draws (Isensee et al. 2021; `generate_crossval_split` of version 2).

    They are those of scikit-learn's `KFold(folds, shuffle=True, random_state=12345)` over the ids
    in the order of text. nnU-Net has five, and knows no patients.

    Args:
        case_ids: all cases, each once; their order does not matter.
        folds: 2 or more, at most one per case.
        patient: see `patient_of`.

    Raises:
        DataError: fewer cases than folds, a case listed twice, or a patient on both sides.
        ConfigError: a number or a pattern that means nothing.
    """
    _require_folds(folds)
    alone = _by_patient(case_ids, None, least=folds)
    order = np.arange(len(alone))
    np.random.RandomState(_NNUNET_SEED).shuffle(order)
    splits = tuple(_held_out(alone, part) for part in np.array_split(order, folds))
    for split in splits:
        _refuse(
            _on_both_sides(split, patient),
            "patients whose cases nnU-Net's folds part, since it knows cases alone; choose "
            "data.splits=random, or if each case is a patient's only one, data.patient='(.+)'",
        )
    return splits


def _require_folds(folds: int) -> None:
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise ConfigError(f"data.folds={folds} must be a whole number of at least 2, or null")


def _by_patient(case_ids: Iterable[str], patient: Patients, *, least: int) -> dict[str, list[str]]:
    case_ids = list(case_ids)
    _refuse(repeated(case_ids), "listed twice; give every case once")
    groups = defaultdict(list)
    for case_id in case_ids:
        groups[patient_of(case_id, patient=patient)].append(case_id)
    if len(groups) < least:
        raise DataError(
            f"{len(case_ids)} cases of {len(groups)} patients cannot be split; at least {least} "
            "patients are needed: add cases, choose fewer data.folds, or correct data.patient"
        )
    return groups


def _held_out(groups: dict[str, list[str]], places: np.ndarray) -> Split:
    patients = sorted(groups)
    held_out = {patients[place] for place in places}
    return Split(
        train=tuple(sorted(c for p in patients if p not in held_out for c in groups[p])),
        validation=tuple(sorted(c for p in held_out for c in groups[p])),
    )


def patient_of(case_id: str, *, patient: Patients) -> str:
    """The id of the patient to whom a case belongs.

    Args:
        case_id: as in the dataset.
        patient: regular expression, found anywhere in the case id, whose first group is the
            patient's id; or the patients by case id; None makes every case its own patient.

    Raises:
        ConfigError: not a regular expression with a group.
        DataError: the case does not match.
    """
    if patient is None:
        return case_id
    if not isinstance(patient, str):
        return patient[case_id]
    try:
        pattern = re.compile(patient)
    except re.error as error:
        raise ConfigError(f"data.patient={patient} is no regular expression: {error}") from error
    if pattern.groups < 1:
        raise ConfigError(f"data.patient={patient} needs a group for the patient, as in (p\\d+)_")
    found = pattern.search(case_id)
    if found is None or found[1] is None:
        raise DataError(f"case {case_id} does not match data.patient={patient}; widen the pattern")
    return found[1]


def patients_by_name(case_ids: Iterable[str]) -> dict[str, str]:
    """Case → patient, of the cases whose names tell that several are one patient's.

    `Image_01L` and `Image_01R` are two eyes of Image_01; `sub-01_ses-1` is a session of sub-01 as
    BIDS names it; `p01_slice_012` is a slice of p01. A side counts where both are there.

    >>> patients_by_name(["Image_01L", "Image_01R", "Image_02L", "case_7"])
    {'Image_01L': 'Image_01', 'Image_01R': 'Image_01'}
    """
    case_ids = list(case_ids)
    for pattern in (_SESSION, _SLICE, _SIDE):
        found = {name: hit[1] for name in case_ids if (hit := pattern.fullmatch(name))}
        if shared := {*repeated(found.values())}:
            return {name: patient for name, patient in found.items() if patient in shared}
    return {}


def check(
    split: Split,
    case_ids: Iterable[str],
    *,
    patient: Patients = None,
    holds_out: bool = True,
) -> None:
    """Refuses a split that leaks or that does not fit the dataset; it may leave cases out.

    Args:
        split: as read from a user's file.
        case_ids: all cases of the dataset.
        patient: see `patient_of`; cases of one patient must be on one side.
        holds_out: whether there must be cases that validate.

    Raises:
        DataError: names the cases and what is wrong with them.
    """
    if not split.train or (holds_out and not split.validation):
        raise DataError("a side of the split is empty; name at least one case to train and one not")
    both = [*split.train, *split.validation]
    _refuse(repeated(both), "in the split twice; a case trains or validates, once")
    _refuse(sorted(set(both) - set(case_ids)), "in the split but not in the dataset; remove them")
    _refuse(_on_both_sides(split, patient), "patients on both sides of the split; move their cases")


def _on_both_sides(split: Split, patient: Patients) -> list[str]:
    """Patients with cases that train and cases that validate."""
    train, validation = (
        {patient_of(c, patient=patient) for c in side} for side in (split.train, split.validation)
    )
    return sorted(train & validation)


def _is_names(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def repeated(items: Iterable[Any]) -> list[Any]:
    """Those that occur several times, in the order of their first time."""
    return [item for item, count in Counter(items).items() if count > 1]


def _refuse(names: list[str], why: str) -> None:
    if names:
        raise DataError(f"{first_of(names)}: {why}")
