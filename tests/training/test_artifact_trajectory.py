"""Artifacts are measured over training: what initialisation makes, and what learning adds."""

from pathlib import Path

import pytest
import torch
from tests_support import the_run, train

from medseg.record import RunRecord

ICNR = "upsample@model.decoder.upsample=pixel_shuffle_icnr"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One run whose artifacts are followed, and the same run without that."""
    found = {}
    for follow in ("true", "false"):
        folder = tmp_path_factory.mktemp(follow)
        own = (ICNR, "artifacts.cases=1", f"artifacts.follow={follow}")
        assert train(folder, *own) == 0
        found[follow] = the_run(folder)
    return found


def record_of(run: Path) -> RunRecord:
    return RunRecord.read(run / "record.json")


def test_a_clean_initialisation_drifts(runs: dict[str, Path]) -> None:
    record = record_of(runs["true"])
    first, *later = record.artifact_history
    assert first["epoch"] == 0
    assert first["dc_gain"] == first["dc_gain_mean"] == 0
    assert first["constant_response"] < 1e-6
    assert [row["epoch"] for row in later] == [row["epoch"] for row in record.history]
    assert later[-1]["dc_gain"] > 1e-6
    assert later[-1]["cycle_spin"] > 0
    assert "artifacts/dc_gain" in (runs["true"] / "metrics.csv").read_text()


def test_the_run_records_what_its_cases_show(runs: dict[str, Path]) -> None:
    record = record_of(runs["true"])
    artifacts = record.artifacts
    assert {case.case for case in artifacts.cases} == set(record.split["validation"])
    assert sum("cycle_spin" in case.values for case in artifacts.cases) == 1
    assert all(case.get("prediction", "gain") > 0 for case in artifacts.cases)
    assert artifacts.layers[0].values["dc_gain_mean"] is not None


def test_following_can_be_switched_off_and_changes_no_weight(runs: dict[str, Path]) -> None:
    assert record_of(runs["false"]).artifact_history == []
    paths = [run / "checkpoints" / "last.ckpt" for run in runs.values()]
    followed, plain = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert followed.keys() == plain.keys()
    assert all(torch.equal(value, plain[key]) for key, value in followed.items())
