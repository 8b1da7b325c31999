"""docs/trained_decoders.py: the table is that of the files."""

import dataclasses
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

from medseg.record import (
    ArtifactRecord,
    CaseRecord,
    CaseRow,
    Estimate,
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
                    "cycle_spin": {"cycle_spin": gain},
                },
            )
            for index in range(9)
        ],
        means={"gain": Estimate(mean=gain, cases=9, shared=True)},
        prediction=PhaseLocked(cases=9, p_value=gain, coherence=0.5),
    )
    (folder / "artifacts").mkdir()
    content = json.dumps(dataclasses.asdict(record))
    (folder / "artifacts" / "artifacts.json").write_text(content)


@pytest.fixture
def table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The rows for one upsampling with two seeds."""
    for seed, (dice, gain) in enumerate([(0.8, 0.02), (0.9, 0.04)]):
        write_run(tmp_path / "nearest" / str(seed) / "data" / "run", dice=dice, gain=gain)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path)])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return capsys.readouterr().out.splitlines()


def test_a_row_has_ranges_over_seeds_and_intervals_over_seeds_and_cases(table) -> None:
    heads, _, row = ([c.strip() for c in line.split("|")[1:-1]] for line in table)
    found = dict(zip(heads, row, strict=True))
    assert found["upsampling"] == "nearest"
    assert found["seeds"] == "2"
    assert found["Dice"] == "0.800 … 0.900"
    assert (found["A (I)"], found["A (μμᵀ)"]) == ("0.7", "0.1")
    assert found["constant"] == "0"
    # one draw of four has either seed twice
    assert found["PLF"] == "0.03 (0.02 … 0.04)"
    assert found["κ gain"] == "0.02 … 0.04"
    assert found["κ additive"] == "–"
    assert found["p (largest)"] == "0.04"


hierarchical_interval = runpy.run_path(str(SCRIPT))["hierarchical_interval"]


def sample(seeds: int, cases: int, of_seed: float, of_case: float, of_both: float, state: int = 0):
    random = np.random.default_rng(state)
    return (
        of_seed * random.normal(size=(seeds, 1))
        + of_case * random.normal(size=(1, cases))
        + of_both * random.normal(size=(seeds, cases))
    )


def bootstrap_variance(values: np.ndarray) -> float:
    """Of `w_sᵀ V w_c` for independent multinomial weights, exactly."""
    of_seeds, of_cases = ((np.eye(count) - 1 / count) / count**2 for count in values.shape)
    rows, columns = values.mean(axis=1), values.mean(axis=0)
    both = np.trace(of_seeds @ values @ of_cases @ values.T)
    return float(columns @ of_cases @ columns + rows @ of_seeds @ rows + both)


@pytest.mark.parametrize("parts", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 1, 2)])
def test_the_width_is_that_of_the_exact_variance(parts) -> None:
    values = sample(30, 40, *parts) + 7
    low, high = hierarchical_interval(values.tolist())
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(bootstrap_variance(values)), rel=0.05)
    assert (low + high) / 2 == pytest.approx(values.mean(), abs=(high - low) / 10)


@pytest.mark.parametrize(
    ("seeds", "of_seed", "least", "most"),
    [(3, 0.1, 0.9, 0.99), (2, 1.0, 0.5, 0.75), (5, 1.0, 0.75, 0.95)],
)
def test_its_coverage_with_few_seeds(seeds, of_seed, least, most) -> None:
    intervals = [
        hierarchical_interval(sample(seeds, 50, of_seed, 1, 0.3, state).tolist(), resamples=399)
        for state in range(300)
    ]
    assert least <= sum(low <= 0 <= high for low, high in intervals) / 300 <= most
