"""The textual header of NRRD and MetaImage, refused where it is not as its format says.

MetaImage's reader crashes the whole process on some malformed headers (`NDims = 67` is enough),
so nothing reaches it that was not checked here.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from medseg.volumes.container import open_content
from medseg.volumes.faults import TRANSFER_AGAIN, refusal

_T = TypeVar("_T")

_HEADER_LIMIT_BYTES = 1 << 20
_LINE_LIMIT = 4000
_REPAIR = "repair the header, or convert the volume again from its source"
_RESAVE = "save it again as one file with raw or gzip encoding, or as .nii.gz"


class TextHeader:
    """The lines of text before the voxels; field names lose case and blanks.

    Attributes:
        size: bytes of the file up to the voxels.
        fields: values by name.

    Args:
        path: of the file.
        end: pattern that ends with the header.
        line: pattern of a line, with name and value as groups.
        ignored: pattern of the lines that hold no field.

    Raises:
        DataError: a line fits neither pattern, is overlong, or repeats a field.
    """

    def __init__(self, path: Path, *, end: bytes, line: str, ignored: str):
        with open_content(path) as content:
            front = content.read(_HEADER_LIMIT_BYTES)
        found = re.search(end, front)
        if found is None:
            raise refusal(path, "its header has no end", TRANSFER_AGAIN)
        self._path = path
        self.size = found.end()
        self.fields: dict[str, str] = {}
        for entry in front[: self.size].decode("utf-8", errors="replace").split("\n"):
            if not re.fullmatch(ignored, entry.strip()):
                self._add(entry.strip(), line)

    def product(self, field: str, default: str = "") -> int:
        """The product of a field's whole numbers."""
        return math.prod(self.integers(field, default))

    def integers(self, field: str, default: str = "") -> list[int]:
        """A field's whole numbers, each of which must be positive."""
        found = self.fields.get(field, default)
        if not re.fullmatch(r"[0-9]+(\s+[0-9]+)*", found) or 0 in map(int, found.split()):
            raise refusal(self._path, f"{field}={found!r} must be positive integers", _REPAIR)
        return [int(word) for word in found.split()]

    def choice(self, field: str, choices: Mapping[str, _T]) -> _T:
        """What `choices` holds for a field's value."""
        found = self.fields.get(field, "")
        if found not in choices:
            raise refusal(self._path, f"{field}={found!r} cannot be verified", _RESAVE)
        return choices[found]

    def require_numbers(self, count: int, *fields: str) -> None:
        """Refuses any of `fields` that is there without being `count` numbers."""
        for field in self.fields.keys() & set(fields):
            words = self.fields[field].split()
            if len(words) != count or not all(map(_is_number, words)):
                fault = f"{field}={self.fields[field]!r} must be {count} numbers"
                raise refusal(self._path, fault, _REPAIR)

    def _add(self, entry: str, line: str) -> None:
        matched = re.fullmatch(line, entry)
        if matched is None or len(entry) > _LINE_LIMIT:
            raise refusal(self._path, f"its header line {entry[:80]!r} has no meaning", _REPAIR)
        name = matched[1].replace(" ", "").lower()
        if name in self.fields:
            raise refusal(self._path, f"its header states {name!r} twice", _REPAIR)
        self.fields[name] = matched[2].strip()


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
