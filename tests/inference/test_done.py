import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.data.dataset import Scan
from medseg.inference import files
from medseg.inference.files import Outputs, predict_file
from medseg.inference.predictor import Predictor
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import case_id

SaveScan = Callable[..., Path]
MakeModel = Callable[..., Path]


def scan_of(source: Path) -> Scan:
    return Scan(case_id=case_id(source), images=(source,))


def predict(source: Path, model: TrainedModel, **options) -> Outputs:
    outputs = Outputs.of(scan_of(source), source.parent / "out")
    predictor = Predictor(model, device="cpu")
    predict_file(scan_of(source), outputs, model=model, predictor=predictor, **options)
    return outputs


def is_done(source: Path, outputs: Outputs, model: TrainedModel, **options) -> bool:
    predictor = Predictor(model, device="cpu")
    return files.is_done(scan_of(source), outputs, model, predictor=predictor, **options)


def test_a_prediction_is_done_for_this_input_and_these_weights_only(
    scan: np.ndarray, model: TrainedModel, make_model: MakeModel, save_scan: SaveScan
) -> None:
    source = save_scan(scan)
    outputs = Outputs.of(scan_of(source), source.parent / "out")
    assert not is_done(source, outputs, model)
    predict(source, model)
    assert is_done(source, outputs, model)
    assert not is_done(source, outputs, model, probabilities=True)
    other = load_model(make_model(3, in_channels=2))
    assert other.sha256 != model.sha256
    assert not is_done(source, outputs, other)
    save_scan(scan + 1)
    assert not is_done(source, outputs, model)
    predict(source, model, probabilities=True)
    assert is_done(source, outputs, model, probabilities=True)


@pytest.mark.parametrize("part", ["labels", "report"])
@pytest.mark.parametrize("fault", ["gone", "cut", "other"])
def test_a_prediction_with_a_broken_part_is_not_done(
    part: str, fault: str, scan: np.ndarray, model: TrainedModel, save_scan: SaveScan
) -> None:
    source = save_scan(scan)
    outputs = predict(source, model)
    path = getattr(outputs, part)
    if fault == "gone":
        path.unlink()
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    elif part == "labels":
        shutil.copy(save_scan(np.zeros((4, 4, 4), np.uint8), "small.nii.gz"), path)
    else:
        path.write_text("[]")
    assert not is_done(source, outputs, model)
