"""Every voxel of a case is counted once, in the phase of the window whose middle it is near to."""

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.moments import ONE, halo, phase_moments
from medseg.checkerboard.phases import trimmed
from medseg.checkerboard.seasonal import additive
from medseg.checkerboard.windows import CaseSums
from medseg.inference.sliding_window import slide, tiles

from ..pairwise import covering


class Printing(nn.Module):
    """Two classes; the second is the image plus a pattern on the window's own grid."""

    def __init__(self, period: int, amplitude: float = 0.0):
        super().__init__()
        self.period, self.amplitude = period, amplitude

    def forward(self, x: Tensor) -> Tensor:
        places = torch.arange(x.shape[2]).reshape(-1, *[1] * (x.ndim - 3))
        pattern = self.amplitude * (places % self.period == 0).float()
        return torch.cat([torch.zeros_like(x), x + pattern], dim=1)


def watched(
    image: Tensor,
    patch: tuple[int, ...],
    period: tuple[int, ...],
    *,
    amplitude=0.0,
    truth=None,
    overlap=0.5,
) -> tuple[CaseSums, Tensor]:
    windows = CaseSums(period=period, patch_size=patch, overlap=overlap, truth=truth)
    network = Printing(period[0], amplitude)
    logits = slide(network, image[None], patch, overlap=overlap, observe=windows.start(image))
    return windows, logits[0]


@covering(overlap=[0.0, 0.25, 0.5, 0.9], size=[3, 8, 9, 13, 16, 31])
def test_tiles_cover_an_axis_once_each_within_its_window(size, overlap) -> None:
    parts = tiles(size, 8, overlap)
    covered = [n for first, last in parts.values() for n in range(first, last)]
    assert covered == list(range(size))
    assert all(start <= first < last <= start + 8 for start, (first, last) in parts.items())


@covering(
    grid=[(16, 12, 8), (17, 9, 5), (5, 20, 11), (3, 4, 5)],
    patch=[(8, 8, 4), (8, 8), (16, 4, 9), (7, 5)],
    overlap=[0.0, 0.5],
)
def test_every_voxel_is_counted_once(grid, patch, overlap) -> None:
    image, truth = torch.randn(1, *grid), torch.randint(0, 2, grid)
    period = (2,) * len(patch)
    windows, logits = watched(image, patch, period, truth=truth, overlap=overlap)
    assert int(windows.errors[1].sum()) == truth.numel()
    assert int(windows.errors[0].sum()) == int((logits.argmax(0) != truth).sum())


@pytest.mark.parametrize(
    ("grid", "patch", "period"),
    [((32, 24, 16), (16, 8, 8), (4, 2, 2)), ((32, 24, 3), (16, 8), (4, 2)),
     ((24, 16, 16), (8, 8, 16), (2, 2, 1))],
)  # fmt: skip
def test_windows_that_start_at_phase_0_sum_up_to_the_whole(grid, patch, period) -> None:
    image = torch.randn(1, *grid)
    windows, _ = watched(image, patch, period)
    if len(patch) == 3:
        whole = phase_moments(image[0], period).gram
    else:
        whole = sum(phase_moments(s, period).gram for s in image[0].movedim(-1, 0))
    torch.testing.assert_close(windows.moments("prediction")[0].gram, whole, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(
        windows.moments("image")[0].gram, whole[:, :3, :3], rtol=1e-4, atol=1e-3
    )


def test_a_pattern_on_the_grid_of_each_window_is_found_wherever_windows_start() -> None:
    image = torch.randn(1, 45, 13, 13)  # windows start at 0, 5, 10, …: either parity
    windows, blended = watched(image, (10, 10, 10), (2, 1, 1), amplitude=2.0)
    found = additive(windows.moments("prediction")[0])
    assert found.pattern.flatten().tolist() == pytest.approx([1.0, -1.0], abs=0.1)
    hidden = additive(phase_moments(blended[1] - blended[0], (2, 1, 1)))
    assert abs(float(hidden.pattern.flatten()[0])) < 0.3


def test_errors_are_counted_by_phase_of_their_window() -> None:
    truth = torch.zeros(12, 9, 4, dtype=torch.long)
    truth[1::2, ::3] = 1
    windows, _ = watched(-torch.ones(1, 12, 9, 4), (12, 9, 4), (2, 3, 1), truth=truth)
    wrong, voxels = windows.errors
    assert (wrong / voxels).tolist() == [0, 0, 0, 1, 0, 0]


def test_masks_and_boundaries_of_the_truth_are_counted_beside_the_prediction() -> None:
    truth = torch.zeros(16, 12, 8)
    truth[4:12] = 1
    windows, _ = watched(2 * truth[None] - 1, (8, 6, 4), (2, 1, 1), truth=truth.long())
    faces = {whose: found[0].tolist() for whose, found in windows.boundaries.items()}
    assert faces["prediction"] == faces["truth"]
    assert [*windows.boundaries["prediction"]] == [0]
    assert faces["truth"][1] == 0  # boundaries before voxels 4 and 12
    inner = trimmed(truth, halo((2, 1, 1)))
    assert float(windows.moments("truth")[0].gram[:, ONE, ONE].sum()) == inner.numel()


def test_the_exemplar_is_the_window_with_the_most_foreground() -> None:
    image = -torch.ones(1, 24, 8, 8)
    image[:, 16:] = 1
    windows, _ = watched(image, (8, 8, 8), (2, 2, 2), truth=(image[0] > 0).long())
    exemplar = windows.exemplar
    assert bool((exemplar.image == 1).all())
    assert bool((exemplar.contrasts[0] == 1).all())
    assert bool(exemplar.truth.all())


def test_a_case_is_begun_anew_after_a_fault() -> None:
    windows, _ = watched(torch.full((1, 8, 8, 8), torch.nan), (8, 8, 8), (2, 2, 2))
    assert "not finite" in windows.fault
    assert windows.moments("prediction") == []
    windows.start(torch.zeros(1, 8, 8, 8))
    assert windows.fault == ""


def test_a_case_smaller_than_a_period_has_no_moments() -> None:
    windows, _ = watched(torch.randn(1, 6, 6, 6), (8, 8, 8), (8, 8, 8))
    assert windows.moments("prediction") == []
    assert not windows.boundaries["prediction"]
