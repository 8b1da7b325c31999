"""Trained networks that come with medseg: a folder each, of weights, card and `about.json`."""

import json
from dataclasses import dataclass
from pathlib import Path

from medseg.record import from_plain

_HERE = Path(__file__).parent
_ABOUT = "about.json"


@dataclass(frozen=True, kw_only=True)
class About:
    """What one must know before using a network that came along.

    Args:
        expects: The images that it segments.
        dice: Class → mean Dice of cases that it was not trained on.
        measured: On what, and the command.
        licence: Of the data, and so of the weights.
        citation: Of the data.
    """

    expects: str
    dice: dict[str, float]
    measured: str
    licence: str
    citation: str


def names() -> list[str]:
    """Names of all networks that come with medseg."""
    return sorted(path.parent.name for path in _HERE.glob(f"*/{_ABOUT}"))


def folder_of(name: str) -> Path | None:
    """The folder of the network of that name; None where there is none."""
    return _HERE / name if name in names() else None


def about(name: str) -> About:
    """What is known of the network of that name.

    Raises:
        KeyError: there is none.
    """
    folder = folder_of(name)
    if folder is None:
        raise KeyError(name)
    return from_plain(About, json.loads((folder / _ABOUT).read_text(encoding="utf-8")))
