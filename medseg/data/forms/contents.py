"""What the files of a dataset hold, as far as their headers tell."""

from collections.abc import Sequence

from medseg.data.dataset import Case
from medseg.data.forms.form import shown

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")


def dimensions_of(cases: Sequence[Case], faults: list[str]) -> int:
    """2 if the images are pictures, 3 if they are volumes; both is a fault."""
    pictures = [case.case_id for case in cases if case.image.name.lower().endswith(_PICTURES)]
    if 0 < len(pictures) < len(cases):
        faults.append(f"pictures among volumes: {shown(pictures)}; make two datasets of them")
    return 2 if pictures else 3
