"""`docs/ablation_costs.py`: what an ablation costs beyond training."""

import runpy
from pathlib import Path

import pytest

from medseg.record import RunRecord

SCRIPT = Path(__file__).parents[1] / "docs/ablation_costs.py"


def test_a_row_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for second, name in ((0, "a"), (20, "b")):
        RunRecord(
            name="grid",
            status="completed",
            started=f"2026-01-01T00:00:{second:02d}+00:00",
            finished=f"2026-01-01T00:00:{second + 30:02d}+00:00",
            seconds={"train": 20.0, "validation": 8.0, "total": 30.0},
        ).write(tmp_path / "grid" / name)
    RunRecord(name="grid", status="failed", started="").write(tmp_path / "grid/c")
    (tmp_path / "empty").mkdir()
    main = runpy.run_path(str(SCRIPT))["main"]
    main([str(tmp_path / "grid"), str(tmp_path / "empty")])
    *_, full, empty = capsys.readouterr().out.splitlines()
    # two runs of 30 s within 50 s are 1.2 at once on average
    assert full == "| grid | 2 | 20.0 | 8.0 | 2.0 | 50 | 1.20 |"
    assert empty.startswith("| empty | 0 |")
