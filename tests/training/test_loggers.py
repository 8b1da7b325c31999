"""Curves go where they are asked to, and no training is lost over them."""

import shutil
import sys
from pathlib import Path

import pytest
from tests_support import QUICK, resume, the_run, train

from medseg.experiment.resume import stored_config
from medseg.record import digest


@pytest.mark.parametrize("kind", ["mlflow", "wandb"])
def test_what_is_not_installed_is_said_before_anything_is_written(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, kind, None)
    assert train(tmp_path, *QUICK, f"trainer.logger={kind}") == 2
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_is_gone_on_from_sends_nothing_anywhere(
    finished: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(finished, tmp_path / "run")
    path = run / "config.yaml"
    assert "logger: tensorboard" in path.read_text()
    path.write_text(path.read_text().replace("logger: tensorboard", "logger: wandb"))
    assert stored_config(run)["trainer"]["logger"] == "tensorboard"


def test_curves_are_no_part_of_what_a_run_is() -> None:
    kinds = ["tensorboard", "mlflow", None]
    assert len({digest({"seed": 0, "trainer": {"logger": kind}}) for kind in kinds}) == 1


def test_without_a_logger_the_table_is_left(tmp_path: Path) -> None:
    assert train(tmp_path, *QUICK, "trainer.logger=null") == 0
    run = the_run(tmp_path)
    assert not [*run.glob("events*")]
    assert len((run / "metrics.csv").read_text().splitlines()) > 2


@pytest.mark.filterwarnings("ignore")  # of the library
def test_mlflow_has_the_curves_of_a_run_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="needs medseg[mlflow]")
    place = f"sqlite:///{tmp_path / 'curves.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    assert train(tmp_path, *QUICK, "trainer.logger=mlflow") == 0
    assert resume(the_run(tmp_path), "trainer.epochs=3", "trainer.logger=mlflow") == 0
    client = mlflow.MlflowClient(place)
    runs = client.search_runs([each.experiment_id for each in client.search_experiments()])
    assert [each.info.status for each in runs] == ["FINISHED"]
    assert len(client.get_metric_history(runs[0].info.run_id, "val/dice")) == 3
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # where nobody listens
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert train(tmp_path / "other", *QUICK, "trainer.logger=mlflow") == 4


@pytest.mark.filterwarnings("ignore")  # of the library
def test_wandb_has_one_run_of_one_that_went_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb", reason="needs medseg[wandb]")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert train(tmp_path, *QUICK, "trainer.logger=wandb") == 0
    run = the_run(tmp_path)
    own = (run / "wandb_id.txt").read_text()
    assert resume(run, "trainer.epochs=3", "trainer.logger=wandb") == 0
    assert {path.name.rpartition("-")[2] for path in run.parent.glob("wandb/offline-run-*")} == {
        own
    }
