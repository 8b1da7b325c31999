"""Equal arms are called different, and different ones equal, in at most 7 % of ablations.

Whatever the spread of an arm's trainings: docs/error_rates.py judges thousands of ablations at
once, and its verdicts are held to those of `compare`. Folds have only `compare`.
"""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from scipy import stats

from medseg.statistics import Observations, compare, effects
from medseg.statistics.contrast import differences

from .simulated import SCRIPT, Design, rows

EIGHT = SCRIPT.EIGHT
CALM = replace(EIGHT, arm_case=0.0, noise=0.0005)  # nothing but trainings varies
WILD = {
    "alike": (),
    "arm": ((1, 8.0),),
    "reference": ((0, 8.0),),
    "both": ((0, 4.0), (1, 4.0)),
    "half": ((0, 8.0), (2, 8.0), (4, 8.0), (6, 8.0)),
}


@pytest.fixture(autouse=True)
def no_intervals_over_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap and the rank test decide nothing and take most of the time."""
    modules = [import_module(f"medseg.statistics.{name}") for name in ("contrast", "compare")]
    monkeypatch.setattr(modules[0], "bca", lambda *_: None)
    monkeypatch.setattr(modules[1], "wilcoxon", lambda _: None)


def allowed(count: int, level: float = 0.05) -> float:
    return level + 2 * np.sqrt(level * (1 - level) / count)


@pytest.mark.parametrize("trim", [0.0, 0.2])
@pytest.mark.parametrize(
    "design",
    [
        replace(EIGHT, wild=((1, 8.0), (5, 3.0)), shift=0.02),
        replace(EIGHT, arms=3, seeds=3, cases=9, failed=((2, 0.3),)),
        replace(EIGHT, arms=2, seeds=5, cases=6, outlier=0.2),
        replace(CALM, seeds=4, wild=((0, 4.0),)),
    ],
    ids=["8x2", "3x3", "2x5", "8x4"],
)
def test_many_at_once_are_judged_like_one(design: object, trim: float) -> None:
    values = design.draw(np.random.default_rng(3), 5)[:, :, 0]
    estimate, half = SCRIPT.judged(values, trim)
    for place, table in enumerate(values):
        found = compare(
            Observations((*at[:1], 0, at[1], f"{at[2]:02}", v) for at, v in np.ndenumerate(table)),
            0,
            margin=None,
        )
        ends = [(c.trimmed, c.trimmed_high) if trim else (c.estimate, c.high) for c in found]
        expected = estimate[place], (estimate + half(0.025))[place]
        np.testing.assert_allclose(np.array(ends).T, expected, rtol=1e-9)


@pytest.mark.parametrize("wild", list(WILD))
@pytest.mark.parametrize("base", [EIGHT, CALM], ids=["cases-vary", "only-trainings-vary"])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_arms_are_seldom_called_different(wild: str, base: object, seeds: int) -> None:
    design = replace(base, seeds=seeds, wild=WILD[wild])
    assert SCRIPT.rate(design, 2000, SCRIPT.any_different) <= allowed(2000, 0.07)


@pytest.mark.parametrize("wild", list(WILD))
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_arms_that_differ_by_the_margin_are_seldom_called_equal(wild: str, seeds: int) -> None:
    design = replace(CALM, seeds=seeds, wild=WILD[wild], shift=0.5)
    assert SCRIPT.rate(design, 2000, SCRIPT.equal_at(0.5)) <= allowed(2000, 0.07)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 16.0])
@pytest.mark.parametrize("wild", [(0,), (1,), (0, 1)], ids=["reference", "arm", "both"])
@pytest.mark.parametrize("arms", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_no_spread_of_an_arm_breaks_the_level(
    times: float, wild: tuple[int, ...], arms: int, seeds: int
) -> None:
    """Only trainings vary, which is the worst case: at most 8 %, and 7 where cases vary too."""
    scattering = tuple((arm, times) for arm in wild)
    for base, level in ((CALM, 0.08), (EIGHT, 0.07)):
        design = replace(base, arms=arms, seeds=seeds, wild=scattering)
        assert SCRIPT.rate(design, 4000, SCRIPT.any_different) <= allowed(4000, level)
        design = replace(design, shift=0.5)
        assert SCRIPT.rate(design, 4000, SCRIPT.equal_at(0.5)) <= allowed(4000, level)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(SCRIPT.KINDS))
@pytest.mark.parametrize(
    ("arms", "seeds", "cases"), [(2, 2, 20), (2, 5, 50), (4, 2, 20), (8, 3, 6)]
)
@pytest.mark.parametrize("tails", [0, 3])
def test_alike_arms_hold_the_level_in_any_design(
    kind: str, arms: int, seeds: int, cases: int, tails: int
) -> None:
    arm_case, noise = SCRIPT.KINDS[kind]
    sizes = {"arms": arms, "seeds": seeds, "cases": cases}
    for ratio in (0.15, 0.5, 2.0):
        design = Design(arm_case=arm_case, noise=noise, tails=tails, **sizes).spread(ratio)
        for trim in (0.0, 0.2):
            assert SCRIPT.rate(design, 4000, SCRIPT.any_different, trim=trim) <= allowed(4000)


@pytest.mark.parametrize("wild", list(WILD))
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_factors_without_an_effect_are_seldom_significant(wild: str, seeds: int) -> None:
    for shape in ((2, 4), (4, 4)):
        arms = shape[0] * shape[1]
        design = replace(CALM, arms=arms, seeds=seeds, cases=6, wild=WILD[wild])
        found = SCRIPT.effects_found(design, shape, 2000)
        assert max(found.values()) <= allowed(2000, 0.055), found


def test_effects_of_many_grids_are_judged_like_one() -> None:
    grid = {arm: {"first": arm // 4, "second": arm % 4} for arm in range(8)}
    design = replace(EIGHT, seeds=3, cases=5, wild=((3, 8.0),), shift=0.01)
    values = design.draw(np.random.default_rng(3), 4)
    for some in values:
        found = effects(Observations([(*at, v) for at, v in np.ndenumerate(some)]), grid)
        for effect, projection in zip(found, SCRIPT.grid(2, 4).values(), strict=True):
            for alpha, expected in (
                (effect.p_value * 1.001, True),
                (effect.p_value * 0.999, False),
            ):
                assert SCRIPT.significant(some[None, :, 0], projection, alpha=alpha)[0] == expected


def test_one_bad_training_of_a_third_arm_hides_no_difference() -> None:
    for seeds, least in ((3, 0.7), (5, 0.97)):
        design = replace(EIGHT, seeds=seeds, shift=0.03)
        for bad in ({"wild": ((7, 8.0),)}, {"failed": ((7, 0.3),)}):
            assert SCRIPT.rate(replace(design, **bad), 1000, SCRIPT.first_different) >= least


def test_one_outlying_case_hides_no_difference_from_the_trimmed_companion() -> None:
    design = replace(EIGHT, arms=4, seeds=5, shift=0.03, outlier=-0.3)
    assert SCRIPT.rate(design, 1000, SCRIPT.first_different) <= 0.2
    assert SCRIPT.rate(design, 1000, SCRIPT.first_different, trim=0.2) >= 0.95
    nothing = replace(design, shift=0.0)
    assert SCRIPT.rate(nothing, 2000, SCRIPT.any_different, trim=0.2) <= allowed(2000)


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("seeds", "ratio"), [(1, 0.0), (1, 0.5), (1, 2.0), (2, 0.5)])
@pytest.mark.parametrize("arms", [2, 4])
def test_equal_arms_are_seldom_called_different_over_folds(
    shared: bool, seeds: int, ratio: float, arms: int
) -> None:
    base = Design(arms=arms, folds=5, seeds=seeds, cases=30, arm_case=0.7, noise=0.7, shared=shared)
    design = replace(base, run=ratio * base.difference)
    generator, found = np.random.default_rng(0), []
    for _ in range(1000):
        verdicts = compare(Observations(rows(design, generator)), 0, margin=None)
        found.append(any(c.verdict in ("better", "worse") for c in verdicts))
    assert np.mean(found) <= allowed(1000)


@pytest.mark.slow
@pytest.mark.parametrize("wild", [0, 1, 3], ids=["reference", "arm", "third"])
def test_an_arm_that_scatters_over_folds_breaks_no_level(wild: int) -> None:
    """One seed, five folds, four arms, of which one differs six times as much between folds."""
    design = Design(arms=4, folds=5, seeds=1, cases=30, run=0.1, arm_case=0.3, noise=0.3)
    generator, found = np.random.default_rng(0), []
    for _ in range(1000):
        extra = generator.normal(scale=0.6, size=5)
        drawn = [
            (arm, fold, seed, case, value + extra[fold] * (arm == wild))
            for arm, fold, seed, case, value in rows(design, generator)
        ]
        verdicts = compare(Observations(drawn), 0, margin=None)
        found.append(any(c.verdict in ("better", "worse") for c in verdicts))
    assert np.mean(found) <= allowed(1000, 0.07)


def test_a_test_over_cases_alone_takes_a_lucky_seed_for_a_better_arm() -> None:
    """The reason for the model: one seed, trainings that differ half as much as cases do."""
    base = Design(seeds=1, noise=1.0)
    design = replace(base, run=0.5 * base.difference)
    generator = np.random.default_rng(0)
    found = []
    for _ in range(100):
        observations = Observations(rows(design, generator))
        pair = differences(observations, {1: 1.0, 0: -1.0})
        found.append(stats.wilcoxon(pair.values).pvalue <= 0.05)
        assert pair.uncertainty is None
    assert np.mean(found) > 0.2


def test_every_table_has_its_rows() -> None:
    assert [len(list(table(1))) - 1 for table in SCRIPT.TABLES] == [12, 12, 12, 7, 5, 4]
