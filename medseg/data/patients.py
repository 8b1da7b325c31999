"""Whose the cases are, where no one says: eyes, sides, sessions and slices of one patient."""

import re
from collections.abc import Iterable, Mapping

_SESSION = re.compile(r"(sub-[A-Za-z0-9]+)_.*")
_SLICE = re.compile(r"(.+?)[_\-. ]?(?:slices?|sl)[_\-. ]?\d+", re.IGNORECASE)
_SIDE = re.compile(r"(.*\d)[_\-. ]?(l|r|left|right|os|od)", re.IGNORECASE)


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
        shared = _shared(found)
        if shared:
            return shared
    return {}


def _shared(patients: Mapping[str, str]) -> dict[str, str]:
    """Those of whom there are several cases."""
    count: dict[str, int] = {}
    for patient in patients.values():
        count[patient] = count.get(patient, 0) + 1
    return {case: patient for case, patient in patients.items() if count[patient] > 1}
