"""One run from configuration to record: it can be repeated, continued and believed."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests_support import QUICK, SWAPS, arguments, resume, the_run, train

from medseg.cli.compose import composed
from medseg.data.phantom import Phantom
from medseg.errors import ResourceError
from medseg.experiment import plan as planning
from medseg.experiment.plan import make_plan
from medseg.metrics import score_case
from medseg.record import RunRecord, RunStatus
from medseg.resources import peak_memory_bytes, restart_peak_memory

CPU = torch.device("cpu")


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model/weights.safetensors")


def last_state(run: Path, key: str = "state_dict") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints/last.ckpt", weights_only=True)[key]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_continued_run_is_the_run_that_was_never_stopped(tmp_path: Path, workers: int) -> None:
    average = ["trainer.ema=0.9", "norm@model.encoder.unit.norm=batch"] if workers else []
    options = [*SWAPS, f"data.num_workers={workers}", *average]
    assert train(tmp_path / "whole", *options, *QUICK, "trainer.epochs=3") == 0
    # what is measured beside the training changes no weight either
    assert train(tmp_path / "parts", *options) == 0
    whole, parts = the_run(tmp_path / "whole"), the_run(tmp_path / "parts")
    assert resume(parts, "trainer.epochs=3") == 0
    for state in ("state_dict", *(["current_model_state", "averaging_state"] if average else [])):
        assert same(last_state(whole, state), last_state(parts, state))
    assert same(weights(whole), weights(parts))
    records = [RunRecord.read(run / "record.json") for run in (whole, parts)]
    timeless = [
        [
            {k: v for k, v in row.items() if k not in ("seconds", "waiting")}
            for row in record.history
        ]
        for record in records
    ]
    assert timeless[0] == timeless[1]
    metrics = [[(case.case, case.metrics) for case in record.cases] for record in records]
    assert metrics[0] == metrics[1]


def test_the_same_seed_gives_the_same_weights_another_gives_others(
    finished: Path, tmp_path: Path
) -> None:
    for name, seed in (("same", 0), ("other", 1)):
        assert train(tmp_path / name, *SWAPS, *QUICK, f"seed={seed}") == 0
    assert same(weights(the_run(tmp_path / "same")), weights(finished))
    assert not same(weights(the_run(tmp_path / "other")), weights(finished))


def test_the_recorded_metrics_are_those_of_the_files_that_were_written(finished: Path) -> None:
    record = RunRecord.read(finished / "record.json")
    (dataset,) = (finished.parents[2] / "data").glob("Phantom-*")
    for case in record.cases:
        written = nib.load(finished / f"validation/{case.case}.nii.gz")
        truth = nib.load(dataset / f"labelsTr/{case.case}.nii.gz")
        np.testing.assert_array_equal(written.affine, truth.affine)
        scores = score_case(
            np.asanyarray(written.dataobj),
            np.asanyarray(truth.dataobj),
            spacing=truth.header.get_zooms(),
            labelling=record.labelling,
            tolerance_mm=1.0,
        )
        assert scores == case.metrics


def test_a_split_of_the_user_a_short_run_and_slices(tmp_path: Path) -> None:
    folder = Phantom(root=tmp_path / "data").prepare()
    names = sorted(p.name.removesuffix(".nii.gz") for p in (folder / "imagesTr").iterdir())
    split = tmp_path / "my split.json"
    split.write_text(f'{{"train": {names[:2]}, "validation": {names[5:6]}}}'.replace("'", '"'))
    flat = ["data.spatial_dims=2", "data.patch_size=[16,16]", "data.slice_axis=1"]
    short = ["trainer.epochs=1", "trainer.validate_every=5", "model.deep_supervision=true"]
    assert train(tmp_path, f"data.split_file='{split}'", *flat, *short, *QUICK) == 0
    record = RunRecord.read(the_run(tmp_path) / "record.json")
    assert record.split == {"train": names[:2], "validation": names[5:6]}
    assert record.patch_size == [16, 16]
    # a run shorter than its validation interval is validated at its end
    assert record.history[-1]["val_dice"] is not None
    assert len(record.cases) == 1


def test_corrupt_cases_are_all_named_and_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Phantom(root=tmp_path / "data").prepare()
    bad = sorted((folder / "imagesTr").iterdir())[:2]
    for path in bad:
        path.write_bytes(path.read_bytes()[:-100])
    mine = ["data=folder", "plan=none", f"data.root={folder}", "data.patch_size=[16,16,16]"]
    assert train(tmp_path, *mine) == 3
    shown = capsys.readouterr().err
    assert all(path.name in shown for path in bad)
    assert RunRecord.read(the_run(tmp_path) / "record.json").status == "failed"


def test_training_stops_early_when_the_dice_no_longer_rises(tmp_path: Path) -> None:
    frozen = ["optimizer.lr=1e-30", "trainer.patience=2", "trainer.epochs=9"]
    assert train(tmp_path, *frozen, *QUICK) == 0
    run = the_run(tmp_path)
    assert len(RunRecord.read(run / "record.json").history) == 3
    assert RunStatus.read(run).share == 1.0  # nothing of it is left to do
    told = RunRecord.read(run / "record.json").weights
    assert (told["kept"], told["epoch"], told["chosen_by"]) == ("last", 3, "validation Dice")


def test_what_does_not_fit_the_memory_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = composed("train", *arguments(tmp_path))
    plan = make_plan(config)
    plan.data.setup()
    plan.require_memory_of_cases()
    step = plan.needed_memory_bytes
    assert step is not None
    assert plan.predicted_memory_bytes is not None
    assert step > plan.predicted_memory_bytes
    monkeypatch.setattr(planning, "available_memory_bytes", lambda: step - 1)
    with pytest.raises(ResourceError, match=r"data\.batch_size"):
        make_plan(config)
    monkeypatch.setattr(planning, "available_memory_bytes", lambda: 10_000)
    with pytest.raises(ResourceError, match=plan.data.prepared_validation()[0].case_id):
        plan.require_memory_of_cases()


def test_peak_memory_is_measured_anew_for_each_arm() -> None:
    restart_peak_memory(CPU)
    before = peak_memory_bytes(CPU)
    block = np.ones(2**26, dtype=np.uint8)
    raised = peak_memory_bytes(CPU)
    assert raised - before > 0.8 * block.nbytes
    del block
    restart_peak_memory(CPU)
    assert peak_memory_bytes(CPU) < raised - 2**25
