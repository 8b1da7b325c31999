"""`docs/error_rates.py`, which prints the documented rates, draws what the tests draw."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from .simulated import Design, rows

SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs/error_rates.py"))


@pytest.mark.parametrize(("arm_case", "noise"), SCRIPT["KINDS"].values())
def test_it_draws_the_same_ablations(arm_case: float, noise: float) -> None:
    sizes = {"arms": 3, "seeds": 2, "cases": 5, "arm_case": arm_case, "noise": noise, "run": 0.3}
    drawn = SCRIPT["Design"](**sizes).draw(np.random.default_rng(7), 0.5)
    wanted = rows(Design(**sizes), np.random.default_rng(7), [0.0, -0.5])
    for arm in range(3):
        found: dict[str, list[float]] = {}
        for number, _, _, case, value in wanted:
            if number == arm:
                found.setdefault(case, []).append(value)
        means = {case: float(np.mean(values)) for case, values in found.items()}
        assert drawn.by_case(arm) == pytest.approx(means)


def test_a_large_defect_is_found_and_none_is_not() -> None:
    design = SCRIPT["Design"](arms=2, seeds=3, cases=20, arm_case=0.7, noise=0.7, run=0.2)
    assert SCRIPT["power"](design, 12, 10) == 1.0
    assert SCRIPT["power"](design, 0, 10) <= 0.3


def test_every_design_has_a_row() -> None:
    lines = list(SCRIPT["rows"](1, 1))
    assert len(lines) == 2 + 9 + 1 + 2 + 5
