"""A plan says what it was given, whatever names are in it."""

import pytest
import yaml

from medseg.planning.document import text_of

NAMES = [
    "#ff0000",
    "4",
    "yes",
    "a: b",
    "Leber, rechts",
    "a\nmodel: 3",
    "\x1b[2J",
    "\x85\u202e",
    "ü",
    '"',
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_names_are_read_back_and_change_nothing_else(name: str) -> None:
    tree = {"data": {"labels": {name: 1, 4: 3}, "files": [name]}, "planned": {"dataset": name}}
    text = text_of(tree, {"model": "unet"}, {"data.files": name}, [f"of {name}", ""])
    assert text.isprintable() or all(part.isprintable() for part in text.split("\n"))
    found = yaml.safe_load(text)
    assert found.pop("defaults") == [{"override /model": "unet"}]
    assert found == tree
