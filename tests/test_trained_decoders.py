"""docs/trained_decoders.py: the table is that of the files."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from medseg.record import (
    ArtifactRecord,
    CaseRecord,
    CaseRow,
    LayerRow,
    PhaseLocked,
    RunRecord,
)

SCRIPT = Path(__file__).parents[1] / "docs" / "trained_decoders.py"


def write_run(folder: Path, *, dice: float, gain: float) -> None:
    cases = [CaseRecord(case="a", metrics={"organ": {"dice": dice}})]
    RunRecord(name="x", status="completed", started="2026-01-01", cases=cases).write(folder)
    record = ArtifactRecord(
        period=[2, 2],
        layers=[
            LayerRow(layer="0", operator="x", values={"dc_gain": 0.5, "dc_gain_mean": 0.0}),
            LayerRow(layer="1", operator="x", values={"dc_gain": 0.7, "dc_gain_mean": 0.1}),
        ],
        values={"constant_response": 2e-8},
        cases=[
            CaseRow(
                case=f"{index}",
                values={
                    "prediction": {"gain": gain, "additive": None},
                    "cycle_spin": {"cycle_spin": 0.25, "cycle_spin_locked": 0.0},
                },
            )
            for index in range(9)
        ],
        prediction=PhaseLocked(cases=9, p_value=gain, coherence=0.5),
    )
    (folder / "artifacts").mkdir()
    content = json.dumps(dataclasses.asdict(record))
    (folder / "artifacts" / "artifacts.json").write_text(content)


@pytest.fixture
def table(tmp_path) -> list[str]:
    """The rows for one upsampling with two seeds."""
    for seed, (dice, gain) in enumerate([(0.8, 0.02), (0.9, 0.04)]):
        write_run(tmp_path / "nearest" / str(seed) / "data" / "run", dice=dice, gain=gain)
    command = [sys.executable, SCRIPT, tmp_path]
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout.splitlines()


def test_a_row_has_ranges_over_seeds_and_intervals_over_seeds_and_cases(table) -> None:
    heads, _, row = ([c.strip() for c in line.split("|")[1:-1]] for line in table)
    found = dict(zip(heads, row, strict=True))
    assert found["upsampling"] == "nearest"
    assert found["seeds"] == "2"
    assert found["Dice"] == "0.800 … 0.900"
    assert (found["A (I)"], found["A (μμᵀ)"]) == ("0.7", "0.1")
    assert found["constant"] == "0"
    # one draw of four has either seed twice
    assert found["κ gain"] == "0.03 (0.02 … 0.04)"
    assert found["κ additive"] == "–"
    assert found["PLF"] == "0.25 (0.25 … 0.25)"
    assert found["p (largest)"] == "0.04"
