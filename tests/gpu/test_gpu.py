"""The same path on a GPU: train, predict, and give way when its memory is short."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from tests_support import the_run, train

from medseg.inference.predictor import Predictor
from medseg.models.weights import load_model
from medseg.record import RunRecord
from medseg.volumes import read_image

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    options = ["trainer.device=cuda", "trainer.precision=auto", "data.batches_per_epoch=20"]
    assert train(folder, *options) == 0
    return the_run(folder)


def image_of(folder: Path) -> Path:
    return sorted(folder.glob("data/Phantom-*/imagesTr/*.nii.gz"))[0]


def test_training_uses_the_gpu_in_bf16(run: Path) -> None:
    record = RunRecord.read(run / "record.json")
    assert record.machine["device"] == torch.cuda.get_device_name()
    assert record.machine["precision"] == ("bf16" if torch.cuda.is_bf16_supported() else "fp16")
    assert 0 < record.peak_memory_bytes < torch.cuda.get_device_properties(0).total_memory
    assert record.history[-1]["train_loss"] < record.history[0]["train_loss"]


def test_gpu_and_cpu_agree(run: Path, folder: Path) -> None:
    volume = read_image(image_of(folder))
    maps = [
        Predictor(load_model(run), device=device, precision="fp32").predict(volume).labels
        for device in ("cuda", "cpu")
    ]
    assert (maps[0] == maps[1]).mean() > 0.999


def test_a_bf16_prediction_agrees_with_fp32(run: Path, folder: Path) -> None:
    volume = read_image(image_of(folder))
    maps = [
        Predictor(load_model(run), device="cuda", precision=precision).predict(volume).labels
        for precision in ("bf16", "fp32")
    ]
    assert (maps[0] == maps[1]).mean() > 0.98


def test_a_short_memory_gives_way_to_the_cpu(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import medseg.inference.predictor as room

    volume, real = read_image(image_of(folder)), room.blended_slices
    expected = Predictor(load_model(run), device="cpu").predict(volume).labels

    def short_of_memory(network, image, *args, compute_on, **options):
        if compute_on.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(network, image, *args, compute_on=compute_on, **options)

    monkeypatch.setattr(room, "blended_slices", short_of_memory)
    labels = Predictor(load_model(run), device="cuda", precision="fp32").predict(volume).labels
    np.testing.assert_array_equal(labels, expected)


def test_a_large_convolution_of_the_default_network_trains_deterministically(
    folder: Path,
) -> None:
    states = []
    for name in ("first", "second"):
        options = ["trainer.device=cuda", "trainer.deterministic=true", "trainer.epochs=1"]
        assert train(folder / name, *options) == 0
        states.append(load_model(the_run(folder / name)).network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_predicted_files_open_everywhere(run: Path) -> None:
    for path in (run / "validation").glob("*.nii.gz"):
        assert nib.load(path).get_data_dtype() == np.uint8
