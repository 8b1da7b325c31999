"""A study finds what a network prints, and nothing where it prints nothing."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard import Study
from medseg.inference.predictor import Predictor
from medseg.inference.sliding_window import slide
from medseg.record.checkerboard import band

pytestmark = pytest.mark.usefixtures("one_thread")
CASES = 9
GRID = (32, 32, 16)


class Decoder(nn.Module):
    """Halves the grid by means and brings it back by one transposed convolution; two classes."""

    def __init__(self, gains: list[float]):
        super().__init__()
        self.down = nn.AvgPool3d(2)
        self.up = nn.ConvTranspose3d(1, 2, 2, stride=2)
        with torch.no_grad():
            nn.init.zeros_(self.up.weight)
            nn.init.zeros_(self.up.bias)
            self.up.weight[0, 1] = torch.tensor(gains).reshape(2, 1, 1).expand(2, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(x))


def smooth_noise(seed: int) -> Tensor:
    noise = torch.randn(1, *GRID, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool3d(noise, 5, stride=1, padding=2)


def study_of(model, gains: list[float], images: list[Tensor], **options) -> Study:
    card = replace(model.card, patch_size=[16, 16, 16], classes=["organ"])
    study = Study(Decoder(gains), card, overlap=0.5, shifts=4, **options)
    for index, image in enumerate(images):
        watched = study.watch((image[0] > 0).long())
        with torch.no_grad():
            slide(study.network, image[None], [16] * 3, overlap=0.5, observe=watched.start(image))
        study.add(f"case {index}", watched)
    return study


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return [smooth_noise(seed) for seed in range(CASES)]


def test_unequal_phases_are_found_and_claimed(model, images) -> None:
    record = study_of(model, [1.2, 0.8], images).record()
    assert record.period == [2, 2, 2]
    # gains 1.2 and 0.8: the coefficient of variation is 0.2, a share of 0.04 / 1.04
    assert record.layers[0].values["dc_gain"] == pytest.approx(0.04 / 1.04)
    assert record.layers[0].values["dc_gain_mean"] == pytest.approx(0.04 / 1.04, rel=1e-3)
    assert record.means["gain"].mean == pytest.approx(0.2, abs=0.06)
    assert record.means["gain_excess"].low > 0.05
    assert band(record.means["gain"].mean) == "severe"
    assert record.prediction.p_value < 0.01
    assert record.prediction.coherence > 0.9
    assert record.image.p_value > 0.05
    assert record.notes == []


def test_equal_phases_are_clean(model, images) -> None:
    record = study_of(model, [1.0, 1.0], images).record()
    assert record.layers[0].values["dc_gain"] == 0
    assert record.constant_response < 1e-6
    assert record.prediction.coherence < 0.6
    locked = [case.get("cycle_spin", "cycle_spin_locked") for case in record.cases]
    assert max(locked) < 0.02
    assert all(case.values["cycle_spin"]["cycle_spin_self_test"] < 1e-9 for case in record.cases)


def test_a_grid_that_the_images_bring_along_is_not_the_networks(model, images) -> None:
    pattern = 0.3 * (torch.arange(GRID[0]) % 2).reshape(-1, 1, 1)
    record = study_of(model, [1.0, 1.0], [image + pattern for image in images]).record()
    assert record.image.p_value < 0.05
    assert record.image.r_squared > 0.01


def test_few_cases_have_sizes_and_no_claims(model, images) -> None:
    record = study_of(model, [1.2, 0.8], images[:7]).record()
    assert record.means["gain"].cases == 7
    assert record.means["gain"].low is None
    assert record.prediction.p_value is None


def test_only_so_many_cases_are_spun_and_kept(model, images) -> None:
    study = study_of(model, [1.2, 0.8], images[:4], cycle_spun=2, kept=1)
    record = study.record()
    assert ["cycle_spin" in case.values for case in record.cases] == [True, True, False, False]
    assert len(study.exemplars) == 1


def test_a_case_without_numbers_is_noted_and_the_others_count(model, images) -> None:
    broken = torch.full((1, *GRID), torch.nan)
    small = torch.zeros(1, 2, 2, 2)
    record = study_of(model, [1.2, 0.8], [images[0], broken, small]).record()
    assert record.means["gain"].cases == 1
    assert ["case 1" in record.notes[0], "case 2" in record.notes[1]] == [True, True]
    assert "not finite" in record.notes[0]
    assert "smaller than one period" in record.notes[1]


class OneSize(nn.Module):
    """Takes windows of its own size and nothing else, as some networks with attention do."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = Decoder([1.2, 0.8])

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2:] != (16, 16, 16):
            raise RuntimeError(f"expected (16, 16, 16), got {tuple(x.shape[2:])}")
        return self.decoder(x)


def test_what_a_foreign_network_does_not_allow_is_noted(model, images) -> None:
    card = replace(model.card, patch_size=[16, 16, 16], classes=["organ"])
    study = Study(OneSize(), card, overlap=0.5, shifts=3)
    watched = study.watch()
    with torch.no_grad():
        slide(
            study.network, images[0][None], [16] * 3, overlap=0.5, observe=watched.start(images[0])
        )
    study.add("case", watched)
    record = study.record()
    assert record.constant_response is None
    assert record.notes == ["no constant response: expected (16, 16, 16), got (8, 8, 8)"]
    assert record.cases[0].get("cycle_spin", "cycle_spin") > 0


def test_logits_of_a_predictor_are_the_watched_ones(model, scan, as_volume) -> None:
    predictor = Predictor(model, device="cpu")
    study = Study(predictor.network, model.card, overlap=predictor.overlap)
    watched = study.watch()
    predictor.predict(as_volume(scan[None]), observe=watched.start)
    study.add("scan", watched)
    assert study.record().means["gain"].cases == 1


def test_a_network_that_does_not_repeat_with_its_strides_is_said_to(model, images) -> None:
    card = replace(model.card, patch_size=[16, 16, 16], classes=["organ"])
    corners = nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True)
    study = Study(
        nn.Sequential(Decoder([1.0, 1.0]), nn.AvgPool3d(2), corners), card, overlap=0.5, shifts=3
    )
    watched = study.watch()
    with torch.no_grad():
        slide(
            study.network, images[0][None], [16] * 3, overlap=0.5, observe=watched.start(images[0])
        )
    study.add("case", watched)
    assert "does not repeat with it" in study.record().notes[0]
