"""Artifacts are followed over training: what initialisation makes, and what learning adds."""

from pathlib import Path

import pytest
import torch
from tests_support import the_run, train

from medseg.record import RunRecord

ICNR = "upsample@model.decoder.upsample=pixel_shuffle_icnr"


def record_of(folder: Path) -> RunRecord:
    return RunRecord.read(the_run(folder) / "record.json")


def test_a_clean_initialisation_drifts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert train(monkeypatch, tmp_path, ICNR) == 0
    record = record_of(tmp_path)
    first, *later = record.artifact_history
    assert first["epoch"] == 0
    assert first["dc_gain"] == first["dc_gain_mean"] == 0
    assert first["constant_response"] < 1e-6
    assert [row["epoch"] for row in later] == [row["epoch"] + 1 for row in record.history]
    assert later[-1]["dc_gain"] > 1e-6
    assert later[-1]["cycle_spin"] > 0
    assert "artifacts/dc_gain" in (the_run(tmp_path) / "metrics.csv").read_text()


def test_the_run_records_what_its_cases_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(monkeypatch, tmp_path, "artifacts.cases=1") == 0
    artifacts = record_of(tmp_path).artifacts
    assert {case.case for case in artifacts.cases} == set(record_of(tmp_path).split["validation"])
    assert sum("cycle_spin" in case.values for case in artifacts.cases) == 1
    assert artifacts.means["gain"].mean > 0
    assert artifacts.layers[0].values["dc_gain_mean"] is not None


def test_it_is_not_followed_if_that_is_not_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(monkeypatch, tmp_path, "artifacts.follow=false", "trainer.epochs=1") == 0
    assert record_of(tmp_path).artifact_history == []


def test_following_changes_no_weight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for follow in ("true", "false"):
        folder = tmp_path / follow
        assert train(monkeypatch, folder, f"artifacts.follow={follow}") == 0
        path = the_run(folder) / "checkpoints" / "last.ckpt"
        weights.append(torch.load(path, weights_only=True)["state_dict"])
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
