"""The final network of a project: all cases train, and none is left to score it."""

from pathlib import Path

import pytest
from tests_support import QUICK, resume, the_run, train

from medseg.cli.predict import main as predict
from medseg.cli.report import main as report
from medseg.record import RunRecord

ALL = [*QUICK, "trainer.epochs=1", "data.source.cases=3", "data.validation_fraction=0"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("all")
    assert train(folder, *ALL) == 0
    return the_run(folder)


def test_every_case_trains_and_nothing_is_scored(run: Path) -> None:
    record = RunRecord.read(run / "record.json")
    assert record.status == "completed"
    assert len(record.split["train"]) == 3
    assert (record.split["validation"], record.cases) == ([], [])
    assert (record.weights["kept"], record.weights["chosen_by"]) == ("last", None)


def test_it_goes_on(run: Path) -> None:
    assert resume(run, "trainer.epochs=2") == 0
    record = RunRecord.read(run / "record.json")
    assert [row["epoch"] for row in record.history] == [1, 2]


def test_it_predicts_by_what_it_knows(run: Path, tmp_path: Path) -> None:
    images = next((run.parents[2] / "data").rglob("imagesTr"))
    assert predict(["-m", str(run), "-i", str(images), "-o", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


def test_the_report_says_why_there_is_no_score(run: Path, tmp_path: Path) -> None:
    assert report([str(run), "-o", str(tmp_path / "page.html")]) == 0
    assert "no case was held out" in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "asked",
    [
        ["trainer.weights=best"],
        ["trainer.patience=2"],
        ["pictures.cases=1"],
        ["optimizer.lr=0.01,0.02", "-m"],
    ],
)
def test_what_needs_held_out_cases_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], asked: list[str]
) -> None:
    assert train(tmp_path, *ALL, *asked) == 2
    assert "validation_fraction" in capsys.readouterr().err
    assert not list(tmp_path.rglob("record.json"))
