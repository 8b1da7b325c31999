"""Cycle-spun predictions: moved, predicted, moved back, averaged."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard import Study
from medseg.checkerboard.decision import cycle_spun_prediction, examine, phase_shifts, whole_shifts
from medseg.data.dataset import Scan
from medseg.inference.predictor import Predictor
from medseg.volumes import read_image, write_labels


class Printing(nn.Module):
    """Three classes from the image, plus a pattern on every second plane of the window."""

    def __init__(self, amplitude: float):
        super().__init__()
        self.amplitude = amplitude
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[2]).reshape(-1, *[1] * (x.ndim - 3))
        pattern = self.amplitude * (places % 2).float()
        return torch.cat([torch.zeros_like(x), x + pattern, x - 1], dim=1)


def printing(model, amplitude: float, **options) -> Predictor:
    return Predictor(replace(model, network=Printing(amplitude)), device="cpu", **options)


@pytest.mark.parametrize("period", [(2, 2), (4, 1, 2), (8,), (2, 2, 2)])
def test_phase_shifts_differ_and_begin_with_none(period) -> None:
    shifts = phase_shifts(period, 6)
    assert shifts[0] == (0,) * len(period)
    assert len(set(shifts)) == len(shifts) == min(6, int(np.prod(period)))
    assert all(0 <= step < p for shift in shifts for step, p in zip(shift, period, strict=True))


@pytest.mark.parametrize("period", [(2, 2), (4, 1, 2), (8,)])
def test_whole_shifts_differ_and_move_no_phase(period) -> None:
    shifts = whole_shifts(period, 5)
    assert shifts[0] == (0,) * len(period)
    assert len(set(shifts)) == len(shifts) == 5
    assert all(step % p == 0 for shift in shifts for step, p in zip(shift, period, strict=True))
    assert all(
        step == 0 for shift in shifts for step, p in zip(shift, period, strict=True) if p == 1
    )


def test_what_moves_with_the_image_does_not_deviate(model) -> None:
    predictor = printing(model, 0.0, overlap=0.5)
    image = torch.randn(1, 20, 17, 9)
    probabilities, deviation = cycle_spun_prediction(predictor, image, phase_shifts((2, 2, 2), 5))
    torch.testing.assert_close(
        probabilities, torch.softmax(predictor.logits(image), dim=0), rtol=1e-4, atol=1e-6
    )
    assert float(deviation.max()) < 1e-5


def test_a_pattern_on_the_grid_deviates_by_its_own_size(model) -> None:
    predictor = printing(model, 0.6, overlap=0.0)
    image = torch.randn(1, 15, 16, 16)
    _, deviation = cycle_spun_prediction(predictor, image, [(0, 0, 0), (1, 0, 0)])
    # one window holds either: a voxel meets the pattern in one of the two shifts
    assert deviation[0].flatten().tolist() == pytest.approx([0.3] * 15 * 16**2, abs=1e-5)
    assert float(deviation[1].max()) < 1e-5


def test_the_effect_is_scored_on_the_volumes_own_grid(model, phantom, tmp_path) -> None:
    predictor = Predictor(model, device="cpu")
    source, label = sorted((phantom / "imagesTr").iterdir())[0], tmp_path / "label.nii.gz"
    image = read_image(source, channels=1)
    write_labels(label, predictor.predict(image).labels, image)
    study = Study(predictor.network, model.card, shifts=2)
    scan = Scan(case_id="a", images=(source,))
    case = examine(scan, label, study=study, predictor=predictor, spin=tmp_path / "map.nii.gz")
    found = case.values["decision"]
    assert found["dice"] == found["surface_dice"] == 1
    assert found["dice_spun"] < 1
    assert found["dice_change"] == found["dice_spun"] - found["dice_control"]
    record = study.record()
    assert record.cases == [case]
    assert record.means["dice_change"].mean == found["dice_change"]
