"""OpenVINO in torch's place: the same logits, and refused where it would compute something else."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.cli.predict import main
from medseg.errors import ConfigError, ResourceError
from medseg.inference import engine
from medseg.inference.mirroring import mirrored
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume

AsVolume = Callable[..., Volume]
MakeModel = Callable[..., Path]
SaveScan = Callable[..., Path]


@pytest.fixture(scope="module")
def compiled(model_folder: Path) -> engine.Compiled:
    return engine.Compiled(load_model(model_folder), (16, 16, 16))


def test_any_number_of_windows_has_the_logits_of_torch(
    compiled: engine.Compiled, model: TrainedModel
) -> None:
    for windows in (1, 3, 2):
        image = torch.randn(windows, 1, 16, 16, 16)
        with torch.no_grad():
            torch.testing.assert_close(compiled(image), model.network(image), rtol=1e-3, atol=1e-4)


def test_logits_stay_when_the_next_ones_are_computed(compiled: engine.Compiled) -> None:
    first = compiled(torch.randn(1, 1, 16, 16, 16))
    kept = first.clone()
    compiled(torch.randn(1, 1, 16, 16, 16))
    torch.testing.assert_close(first, kept, rtol=0, atol=0)


@pytest.mark.parametrize(("dims", "axes"), [(2, []), (3, []), (3, ["left-right", "head-foot"])])
def test_labels_are_those_of_torch_on_any_grid(
    dims: int, axes: list[str], make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    model = load_model(make_model(dims))
    model = mirrored(model, axes) if axes else model
    volume = as_volume(scan[None])
    by_torch = Predictor(model, device="cpu").predict(volume, probabilities=True)
    found = Predictor(model, device="cpu", engine="openvino").predict(volume, probabilities=True)
    assert np.mean(found.labels != by_torch.labels) < 1e-3
    assert found.probabilities is not None
    assert by_torch.probabilities is not None
    np.testing.assert_allclose(found.probabilities, by_torch.probabilities, atol=1e-3)


def test_a_network_that_computes_something_else_there_is_refused(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = engine.Compiled.forward
    monkeypatch.setattr(engine.Compiled, "forward", lambda self, x: forward(self, x).flip(1))
    with pytest.raises(ConfigError, match="engine torch"):
        engine.Compiled(model, (16, 16, 16))


def test_an_operator_without_a_form_is_refused(model: TrainedModel) -> None:
    class Eigenvalues(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.eigvals(x).real.expand(len(x), 3, 16, 16, 16)

    own = TrainedModel(
        network=Eigenvalues(), card=model.card, source=model.source, sha256=model.sha256
    )
    with pytest.raises(ConfigError, match="engine torch"):
        engine.Compiled(own, (16, 16, 16))


@pytest.mark.parametrize(
    ("name", "device", "precision"),
    [("tensorrt", "cpu", "fp32"), ("openvino", "cuda", "fp32"), ("openvino", "cpu", "bf16")],
)
def test_other_engines_devices_and_precisions_are_refused(
    name: str, device: str, precision: str, model: TrainedModel
) -> None:
    options = {"device": torch.device(device), "precision": precision}
    with pytest.raises(ConfigError, match="torch"):
        engine.with_engine(model, name, (16, 16, 16), **options)


def test_a_missing_library_is_named_with_what_installs_it(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ResourceError, match=r"medseg\[openvino\]"):
        engine.Compiled(model, (16, 16, 16))


def test_its_makers_are_not_told_of_it(compiled: engine.Compiled) -> None:
    assert sys.modules.get("openvino_telemetry") is None


def test_the_report_tells_the_engine_and_continue_heeds_it(
    model_folder: Path,
    scan: np.ndarray,
    save_scan: SaveScan,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
) -> None:
    image, out = save_scan(scan, "a scan.nii.gz"), tmp_path / "out"
    words = ["-m", str(model_folder), "-i", str(image), "-o", str(out), "-d", "cpu", "--continue"]

    def engine_used(*more: str) -> str:
        assert main([*words, *more]) == 0
        return json.loads((out / "a scan.json").read_text())["engine"]

    assert engine_used() == "torch"
    assert engine_used("--engine", "openvino") == "openvino"
    capsys.readouterr()
    assert engine_used("--engine", "openvino") == "openvino"
    assert "already done" in capsys.readouterr().out
