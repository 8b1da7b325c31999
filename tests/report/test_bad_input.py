"""Whatever lies in the folders: nothing crashes, and nothing is left out in silence."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import DataError
from medseg.record.lock import LOCK
from medseg.report import write_report
from medseg.report.arms import cell_name
from medseg.report.page import Section
from medseg.report.sections.problems import problems_table
from medseg.report.sections.provenance import provenance
from medseg.report.sections.summary import summary
from medseg.report.study import ReportData, Study, collect

from .pages import column, rows, text
from .records import cell, plan, simple
from .synthetic import Design, write_ablation

pytestmark = pytest.mark.usefixtures("without_figures")
Write = Callable[..., Path]
SMALL = Design(factors={"up": ["a", "b"]}, seeds=2, cases=8)


def studied(folder: Path) -> tuple[ReportData, tuple[Study, ...], str]:
    data = collect([folder])
    inner = [part for part in summary(data).parts if isinstance(part, Section)]
    found = [line for part in inner if part.title == "Cautions" for line in part.parts[0]]
    return data, data.studies, "\n".join(found)


def changed(folder: Path, **fields: Any) -> None:
    path = folder / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def cases(values: Sequence[float]) -> dict[str, float | None]:
    return {f"c{place}": value for place, value in enumerate(values)}


def test_records_of_schema_1_are_read(tmp_path: Path) -> None:
    for folder in write_ablation(tmp_path, SMALL)[:2]:
        path = folder / "record.json"
        old = json.loads(path.read_text()) | {"schema": 1, "sweep": {"up": ["a", "b"]}}
        for new in ("digest", "levels", "fold", "matched", "restarts", "exit_code"):
            old.pop(new)
        path.write_text(json.dumps(old))
    collection, (study,), _ = studied(tmp_path)
    assert not collection.unreadable
    assert not collection.missing
    assert [dict(arm.levels) for arm in study.compared] == [{"up": "a"}, {"up": "b"}]


def test_records_of_a_newer_schema_are_named(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, SMALL)
    changed(folders[3], schema=99)
    collection, (study,), said = studied(tmp_path)
    assert "schema=99" in "".join(collection.unreadable.values())
    assert not collection.missing  # it is there, but cannot be read
    assert "b: fewer completed runs than asked for" in said
    assert len(study.by()) == 1


def test_versions_and_machines_that_differ_are_said(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, SMALL)
    changed(folders[0], versions={"medseg": "0.0.9", "torch": "2.13.0"}, machine={"host": "other"})
    collection, _, said = studied(tmp_path)
    assert "Runs come from medseg 0.0.9 and 0.1.0." in said
    assert "different machines" in said
    _, shared, runs = provenance(collection).parts
    assert {"Machine", "Versions"} <= set(runs.parts[0].frame.columns)
    assert not {"Machine", "Versions"} & set(shared)


def test_missing_seeds_are_counted(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, SMALL)
    (folders[3] / "record.json").unlink()
    collection, (study,), said = studied(tmp_path)
    assert [cell_name(gap) for _, gap in collection.missing] == ["up=b, seed=1"]
    assert "b: fewer completed runs than asked for" in said
    (row,) = [row for row in problems_table(collection).rows if row[0].text == "missing"]
    assert row[1].text == "up=b, seed=1"
    assert study.by()["seeds"].iloc[0] == 1


def test_every_run_is_counted_once_and_everywhere_alike(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, replace(SMALL, seeds=4))
    changed(folders[1], status="failed", error="why", cases=[], dataset="", blocks={})
    changed(folders[2], status="running", cases=[])
    (folders[2] / LOCK).touch()
    changed(folders[4], status="interrupted", cases=[])
    (folders[6] / "record.json").unlink()
    collection = collect([tmp_path])
    asked = {"completed": 4, "failed": 1, "running": 1, "interrupted": 1, "missing": 1}
    assert collection.states == asked
    report = write_report([tmp_path], tmp_path / "report.html")
    (said,) = [found for found in text(report).splitlines() if "Without a result" in found]
    (folders[2] / LOCK).unlink()  # it was killed, and no process is there any more
    assert collect([tmp_path]).states == Counter(asked | {"running": 0, "interrupted": 2})
    for state, number in asked.items():
        assert f"{number} {state}" in report.headline
        assert state == "completed" or f"{number} {state}" in said
    assert len(problems_table(collection).rows) == 4


@pytest.mark.parametrize(
    ("files", "datasets"),
    [
        (({"a": "1", "b": "2"}, {"a": "1", "b": "2"}), 1),
        (({"a": "1"}, {"b": "2"}), 1),  # parts of one dataset
        (({"a": "1", "b": "2"}, {}), 1),  # of an older version
        (({"a": "1", "b": "2"}, {"a": "1", "b": "3"}), 2),  # a label was repaired
        (({"a": "1"}, {"a": "2"}, {"a": "3"}), 3),
    ],
    ids=["equal", "parts", "unknown", "repaired", "twice"],
)
def test_runs_on_other_files_are_not_averaged(
    runs: Write, files: tuple[dict[str, str], ...], datasets: int
) -> None:
    folder = runs(
        *(simple({"a": 0.5}, seed=seed, cases_sha256=own) for seed, own in enumerate(files))
    )
    data = collect([folder])
    assert len(data.arms) == len({arm.dataset for arm in data.arms}) == datasets
    assert data.changed == (("phantom",) if datasets > 1 else ())


def test_missing_folds_are_named(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, replace(SMALL, seeds=1, folds=2))
    (folders[0] / "record.json").unlink()
    assert [cell_name(gap) for _, gap in collect([tmp_path]).missing] == ["up=a, seed=0, fold=0"]


def test_a_cell_that_was_run_elsewhere_is_not_missing(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, SMALL)
    folders[3].rename(tmp_path / "again")
    collection, (study,), _ = studied(tmp_path)
    assert not collection.missing
    assert len(study.arms) == 2


def test_cases_missing_in_one_arm_are_paired_and_said(runs: Write) -> None:
    wide, narrow = cases([0.5 + 0.01 * c for c in range(10)]), cases([0.6] * 7)
    folder = runs(
        *(simple(wide, name="wide", seed=seed) for seed in (0, 1)),
        *(simple(narrow, name="narrow", seed=seed) for seed in (0, 1)),
    )
    _, (study,), said = studied(folder)
    (found,) = study.by().itertuples()
    assert (found.cases, found.left_out, found.left_out_reference) == (7, 0, 3)
    assert found.estimate == pytest.approx(0.6 - 0.53)
    assert "narrow: not validated on the same cases as wide" in said
    assert "as few as 7" in said


def test_arms_without_a_shared_case_are_undecided(runs: Write) -> None:
    folder = runs(simple({"a": 0.9}, name="one"), simple({"b": 0.8}, name="two"))
    _, (study,), said = studied(folder)
    (found,) = study.by().itertuples()
    assert found.verdict == "undecided"
    assert math.isnan(found.estimate)
    assert found.reason == "no case that both arms have"
    assert "not validated on the same cases" in said
    write_report([folder], folder.parent / "report.html")


def test_two_runs_of_one_arm_and_seed_count_once(runs: Write) -> None:
    old = simple(cases([0.1] * 8), started="2026-01-01")
    folder = runs(replace(old, started="2026-01-02", cases=simple(cases([0.9] * 8)).cases), old)
    collection, (study,), said = studied(folder)
    assert study.observations["dice"].mean(1) == pytest.approx(0.9)
    assert "1 completed run of an arm, fold and seed that was run again: the newest counts" in said
    assert column(problems_table(collection), "Status")[0].text == "superseded"


def test_a_plan_without_records_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    plan(cell("x", "nearest", 0)).write(tmp_path)
    with pytest.raises(DataError, match=r"an ablation\.json is there, but no record\.json"):
        collect([tmp_path])


def test_a_plan_without_records_beside_other_runs_is_all_missing(
    runs: Write, tmp_path: Path
) -> None:
    folder = runs(simple(cases([0.8] * 8)))
    plan(cell("x", "nearest", 0), cell("y", "trilinear", 0)).write(tmp_path / "empty")
    collection = collect([folder, tmp_path / "empty"])
    assert len(collection.missing) == 2
    report = write_report([folder, tmp_path / "empty"], tmp_path / "report.html")
    assert [row["arm"] for row in rows(report) if row["status"] == "missing"] == [
        "upsampling=nearest, seed=0",
        "upsampling=trilinear, seed=0",
    ]


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"schema": 9}', '{"schema": 1, "name": "x"}', '{"schema": 1, "cells": 3}'],
)
def test_a_plan_that_cannot_be_read_is_named(content: str, runs: Write) -> None:
    folder = runs(simple(cases([0.8])))
    (folder / "ablation.json").write_text(content)
    collection, (study,), _ = studied(folder)
    assert [Path(source).name for source in collection.unreadable] == ["ablation.json"]
    assert study.why == "the first arm"


def test_a_level_that_left_the_plan_is_compared_and_said(tmp_path: Path) -> None:
    design = Design(factors={"up": ["a", "b", "c"]}, seeds=2, cases=8)
    write_ablation(tmp_path, design)
    path = tmp_path / "ablation.json"
    old = json.loads(path.read_text())
    kept = [c for c in old["cells"] if c["levels"]["up"] != "c"]
    path.write_text(json.dumps(old | {"cells": kept, "factors": {"up": ["a", "b"]}}))
    _, (study,), said = studied(tmp_path)
    assert [arm.label for arm in study.arms if arm.dropped] == ["c"]
    assert "c: not in the plan any more; compared like the others" in said
    assert len(study.by()) == 2


def test_plans_that_differ_are_read_together(tmp_path: Path) -> None:
    write_ablation(tmp_path / "one", SMALL, name="one", margin=0.02)
    other = Design(factors={"up": ["a", "b"], "down": ["x", "y"]}, seeds=2, cases=8)
    write_ablation(tmp_path / "other", other, name="other", margin=0.005)
    collection, (study,), said = studied(tmp_path)
    assert len(collection.plans) == 2
    assert len(study.compared) == 6
    assert len({arm.label for arm in study.arms}) == 6
    assert study.margin == 0.005
    assert "name the margins 0.005 and 0.02; ±0.005 is used" in said
    assert "name different references" in said
    assert {effect.factor for effect in study.effects if effect.levels} == {"up", "down"}
    assert len(study.compared) - len(study.in_grid) == 2
    assert "other factors than the rest, or none" in said


def test_a_reference_level_without_a_result_has_a_stand_in(tmp_path: Path) -> None:
    for folder in write_ablation(tmp_path, SMALL)[:2]:
        changed(folder, status="failed", error="out of memory", exit_code=4, cases=[])
    collection, (study,), said = studied(tmp_path)
    assert study.reference.label == "b"
    assert "The plan’s reference, a, has no result; b stands in for it." in said
    table = problems_table(collection)
    assert column(table, "What happened")[0].text == "out of memory (exit code 4)"


def test_sizes_that_were_missed_are_said(tmp_path: Path) -> None:
    folders = write_ablation(tmp_path, SMALL)
    matched = {"quantity": "parameters", "value": 150.0, "wanted": 100.0}
    changed(folders[2], matched=matched)
    _, _, said = studied(tmp_path)
    assert "b: more than 10 % away from the size it was to be made equal to" in said
