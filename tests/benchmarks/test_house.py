"""The table of sizes: what it counts, and that a number's way can be followed."""

from pathlib import Path

import pytest

from benchmarks import house

ROOT = Path(__file__).parents[2]


def test_sizes_are_counted(tmp_path: Path) -> None:
    source = "import dataclasses\n\n@dataclasses.dataclass(frozen=True)\nclass A:\n    a: int\n"
    (tmp_path / "a.py").write_text(source + "class B: ...\n", encoding="utf-8")
    tests = "def test_a(): ...\ndef helper(): ...\nclass T:\n    def test_b(self): ...\n"
    (tmp_path / "t.py").write_text(tests, encoding="utf-8")
    assert house.count_lines(tmp_path / "a.py") == 6
    assert house.count_dataclasses(tmp_path / "a.py") == 1
    assert house.count_tests(tmp_path / "t.py") == 2


@pytest.mark.parametrize("choices", house.NEWCOMER)
def test_what_a_newcomer_reads_is_there(choices: tuple[str, ...]) -> None:
    assert house.first_file(ROOT / "medseg", choices)


def test_a_dice_value_is_followed_from_the_record_to_its_cell() -> None:
    stops = house.trace_in_process(ROOT)
    assert stops["files"][0].startswith("record/")
    assert 1 < len(stops["files"]) <= len(stops["functions"])
