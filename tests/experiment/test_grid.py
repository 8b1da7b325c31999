"""Factors, seeds and folds → the runs that carry them out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from medseg.errors import ConfigError
from medseg.experiment.grid import Grid, folder_name, plan_ablation
from medseg.record import AblationPlan

FACTORS = {
    "conv": {"standard": [], "dilated": ["conv=dilated", "rate=2"]},
    "up": {level: [f"up={level}"] for level in "abc"},
}


def grid(**changes) -> Grid:
    usual = {"factors": FACTORS, "seeds": [0, 1], "reference": {}, "fixed": ["a=1"]}
    return Grid(**usual | changes)


def compose(overrides, values):
    """Overrides `key=value` as they are, in place of a composed configuration."""
    data = {"fold": 0, "folds": None, "split_file": None, "validation_fraction": 0.2}
    usual = {"conv": "standard", "rate": 1, "seed": None, "data": data}
    given = [*overrides, *(f"{key}={value}" for key, value in values.items())]
    return OmegaConf.to_container(OmegaConf.merge(usual, OmegaConf.from_dotlist(given)))


def planned(**changes) -> AblationPlan:
    return plan_ablation(grid(**changes), compose, name="test")[0]


def test_runs_are_the_product_and_every_arm_gets_its_first_before_a_second_begins(tmp_path) -> None:
    plan = planned(folds=2)
    assert plan.factors == {"conv": ["standard", "dilated"], "up": ["a", "b", "c"]}
    assert len(plan.cells) == len({cell.folder for cell in plan.cells}) == 6 * 2 * 2
    repetitions = [(cell.seed, cell.fold) for cell in plan.cells]
    assert repetitions == [pair for pair in [(0, 0), (0, 1), (1, 0), (1, 1)] for _ in range(6)]
    assert plan.cells[1].levels == {"conv": "standard", "up": "b"}
    last = plan.cells[-1]
    assert last.overrides == [
        "a=1", "conv=dilated", "rate=2", "up=c", "seed=1", "data.folds=2", "data.fold=1",
    ]  # fmt: skip
    assert AblationPlan.read(plan.write(tmp_path)) == plan


def test_without_factors_there_is_one_arm() -> None:
    (cell,) = planned(factors={}, seeds=[7]).cells
    assert (cell.levels, cell.fold, cell.overrides) == ({}, None, ["a=1", "seed=7"])


def test_the_configuration_of_every_run_is_known_by_its_digest() -> None:
    plan, configs = plan_ablation(grid(), compose, name="test")
    for cell in plan.cells:
        assert configs[cell.digest]["up"] == cell.levels["up"]
        assert configs[cell.digest]["seed"] == cell.seed


def test_a_run_is_the_same_under_another_name_of_its_level() -> None:
    named = planned(factors={"up": {"a": ["up=a"]}})
    renamed = planned(factors={"upsampling": {"the first": ["up=a"]}})
    assert [cell.digest for cell in named.cells] == [cell.digest for cell in renamed.cells]


def test_the_reference_has_the_first_levels_unless_it_is_given() -> None:
    assert planned().reference == {"conv": "standard", "up": "a"}
    assert planned(reference={"up": "c"}).reference == {"conv": "standard", "up": "c"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reference": {"up": "typo"}}, "is no level of this grid"),
        ({"reference": {"typo": "a"}}, "is no level of this grid"),
        ({"seeds": []}, "ablation.seeds"),
        ({"seeds": [1, 1]}, "ablation.seeds"),
        ({"seeds": "none"}, "ablation.seeds"),
        ({"factors": {"up": {"one": ["a=2"], "two": ["a=2"]}}}, "are the same configuration"),
    ],
)
def test_what_means_nothing_is_refused(changes, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        planned(**changes)


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
