"""A cross-validation as a user meets it: one command, one result, repeated until it is whole."""

import csv
import json
import shutil
from pathlib import Path
from statistics import fmean

import pytest
from tests_support import QUICK, train

from medseg.cli import launch
from medseg.data.splits import Split, folds_text, read_folds
from medseg.errors import DataError
from medseg.experiment.folds import gather
from medseg.models.weights import load_model
from medseg.record import METRICS, AblationPlan, RunRecord
from medseg.report.study import collect

SHORT = [*QUICK, "trainer.epochs=1", "data.source.cases=4"]


def only(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found


def records(folder: Path) -> list[RunRecord]:
    found = [RunRecord.read(path) for path in folder.rglob("record.json")]
    return sorted(found, key=lambda record: record.fold or 0)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cross-validation of two folds, with a hand-written list of splits."""
    folder = tmp_path_factory.mktemp("folds")
    names = [f"phantom_{number:03d}" for number in range(4)]
    halves = tuple(names[:2]), tuple(names[2:])
    folds = [Split(train=halves[1 - fold], validation=halves[fold]) for fold in range(2)]
    (folder / "splits.json").write_text(folds_text(folds))
    assert train(folder, *SHORT, f"data.split_file={folder}/splits.json", "data.fold=all") == 0
    return only(folder, "ensemble.json").parents[1]


def test_the_table_is_that_of_the_cases(done: Path) -> None:
    runs = records(done)
    assert [run.fold for run in runs] == [0, 1]
    with (done / "folds.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == 3 * len(runs[0].classes)
    for row in rows:
        chosen = [run for run in runs if row["fold"] in ("all", str(run.fold))]
        cases = [case for run in chosen for case in run.cases]
        assert int(row["cases"]) == len(cases)
        for metric in METRICS:
            values = [case.metrics[row["class"]][metric] for case in cases]
            defined = [value for value in values if value is not None]
            told = float(row[metric]) if row[metric] else None
            assert told == pytest.approx(fmean(defined) if defined else None)


def test_each_label_map_is_of_the_fold_that_held_the_case_out(done: Path) -> None:
    maps = {path.name: path.read_bytes() for path in (done / "out_of_fold").glob("*.nii.gz")}
    own = {
        f"{case.case}.nii.gz": (run.path.parent / case.prediction).read_bytes()
        for run in records(done)
        for case in run.cases
    }
    assert maps == own
    assert len(maps) == 4


def test_the_ensemble_is_a_folder_that_may_travel(done: Path, tmp_path: Path) -> None:
    sent = Path(shutil.copytree(done / "ensemble", tmp_path / "sent"))
    content = json.loads((sent / "ensemble.json").read_text())
    assert content == {"format": 1, "members": ["fold_0", "fold_1"]}
    for member, run in zip(content["members"], records(done), strict=True):
        assert load_model(sent / member).sha256 == load_model(run.path.parent).sha256


def test_the_report_sees_one_arm_of_two_folds(done: Path) -> None:
    (arm,) = collect([done]).arms
    assert [run.fold for run in arm.counted] == [0, 1]
    assert len({run.folds for run in arm.runs}) == 1


def test_a_lost_fold_is_made_again_and_before_there_is_no_ensemble(
    done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(done.parents[2], tmp_path / "again"))
    own = only(folder, "ablation.json").parent
    first, second = (run.path.parent for run in records(own))
    shutil.rmtree(second)
    shutil.rmtree(own / "ensemble")
    kept = {path: path.stat().st_mtime_ns for path in first.rglob("*") if path.is_file()}
    words = [*SHORT, f"data.split_file={done.parents[2]}/splits.json", "data.fold=all"]
    with monkeypatch.context() as patch:
        patch.setattr(launch, "launch", lambda *_: None)
        assert train(folder, *words) == 1
    assert "1 of 2 runs" in capsys.readouterr().err
    assert not list(folder.rglob("ensemble.json"))
    assert train(folder, *words) == 0
    assert only(folder, "ensemble.json").parents[1] == own
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert second.is_dir()


def test_a_lost_label_map_leaves_the_former_result(done: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(done, tmp_path / "own"))
    case = records(own)[0].cases[0]
    (records(own)[0].path.parent / case.prediction).unlink()
    before = {p: p.read_bytes() for p in own.glob("*.csv")}
    with pytest.raises(DataError, match=case.case):
        gather(AblationPlan.read(own / "ablation.json"), own)
    assert {p: p.read_bytes() for p in own.glob("*.csv")} == before


@pytest.mark.parametrize(
    "words",
    [
        ["data.fold=all"],
        ["data.folds=2", "data.fold=2"],
        ["data.folds=2", "hydra.run.dir=here"],
        ["data.splits=nnunet"],
        ["data.folds=2", "data.splits=nnunet", "data.split_seed=3"],
        ["ablation.folds=2", "data.folds=2"],
    ],
)
def test_words_that_contradict_are_refused_before_anything_is_written(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, *SHORT, *words) == 2
    assert words[-1].partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_one_fold_of_nnunet_s_is_one_run_and_lists_them_all(tmp_path: Path) -> None:
    assert train(tmp_path, *SHORT, "data.splits=nnunet", "data.folds=2", "data.fold=1") == 0
    (run,) = records(tmp_path)
    folds = read_folds(run.path.with_name("splits_final.json"))
    assert list(folds[1].validation) == run.split["validation"]
    assert run.fold == 1
    assert sorted(c for fold in folds for c in fold.validation) == sorted(run.cases_sha256)
