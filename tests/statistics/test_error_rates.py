"""Equal arms are called different, and different ones equal, in at most 5 % of ablations.

The arms of one ablation are drawn from the model with one mean. `make test-all` runs 2000 ablations
for each of many designs, the default suite 1000 for a few.
"""

import runpy
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from medseg.statistics import Observations, compare
from medseg.statistics.contrast import differences

from .simulated import Design, rows

RATIOS = [0.15, 0.5, 2.0]
SAME = Design(noise=1.0)
ALIKE = Design(noise=0.7, arm_case=0.7)
SMOOTH = Design(arm_case=1.0)
SCRIPT = runpy.run_path(str(Path(__file__).parents[2] / "docs/error_rates.py"))


@pytest.fixture(autouse=True)
def no_intervals_over_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap and the rank test decide nothing and take most of the time."""
    modules = [import_module(f"medseg.statistics.{name}") for name in ("contrast", "compare")]
    monkeypatch.setattr(modules[0], "bca", lambda *_: None)
    monkeypatch.setattr(modules[1], "wilcoxon", lambda _: (None, 1.0))


def allowed(count: int, rate: float = 0.05) -> float:
    return rate + 2 * np.sqrt(rate * (1 - rate) / count)


def with_run(design: Design, ratio: float) -> Design:
    """Trainings that differ by `ratio` standard deviations of case differences."""
    return replace(design, run=ratio * design.difference_sd)


def verdicts(
    design: Design, count: int, shift: float = 0.0, margin: float | None = None, seed: int = 0
) -> list[set[str]]:
    """The verdicts of each of `count` ablations; the reference is shifted down by `shift`."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        observations = Observations(rows(design, generator, [-shift]))
        found.append({c.verdict for c in compare(observations, 0, margin=margin)})
    return found


def false_alarms(design: Design, count: int, seed: int = 0) -> float:
    return float(
        np.mean([bool(v & {"better", "worse"}) for v in verdicts(design, count, seed=seed)])
    )


@pytest.mark.parametrize(
    "design",
    [
        with_run(replace(SAME, seeds=3), 0.0),
        with_run(ALIKE, 0.5),
        with_run(replace(SMOOTH, cases=40), 2.0),
        with_run(replace(ALIKE, arms=4), 0.5),
    ],
    ids=["no-run-2x3", "half-2x2", "double-2x2", "half-4x2"],
)
def test_equal_arms_are_seldom_called_different(design: Design) -> None:
    assert false_alarms(design, 400) <= allowed(400)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SAME, ALIKE, SMOOTH], ids=["same", "alike", "smooth"])
@pytest.mark.parametrize(("arms", "seeds", "cases"), [(2, 2, 20), (2, 5, 50), (4, 2, 20)])
@pytest.mark.parametrize("ratio", RATIOS)
def test_equal_arms_are_seldom_called_different_in_any_design(
    kind: Design, arms: int, seeds: int, cases: int, ratio: float
) -> None:
    design = with_run(replace(kind, arms=arms, seeds=seeds, cases=cases), ratio)
    assert false_alarms(design, 2000) <= allowed(2000)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("seeds", "ratio"), [(1, 0.0), (1, 0.5), (1, 2.0), (2, 0.5)])
def test_equal_arms_are_seldom_called_different_over_folds(
    shared: bool, seeds: int, ratio: float
) -> None:
    design = with_run(replace(ALIKE, folds=5, seeds=seeds, cases=30, shared=shared), ratio)
    assert false_alarms(design, 2000) <= allowed(2000)


@pytest.mark.parametrize("seeds", [2, 3])
def test_arms_that_differ_by_the_margin_are_seldom_called_equal(seeds: int) -> None:
    design = with_run(replace(ALIKE, seeds=seeds), 0.5)
    found = verdicts(design, 400, shift=10.0, margin=10.0, seed=1)
    assert np.mean([v == {"equal"} for v in found]) <= allowed(400)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [SAME, ALIKE, SMOOTH], ids=["same", "alike", "smooth"])
@pytest.mark.parametrize("seeds", [2, 5])
@pytest.mark.parametrize("ratio", RATIOS)
def test_arms_that_differ_by_the_margin_are_seldom_called_equal_in_any_design(
    kind: Design, seeds: int, ratio: float
) -> None:
    found = verdicts(with_run(replace(kind, seeds=seeds), ratio), 2000, shift=10.0, margin=10.0)
    assert np.mean([v == {"equal"} for v in found]) <= allowed(2000)


def test_a_test_over_cases_alone_takes_a_lucky_seed_for_a_better_arm() -> None:
    """The reason for the model: one seed, trainings that differ half as much as cases do."""
    design = with_run(Design(seeds=1, noise=1.0), 0.5)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(200):
        observations = Observations(rows(design, generator))
        pair = differences(observations, {1: 1.0, 0: -1.0})
        found.append(stats.wilcoxon(pair.values).pvalue <= 0.05)
        assert pair.uncertainty is None
    assert np.mean(found) > 0.2


@pytest.mark.parametrize("ratio", [0.0, 0.3])
def test_a_planted_defect_is_found(ratio: float) -> None:
    """Six standard errors: the reference is better in nearly all ablations."""
    design = with_run(replace(ALIKE, seeds=3), ratio)
    variance = design.difference_sd**2 / design.cases + 2 * design.run**2 / design.seeds
    found = verdicts(design, 200, shift=-6 * np.sqrt(variance))
    assert np.mean([v == {"worse"} for v in found]) >= 0.97


def test_arms_within_the_margin_are_called_equal() -> None:
    design = with_run(replace(ALIKE, seeds=3), 0.15)
    found = verdicts(design, 100, margin=1.5)
    assert np.mean([v == {"equal"} for v in found]) >= 0.9


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
