"""Which runs are one arm, which cells are missing, which records are sound."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.record import RunRecord
from medseg.report.arms import Arm
from medseg.report.arms import arms_of as grouped
from medseg.report.labels import labelled
from medseg.report.study import collect

from .records import cell, failed, finished, plan, simple

Write = Callable[..., Path]


def arms_of(runs: list[RunRecord]) -> tuple[Arm, ...]:
    return labelled(grouped(runs))


def as_runs(*records: RunRecord) -> list[RunRecord]:
    return [replace(r, path=Path(f"{place}/record.json")) for place, r in enumerate(records)]


def test_seeds_are_one_arm() -> None:
    (arm,) = arms_of(as_runs(finished(seed=0), finished(seed=1)))
    assert [run.seed for run in arm.counted] == [0, 1]
    assert arm.label == "ablation_upsample"


def test_a_setting_that_is_no_block_makes_another_arm() -> None:
    slow = replace(finished(), config=finished().config | {"optimizer": {"lr": 0.01}})
    arms = arms_of(as_runs(finished(seed=1), slow))
    assert {arm.label for arm in arms} == {"optimizer.lr=0.01", "optimizer.lr=0.001"}


def test_runs_of_equal_digest_are_one_arm_whatever_their_names() -> None:
    again = replace(finished(seed=0), name="again", started="2026-04-01T00:00:00+00:00")
    (arm,) = arms_of(as_runs(finished(seed=0), finished(seed=1), again))
    assert [run.name for run in arm.counted] == ["again", "ablation_upsample"]
    assert [run.name for run in arm.superseded] == ["ablation_upsample"]
    other = replace(again, config=again.config | {"optimizer": {"lr": 0.01}})
    assert len(arms_of(as_runs(finished(seed=0), other))) == 2


@pytest.mark.parametrize("key", ["runs", "resume", "pictures", "name", "ablation"])
def test_where_a_run_lives_makes_no_arm(key: str) -> None:
    moved = replace(finished(seed=1), config=finished(seed=1).config | {key: "elsewhere"})
    assert len(arms_of(as_runs(finished(), moved))) == 1


def test_places_make_no_arm_but_what_is_held_out_and_other_words_do() -> None:
    def run(file: str, *held_out: str, organ: str = "a/b") -> RunRecord:
        data = {"split_file": file, "labels": {"1": organ}, "mask": file}
        own = {"config": {"data": data}, "split": {"validation": list(held_out)}}
        return replace(finished(), **own)

    here = run("/here/split.json", "a", "b")
    assert len(arms_of(as_runs(here, run("/there/split.json", "b", "a")))) == 1
    assert len(arms_of(as_runs(here, run("/here/split.json", "c")))) == 2
    assert len(arms_of(as_runs(here, run("/here/split.json", "a", "b", organ="a/c")))) == 2


def test_a_run_that_died_early_joins_its_arm() -> None:
    arms = arms_of(as_runs(finished("nearest", 0), finished("trilinear", 0), failed()))
    assert {arm.label: len(arm.runs) for arm in arms} == {"nearest": 2, "trilinear": 1}


def test_an_option_with_two_parameters_is_told_by_its_block() -> None:
    small = finished()
    large = replace(small, blocks=small.blocks | {"decoder.upsample": "Transposed(kernel_size=4)"})
    labels = [arm.label for arm in arms_of(as_runs(small, large))]
    assert sorted(labels) == ["Transposed(kernel_size=3)", "Transposed(kernel_size=4)"]


def test_only_the_arms_that_share_a_name_are_told_apart() -> None:
    arms = arms_of(as_runs(finished("nearest"), finished("trilinear"), simple({}, name="other")))
    assert {arm.label for arm in arms} == {
        "ablation_upsample · nearest",
        "ablation_upsample · trilinear",
        "other",
    }


def test_labels_are_unique_even_where_nothing_tells_arms_apart() -> None:
    one = finished(blocks={}, config={"a": {}})
    other = replace(one, config={"b": {}})
    labels = [arm.label for arm in arms_of(as_runs(one, other))]
    assert len(set(labels)) == 2


def test_a_fold_is_no_arm_but_another_split_is() -> None:
    def run(fold: int, split_seed: int) -> RunRecord:
        config = {"seed": 0, "data": {"fold": fold, "folds": 2, "split_seed": split_seed}}
        return simple({"a": 1.0}, fold=fold, config=config)

    (arm,) = arms_of(as_runs(run(0, 0), run(1, 0)))
    assert [run.fold for run in arm.counted] == [0, 1]
    assert len(arms_of(as_runs(run(0, 0), run(1, 3)))) == 2


def test_a_setting_called_seed_that_does_not_follow_the_seed_is_a_setting() -> None:
    def run(seed: int, phantom: int) -> RunRecord:
        return simple({"a": 1.0}, seed=seed, config={"seed": seed, "data": {"seed": phantom}})

    assert len(arms_of(as_runs(run(0, 0), run(1, 0)))) == 1
    assert len(arms_of(as_runs(run(0, 0), run(1, 1)))) == 1
    assert len(arms_of(as_runs(run(0, 0), run(0, 1), run(1, 0)))) == 2


def test_arms_have_the_order_of_the_plan_and_not_of_the_clock(tmp_path: Path) -> None:
    starts = {"nearest": "2026-01-01", "transposed": "2026-01-02", "trilinear": "2026-01-03"}
    for name, started in starts.items():
        finished(name, 0, started=started).write(tmp_path / f"{name}-0")
    cells = [cell(f"{name}-0", name, 0) for name in ("trilinear", "nearest")]
    plan(*cells).write(tmp_path)
    found = [arm.choices["decoder.upsample"] for arm in collect([tmp_path]).arms]
    assert found == ["trilinear", "nearest", "transposed"]


def test_levels_name_the_arms() -> None:
    def run(**levels: str) -> RunRecord:
        return simple({"a": 1.0}, levels=levels, config={"levels": levels})

    arms = arms_of(as_runs(run(conv="x", up="1", loss="l"), run(conv="y", up="2", loss="l")))
    assert [arm.label for arm in arms] == ["x · 1", "y · 2"]


def test_levels_of_another_plan_are_told_apart_by_its_name() -> None:
    one = simple({"a": 1.0}, name="one", levels={"up": "1"}, config={"up": "1"})
    other = simple({"a": 1.0}, name="other", levels={"conv": "x"}, config={"conv": "x"})
    again = replace(other, levels={"conv": "y"}, config={"conv": "y"})
    labels = [arm.label for arm in arms_of(as_runs(one, other, again))]
    assert labels == ["one", "other · x", "other · y"]


def test_groups_that_are_switched_off_have_no_option(runs: Write) -> None:
    folder = runs(simple({}, choices={"experiment": None, "loss": "dice"}))
    (arm,) = collect([folder]).arms
    assert arm.choices == {"loss": "dice"}


def test_text_that_utf8_cannot_hold_is_replaced(runs: Write) -> None:
    folder = runs(simple({"a": 1.0}, name="x"))
    path = folder / "000/record.json"
    path.write_text(path.read_text().replace('"x"', '"\\ud800"'))
    assert collect([folder]).arms[0].label.encode("utf-8").isascii()
