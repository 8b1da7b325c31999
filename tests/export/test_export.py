"""`medseg export` on a small network, and what is made of it run by other programs."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from medseg.cli.export import main
from medseg.cli.predict import main as predict
from medseg.errors import ConfigError
from medseg.export import onnx_file, program
from medseg.models.description import build_network
from medseg.models.weights import TrainedModel

from ..models.grid import network_cells, network_of, text_of

SaveScan = Callable[..., Path]


@pytest.fixture(scope="module")
def exported(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("onnx") / "with spaces"
    assert main([str(model_folder), "-o", str(out), "--format", "onnx"]) == 0
    return out


def test_the_file_says_what_it_is(exported: Path, model: TrainedModel) -> None:
    graph = onnx.load(exported / "model.onnx")
    props = {prop.key: prop.value for prop in graph.metadata_props}
    card = json.loads(props["medseg"])
    assert card["classes"] == model.card.classes
    assert card["preprocessing"] == model.card.preprocessing
    assert card["weights_sha256"] == model.sha256
    (opset,) = [each.version for each in graph.opset_import if each.domain == ""]
    assert card["opset"] == opset


@pytest.mark.parametrize("size", [(2, 16, 16, 16), (1, 8, 30, 4)])
def test_any_multiple_of_the_stride_and_any_batch_goes_in(
    size: tuple[int, ...], exported: Path, model: TrainedModel
) -> None:
    session = onnxruntime.InferenceSession(exported / "model.onnx")
    image = torch.randn(size[0], 1, *size[1:])
    (logits,) = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model.network(image).numpy(), rtol=1e-3, atol=1e-4)


def test_the_script_gives_the_labels_of_predict_without_torch(
    exported: Path, model_folder: Path, save_scan: SaveScan, scan: np.ndarray, tmp_path: Path
) -> None:
    image = save_scan(scan, "a case.nii.gz")
    for name in ("torch", "medseg"):
        (tmp_path / "none" / name).mkdir(parents=True)
        (tmp_path / "none" / name / "__init__.py").write_text("raise ImportError")
    script = [sys.executable, "segment.py", "model.onnx", str(image), str(tmp_path / "out")]
    environment = {"PYTHONPATH": str(tmp_path / "none"), "PATH": ""}
    done = subprocess.run(script, cwd=exported, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert predict(["-m", str(model_folder), "-i", str(image), "-o", str(tmp_path / "own")]) == 0
    got, wanted = (nib.load(tmp_path / f / "a case.nii.gz") for f in ("out", "own"))
    np.testing.assert_allclose(got.affine, wanted.affine)
    assert got.get_data_dtype() == wanted.get_data_dtype()
    differ = np.asarray(got.dataobj) != np.asarray(wanted.dataobj)
    assert np.count_nonzero(differ) <= 1e-4 * differ.size
    again = subprocess.run(script, cwd=exported, env=environment, capture_output=True, text=True)
    assert again.returncode == 3  # what is there stays


def test_torch_s_own_form_takes_other_sizes(
    model_folder: Path, model: TrainedModel, tmp_path: Path
) -> None:
    assert main([str(model_folder), "-o", str(tmp_path), "--format", "torch"]) == 0
    extra = {"model.json": ""}
    loaded = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["model.json"])["classes"] == model.card.classes
    image = torch.randn(1, 1, 12, 6, 20)
    torch.testing.assert_close(loaded.module()(image), model.network(image))


def test_a_form_that_computes_something_else_is_refused(model: TrainedModel) -> None:
    with pytest.raises(ConfigError):
        program.compared(model, [(4, 4, 4)], lambda image: -model.network(image))


def test_what_is_there_and_is_not_medseg_s_stays(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt2").write_text("mine")
    assert main([str(model_folder), "-o", str(tmp_path), "--format", "torch"]) == 2
    assert (tmp_path / "model.pt2").read_text() == "mine"


@pytest.mark.slow
@pytest.mark.parametrize("cell", network_cells(), ids=text_of)
def test_every_two_blocks_in_onnx(cell: dict, model: TrainedModel, tmp_path: Path) -> None:
    """Refused with the operator's name, or equal to the network."""
    description = network_of(cell)
    network = build_network(description).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    card = replace(model.card, network=description, patch_size=[16] * cell["dims"])
    own = replace(model, network=network, card=card)
    onnx_file.write_onnx(own, tmp_path)
    assert (tmp_path / "model.onnx").is_file()
