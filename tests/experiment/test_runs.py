"""One run from configuration to record: it can be repeated, resumed and believed."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file
from tests_support import resume, the_run, train

from medseg.data.phantom import Phantom
from medseg.hardware import peak_memory_bytes, restart_peak_memory
from medseg.metrics import score_case
from medseg.record import RunRecord

CPU = torch.device("cpu")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(the_run(folder) / "model/weights.safetensors")


def last_state(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = the_run(folder) / "checkpoints/last.ckpt"
    return torch.load(checkpoint, weights_only=True)["state_dict"]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_the_same_seed_gives_the_same_weights_another_gives_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert train(monkeypatch, tmp_path / name, f"seed={seed}", "trainer.epochs=1") == 0
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
    assert not same(weights(tmp_path / "a"), weights(tmp_path / "c"))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_run_is_the_uninterrupted_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    options = [
        "trainer.epochs=4",
        "scheduler=constant",
        "model.encoder.unit.dropout=0.2",
        f"data.num_workers={workers}",
    ]
    assert train(monkeypatch, tmp_path / "whole", *options) == 0
    assert train(monkeypatch, tmp_path / "parts", *options, "trainer.epochs=2") == 0
    longer = [f"resume={the_run(tmp_path / 'parts')}", "trainer.epochs=4"]
    assert resume(monkeypatch, tmp_path / "parts", *longer) == 0
    assert same(last_state(tmp_path / "whole"), last_state(tmp_path / "parts"))
    whole, parts = (
        RunRecord.read(the_run(tmp_path / name) / "record.json") for name in ("whole", "parts")
    )
    timeless = [
        [{k: v for k, v in row.items() if k != "seconds"} for row in record.history]
        for record in (whole, parts)
    ]
    assert timeless[0] == timeless[1]
    metrics = [[(case.case, case.metrics) for case in record.cases] for record in (whole, parts)]
    assert metrics[0] == metrics[1]


def test_the_recorded_metrics_are_those_of_the_files_that_were_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(monkeypatch, tmp_path) == 0
    run = the_run(tmp_path)
    record = RunRecord.read(run / "record.json")
    (dataset,) = (tmp_path / "data").glob("Phantom-*")
    for case in record.cases:
        written = nib.load(run / f"validation/{case.case}.nii.gz")
        truth = nib.load(dataset / f"labelsTr/{case.case}.nii.gz")
        np.testing.assert_array_equal(written.affine, truth.affine)
        scores = score_case(
            np.asanyarray(written.dataobj),
            np.asanyarray(truth.dataobj),
            spacing=truth.header.get_zooms(),
            classes=record.classes,
            tolerance_mm=1.0,
        )
        assert scores == case.metrics


def test_a_split_file_of_the_user_is_honoured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Phantom(root=tmp_path / "data").prepare()
    names = sorted(p.name.removesuffix(".nii.gz") for p in (folder / "imagesTr").iterdir())
    split = tmp_path / "my split.json"
    split.write_text(f'{{"train": {names[:2]}, "validation": {names[5:6]}}}'.replace("'", '"'))
    assert train(monkeypatch, tmp_path, f"data.split_file='{split}'", "trainer.epochs=1") == 0
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    assert record.split == {"train": names[:2], "validation": names[5:6]}


def test_corrupt_cases_are_all_named_and_nothing_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Phantom(root=tmp_path / "data").prepare()
    bad = sorted((folder / "imagesTr").iterdir())[:2]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-100])
    mine = ["data=folder", f"data.root={folder}", "data.patch_size=[16,16,16]"]
    assert train(monkeypatch, tmp_path, *mine) == 3
    shown = capsys.readouterr().err
    assert all(path.name in shown for path in bad)
    assert RunRecord.read(the_run(tmp_path) / "record.json").status == "failed"


def test_training_stops_early_when_the_dice_no_longer_rises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = ["optimizer.lr=0", "trainer.patience=2", "trainer.epochs=9"]
    assert train(monkeypatch, tmp_path, *frozen) == 0
    assert len(RunRecord.read(the_run(tmp_path) / "record.json").history) == 3


def test_a_run_shorter_than_its_validation_interval_is_validated_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert train(monkeypatch, tmp_path, "trainer.epochs=1", "trainer.validate_every=5") == 0
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    assert record.history[-1]["val_dice"] is not None
    assert record.cases


def test_two_processes_do_not_share_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(monkeypatch, tmp_path, "trainer.epochs=1") == 0
    run = the_run(tmp_path)
    with FileLock(run / ".lock"):
        assert resume(monkeypatch, tmp_path, f"resume={run}", "trainer.epochs=2") == 4
    assert "another process" in capsys.readouterr().err
    assert RunRecord.read(run / "record.json").status == "completed"


def test_two_dimensional_training_on_slices_of_the_same_volumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = ["data.spatial_dims=2", "data.patch_size=[16,16]", "data.slice_axis=1"]
    assert train(monkeypatch, tmp_path, *flat, "trainer.epochs=1") == 0
    assert RunRecord.read(the_run(tmp_path) / "record.json").patch_size == [16, 16]


def test_peak_memory_is_measured_anew_for_each_arm() -> None:
    restart_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    block = np.ones(2**26, dtype=np.uint8)
    raised = peak_memory_bytes(CPU)
    assert raised - before > 0.8 * block.nbytes
    del block
    restart_peak_memory(CPU)
    assert peak_memory_bytes(CPU) < raised - 2**25
