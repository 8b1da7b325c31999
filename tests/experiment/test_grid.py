"""Factors, seeds and folds → runs."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.errors import ConfigError
from medseg.experiment.grid import Factor, Grid, Level, folder_name


def factor(name: str, *levels: str) -> Factor:
    return Factor(name, tuple(Level(level, (f"{name}={level}",)) for level in levels))


def grid(**changes) -> Grid:
    usual = {
        "factors": (factor("conv", "standard", "dilated"), factor("up", "a", "b", "c")),
        "seeds": (0, 1),
        "folds": None,
        "reference": {},
    }
    return Grid(**usual | changes)


def test_arms_are_the_product_of_the_levels() -> None:
    arms = list(grid().arms())
    assert len(arms) == 6
    assert arms[1] == ({"conv": "standard", "up": "b"}, ["conv=standard", "up=b"])


def test_a_level_may_need_several_overrides_or_none() -> None:
    unit = Factor("unit", (Level("plain", ()), Level("residual", ("e=r", "d=r"))))
    assert [overrides for _, overrides in grid(factors=(unit,)).arms()] == [[], ["e=r", "d=r"]]


def test_without_factors_there_is_one_arm() -> None:
    assert list(grid(factors=()).arms()) == [({}, [])]


def test_every_arm_gets_its_first_run_before_a_second_begins() -> None:
    assert list(grid(folds=2).repetitions()) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert list(grid().repetitions()) == [(0, None), (1, None)]


def test_the_reference_has_the_first_levels_unless_it_is_said() -> None:
    assert grid().reference_levels == {"conv": "standard", "up": "a"}
    assert grid(reference={"up": "c"}).reference_levels == {"conv": "standard", "up": "c"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": {"up": "typo"}}, "is no level of this grid"),
        ({"reference": {"typo": "a"}}, "is no level of this grid"),
        ({"seeds": ()}, "at least one"),
        ({"seeds": (1, 1)}, "each once"),
    ],
)
def test_what_means_nothing_is_refused(changes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        grid(**changes)


@pytest.mark.parametrize("levels", [(), ("a", "a")])
def test_a_factor_has_levels_each_once(levels) -> None:
    with pytest.raises(ConfigError, match="factor up has the levels"):
        factor("up", *levels)


@given(
    levels=st.dictionaries(st.text(max_size=9), st.text(max_size=60), max_size=4),
    seed=st.integers(0, 99),
    digest=st.text("0123456789abcdef", min_size=12, max_size=12),
)
def test_a_folder_s_name_needs_no_quotes_on_any_system(levels, seed, digest) -> None:
    name = folder_name(levels, seed, None, digest)
    assert set(name) <= set("-._") | {c for c in map(chr, range(128)) if c.isalnum()}
    assert name.endswith(f"seed{seed}-{digest[:8]}")
    assert not name.startswith((".", "-"))
    assert len(name.encode()) < 128 + math.ceil(math.log10(seed + 10))
