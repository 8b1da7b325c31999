"""Variance components against a direct loop, and against the truth of large designs."""

import numpy as np
import pytest

from medseg.statistics import Observations, VarianceSplit, variance_split

from .simulated import Design, rows


def test_a_balanced_table_is_solved_from_its_mean_squares() -> None:
    seeds, cases = 3, 6
    y = (
        np.random.default_rng(1).normal(size=(seeds, cases))
        + np.arange(cases)
        + 3 * np.arange(seeds)[:, None]
    )
    residual = sum(
        (y[s, c] - y[s].mean() - y[:, c].mean() + y.mean()) ** 2 / ((seeds - 1) * (cases - 1))
        for s in range(seeds)
        for c in range(cases)
    )
    case = np.var(y.mean(axis=0), ddof=1) - residual / seeds
    seed = np.var(y.mean(axis=1), ddof=1) - residual / cases
    found = variance_split(
        Observations([(0, 0, s, f"{c}", y[s, c]) for s in range(seeds) for c in range(cases)])
    )
    assert (found.case, found.seed, found.residual) == pytest.approx((case, seed, residual))
    assert found.fold is None
    assert found.total == pytest.approx(case + seed + residual)
    assert found.shares()["case"] == pytest.approx(case / found.total)


@pytest.mark.parametrize("shared", [False, True])
def test_large_designs_find_the_truth(shared: bool) -> None:
    design = Design(
        arms=60,
        folds=5,
        seeds=3,
        cases=60,
        case=0.0,
        arm_case=1.0,
        run=0.5,
        noise=0.7,
        shared=shared,
    )
    generator = np.random.default_rng(2)
    lift = generator.normal(scale=0.8, size=(60, 5))
    found = variance_split(
        Observations([(a, f, s, c, v + lift[a, f]) for a, f, s, c, v in rows(design, generator)])
    )
    assert found.case == pytest.approx(1.0, rel=0.15)
    assert found.seed == pytest.approx(0.25, rel=0.15)
    assert found.residual == pytest.approx(0.49, rel=0.05)
    assert found.fold == pytest.approx(0.64, rel=0.25)


def test_one_seed_leaves_trainings_and_residual_unknown() -> None:
    found = variance_split(Observations(rows(Design(seeds=1), np.random.default_rng(0))))
    assert (found.seed, found.residual, found.fold) == (None, None, None)
    assert set(found.shares()) == {"case"}


def test_no_component_is_negative() -> None:
    seesaw = [(0, 0, s, f"{c}", float((s + c) % 2)) for s in (0, 1) for c in (0, 1)]
    found = variance_split(Observations(seesaw))
    assert (found.case, found.seed, found.residual) == (0.0, 0.0, 1.0)


def test_nothing_and_constant_values() -> None:
    unknown = VarianceSplit(case=None, fold=None, seed=None, residual=None)
    assert variance_split(Observations([])) == unknown
    constant = variance_split(Observations([(0, 0, s, c, 1.0) for s in (0, 1) for c in "ab"]))
    assert (constant.total, constant.shares()) == (0.0, {})
