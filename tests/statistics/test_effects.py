"""Effects of factors against closed forms and statsmodels; incomplete grids say what they lack."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from medseg.statistics import Observations, contrast, effects
from medseg.statistics.observations import Row

GRID = {
    arm: {"up": up, "conv": conv, "norm": "batch"}
    for arm, (up, conv) in enumerate(itertools.product("abc", "xy"))
}
CASES, SEEDS = 8, 3


def draw(grid: dict[int, dict[str, str]] = GRID, seeds: int = SEEDS, folds: int = 1) -> list[Row]:
    generator = np.random.default_rng(3)  # no arm scatters more than the others
    case = generator.normal(size=CASES)
    return [
        (arm, fold, seed, f"{c}", float(case[c] + run + generator.normal(scale=0.1)))
        for arm in grid
        for fold in range(folds)
        for seed in range(seeds)
        for run in [generator.normal(scale=0.2) + 0.5 * fold + (grid[arm]["up"] == "c")]
        for c in range(CASES)
    ]


def run_means(rows: list[Row]) -> np.ndarray:
    return np.array([v for *_, v in rows]).reshape(3, 2, SEEDS, CASES).mean(axis=3)


def test_a_balanced_grid_is_a_two_way_analysis_of_variance() -> None:
    rows = draw()
    m = run_means(rows)
    grand, up, conv, cell = m.mean(), m.mean(axis=(1, 2)), m.mean(axis=(0, 2)), m.mean(axis=2)
    squares = {
        "up": 2 * SEEDS * sum((u - grand) ** 2 for u in up),
        "conv": 3 * SEEDS * sum((c - grand) ** 2 for c in conv),
        "up × conv": SEEDS
        * sum((cell[i, j] - up[i] - conv[j] + grand) ** 2 for i in range(3) for j in range(2)),
    }
    error = sum(((m[i, j] - cell[i, j]) ** 2).sum() for i in range(3) for j in range(2)) / 12
    found = {effect.factor: effect for effect in effects(Observations(rows), GRID)}
    assert list(found) == ["up", "conv", "up × conv"]
    for name, df in (("up", 2), ("conv", 1), ("up × conv", 2)):
        expected = squares[name] / df / error
        assert found[name].df == df
        assert found[name].f == pytest.approx(expected)
        assert found[name].p_value == pytest.approx(stats.f.sf(expected, df, 12))
        assert found[name].share == pytest.approx(squares[name] / sum(squares.values()))
        assert found[name].reason == ""


def test_an_unbalanced_grid_with_folds_is_that_of_statsmodels() -> None:
    rows = [row for row in draw(folds=2) if row[:3] not in {(0, 0, 1), (3, 1, 0), (3, 0, 2)}]
    means = pd.DataFrame(
        [
            (
                float(np.mean([v for *_, v in own])),
                str(key[1]),
                GRID[key[0]]["up"],
                GRID[key[0]]["conv"],
            )
            for key, own in itertools.groupby(rows, key=lambda row: row[:3])
        ],
        columns=["y", "fold", "up", "conv"],
    )
    model = ols("y ~ C(fold, Sum) + C(up, Sum) * C(conv, Sum)", means).fit()
    expected = anova_lm(model, typ=2).iloc[1:4]
    found = effects(Observations(rows), GRID)
    assert [e.df for e in found] == list(expected["df"])
    assert [e.f for e in found] == pytest.approx(list(expected["F"]))
    assert [e.p_value for e in found] == pytest.approx(list(expected["PR(>F)"]))


def test_levels_differ_by_the_contrast_over_the_other_factor() -> None:
    rows = draw()
    observations = Observations(rows)
    up = effects(observations, GRID, first={"up": "b"})[0]
    assert [level.level for level in up.levels] == ["b", "a", "c"]
    assert up.levels[0].contrast is None
    expected = contrast(observations, {4: 0.5, 5: 0.5, 2: -0.5, 3: -0.5})
    found = up.levels[2].contrast
    assert (found.estimate, found.low) == pytest.approx((expected.estimate, expected.low))
    assert up.levels[2].mean == pytest.approx(run_means(rows)[2].mean())


def test_levels_are_compared_where_both_have_the_other_levels() -> None:
    """Arm 5, (c, y), is missing: c is compared with a on x alone."""
    grid = {arm: own for arm, own in GRID.items() if arm != 5}
    observations = Observations(draw(grid))
    up, conv, pair = effects(observations, grid)
    assert up.levels[2].contrast == contrast(observations, {4: 1.0, 0: -1.0})
    assert up.f is not None
    assert conv.f is not None
    assert (pair.f, pair.df, pair.reason) == (None, 0, "no arm has some combinations of its levels")


def test_folds_are_blocks() -> None:
    """Folds that differ by far more than arms cost no power."""
    up, conv, _ = effects(Observations(draw(folds=2)), GRID)
    assert up.p_value is not None
    assert up.p_value < 1e-6
    assert conv.p_value is not None
    assert conv.p_value > 0.01


def test_an_arm_that_scatters_is_no_effect() -> None:
    """Arm 5 differs from training to training by forty times as much as the others."""
    rows = draw()
    wild = [(a, f, s, c, v + 9.0 * (a == 5) * (s != 0)) for a, f, s, c, v in rows]
    found = {effect.factor: effect for effect in effects(Observations(wild), GRID)}
    assert min(effect.p_value for effect in found.values()) > 0.1


@pytest.mark.filterwarnings("error")
def test_a_large_effect_is_found_beside_an_arm_that_scatters() -> None:
    """Even where the trainings of the others do not differ at all."""
    rows = [
        (a, 0, s, f"{c}", 1e4 * (GRID[a]["up"] == "c") + 0.01 * s * (a == 5))
        for a in GRID
        for s in range(5)
        for c in range(CASES)
    ]
    up, conv, _ = effects(Observations(rows), GRID)
    assert up.p_value < 1e-6
    assert 0.01 < conv.p_value <= 1


def test_factors_that_change_together_cannot_be_told_apart() -> None:
    grid = {arm: {**own, "twin": own["conv"].upper()} for arm, own in GRID.items()}
    found = {effect.factor: effect for effect in effects(Observations(draw(grid)), grid)}
    assert found["up"].f is not None
    for name in ("conv", "twin"):
        assert found[name].f is None
        assert "together" in found[name].reason
        assert found[name].levels[1].contrast is None
    assert found["up × conv"].reason.startswith("one of its factors")


def test_half_a_grid_of_three_factors_mixes_interactions_with_effects() -> None:
    grid = {
        arm: {"p": p, "q": q, "r": "01"[p != q]}
        for arm, (p, q) in enumerate(itertools.product("01", "01"))
    }
    rows = [(*row[:4], row[4] + row[0]) for row in draw({a: {"up": ""} for a in grid})]
    found = effects(Observations(rows), grid)
    assert [effect.f is not None for effect in found] == [True] * 3 + [False] * 3


def test_one_seed_leaves_no_error() -> None:
    found = effects(Observations(draw(seeds=1)), GRID)
    assert {(e.f, e.reason.startswith("no run is left")) for e in found} == {(None, True)}
    assert sum(e.share or 0.0 for e in found) == pytest.approx(1)


def test_a_run_without_its_hardest_case_does_not_look_better() -> None:
    rows = [(a, 0, s, f"{c}", float(c)) for a in GRID for s in range(2) for c in range(CASES)]
    found = effects(Observations(rows[1:]), GRID)
    assert {(e.f, e.share, e.reason) for e in found} == {(None, None, "trainings do not differ")}


def test_arms_without_a_value_or_an_entry_are_left_out() -> None:
    rows = [*draw(), (6, 0, 0, "0", float("nan")), (7, 0, 0, "0", 5.0)]
    grid = {**GRID, 6: {"up": "d", "conv": "x", "norm": "batch"}}
    assert effects(Observations(rows), grid)[0].levels[-1].level == "c"


def test_one_level_everywhere_has_no_effect() -> None:
    observations = Observations(draw())
    assert effects(observations, {arm: {"norm": "batch"} for arm in GRID}) == []
    assert effects(observations, {}) == []
    assert effects(Observations([]), GRID) == []
