"""What the 3-D viewer is given: small volumes as compressed NIfTI, within a number of bytes.

The viewer is NiiVue. It lies in the page as compressed data, which costs the reader nothing until
the viewer is opened; then the page decompresses it and runs it, as its content policy allows.
"""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from typing import Any

import nibabel as nib
import numpy as np

from medseg.report.cases.files import Opened
from medseg.volumes import OKABE_ITO

_LEVEL = 9


@dataclass(frozen=True, kw_only=True)
class Viewer:
    """The viewer's volumes.

    Attributes:
        data: JSON without any `<`; empty if there is no viewer.
        left_out: Cases that did not fit.
    """

    data: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def library(self) -> str:
        """NiiVue, gzip in base64."""
        return _library()

    @property
    def script(self) -> str:
        """What runs when the page is loaded, and waits until the reader asks for the viewer."""
        return _read("templates", "viewer.js").strip()

    @property
    def scripts(self) -> tuple[str, ...]:
        """Everything that may run."""
        return (self.script, niivue()) if self.data else ()

    @property
    def size(self) -> int:
        """Bytes that it adds to the page."""
        return len(f"{self.data}{self.library}{self.script}".encode()) if self.data else 0


def build_viewer(
    cases: Mapping[str, tuple[Opened, Mapping[int, str]]],
    classes: Sequence[str],
    *,
    budget_bytes: int,
) -> Viewer:
    """Takes cases in their order, each with all its arms, that fit into the bytes.

    Args:
        cases: Case → its volumes, and arm → the name that the reader chooses it by.
        classes: Their names.
        budget_bytes: What the viewer may add to the page.
    """
    found, left_out = Viewer(), []
    frame = {"classes": list(classes), "colours": OKABE_ITO}
    shown: list[dict[str, Any]] = []
    for case, (opened, names) in cases.items():
        entry = _entry(case, opened, names)
        larger = Viewer(data=_plain(frame | {"cases": [*shown, entry]}))
        if not entry["arms"] or larger.size > budget_bytes:
            left_out.append(case)
            continue
        found = larger
        shown.append(entry)
    return replace(found, left_out=tuple(left_out))


@cache
def niivue() -> str:
    """NiiVue's source, as its package has it."""
    return _read("assets", "niivue.umd.js")


@cache
def _library() -> str:
    return _packed(niivue().encode())


def _entry(case: str, opened: Opened, names: Mapping[int, str]) -> dict[str, Any]:
    predictions = opened.small.predictions
    return {
        "case": case,
        "image": _volume(opened.small.image, opened.affine),
        "label": _volume(opened.small.label, opened.affine),
        "arms": [
            {
                "number": arm,
                "label": name,
                "prediction": _volume(predictions[arm], opened.affine),
            }
            for arm, name in names.items()
            if arm in predictions
        ],
    }


def _volume(array: np.ndarray, affine: np.ndarray) -> str:
    image = nib.Nifti1Image(np.ascontiguousarray(array), affine)
    image.header["descrip"] = b"medseg report"
    return _packed(image.to_bytes())


def _packed(content: bytes) -> str:
    """Gzip in base64; equal content gives equal text."""
    return base64.b64encode(gzip.compress(content, _LEVEL, mtime=0)).decode()


def _plain(value: Any) -> str:
    """JSON that may stand in a script element, whatever the names in it hold."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _read(folder: str, name: str) -> str:
    path = resources.files("medseg.report") / folder / name
    return path.read_text(encoding="utf-8")
