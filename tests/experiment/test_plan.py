"""A grid → the runs that carry it out."""

from typing import Any

import pytest

from medseg.errors import ConfigError
from medseg.experiment.grid import Factor, Grid, Level, plan_ablation
from medseg.record import AblationPlan


def compose(overrides):
    """Overrides `key=value` as they are, in place of a composed configuration."""

    def resolve(changes):
        given = dict(override.split("=") for override in overrides)
        return given | {key: str(value) for key, value in changes.items()}

    return resolve


def planned(
    *levels: tuple[str, tuple[str, ...]], folds: int | None = None, **about: Any
) -> AblationPlan:
    factor = Factor("lr", tuple(Level(*level) for level in levels))
    grid = Grid(factors=(factor,), seeds=(0, 1), folds=folds, reference={})
    return plan_ablation(grid, compose, fixed=["a=1"], name="test", **about)


TWO = (("slow", ("lr=1",)), ("fast", ("lr=9",)))


def test_every_run_has_its_overrides_and_a_folder_of_its_own() -> None:
    plan = planned(*TWO, folds=2, command=["medseg"])
    assert len(plan.cells) == 8
    assert len({cell.folder for cell in plan.cells}) == 8
    last = plan.cells[-1]
    assert last.overrides == ["a=1", "lr=9", "seed=1", "data.folds=2", "data.fold=1"]
    assert (last.levels, last.seed, last.fold) == ({"lr": "fast"}, 1, 1)
    assert plan.cell(last.folder) == last
    assert plan.cell("typo") is None
    assert plan.reference == {"lr": "slow"}


def test_another_name_of_a_level_is_the_same_run() -> None:
    one, other = (planned(level) for level in (TWO[0], ("S", TWO[0][1])))
    assert [cell.digest for cell in one.cells] == [cell.digest for cell in other.cells]


def test_a_plan_is_read_as_it_was_written(tmp_path) -> None:
    plan = planned(*TWO, margin=0.02, command=["medseg", "ablate"])
    assert AblationPlan.read(plan.write(tmp_path)) == plan


def test_two_levels_that_do_the_same_are_refused() -> None:
    with pytest.raises(ConfigError, match="are the same configuration"):
        planned(TWO[0], ("again", TWO[0][1]))
