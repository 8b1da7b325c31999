"""The region of each window of a case is counted, by the phase of the window's own grid."""

import math

import pytest
import torch
from torch import Tensor, nn

from medseg.checkerboard.boundaries import boundary_snapping
from medseg.checkerboard.moments import ONE, halo, phase_moments
from medseg.checkerboard.seasonal import additive
from medseg.checkerboard.windows import CaseSums, Region, analysed_levels
from medseg.inference.sliding_window import slide, starts_along
from medseg.labelling import Labelling

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


CLASSES = Labelling(("one", "two"))


def watched(
    image: Tensor,
    patch: tuple[int, ...],
    period: tuple[int, ...],
    *,
    amplitude=0.0,
    truth=None,
    overlap=0.5,
) -> tuple[CaseSums, Tensor]:
    windows = CaseSums(period=period, patch_size=patch, labelling=CLASSES, truth=truth)
    network = Printing(period[0], amplitude)
    logits = slide(network, image[None], patch, overlap=overlap, observe=windows.start(image))
    return windows, logits[0]


def whole(gram: Tensor) -> float:
    return float(gram[:, ONE, ONE].sum())


@pytest.mark.parametrize("step", [2, 3, 4, 8])
def test_a_region_begins_at_any_phase_and_what_changes_like_a_line_is_no_grid(step) -> None:
    regions = [Region.drawn((step, 1), (64, 40), (80, 40), seed) for seed in range(4000)]
    assert len({region.length for region in regions}) == 1
    starts = torch.tensor([region.start[0] for region in regions])
    ends = starts + regions[0].length[0]
    assert (int(starts.min()) >= 8, int(ends.max()) <= 56) == (True, True)
    assert {(r.start[1], r.length[1]) for r in regions} == {(0, 40)}
    by_phase = [starts[starts % step == phase].double() for phase in range(step)]
    shares, places = zip(*((len(s) / 4000, float(s.mean())) for s in by_phase), strict=True)
    assert max(abs(share - 1 / step) for share in shares) < 0.035
    assert max(places) - min(places) < 0.07 * step + 0.1  # one uniform draw: step − 1


@pytest.mark.parametrize(
    ("window", "found"),
    [((128, 128), 4), ((64, 64), 3), ((40, 56, 40), 2), ((24, 24), 1), ((8, 8), 1)],
    ids=str,
)
def test_windows_without_room_are_analysed_at_fine_levels(window, found) -> None:
    levels = [(2**level,) * len(window) for level in range(1, 6)]
    assert analysed_levels(levels, window) == tuple(levels[:found])


@covering(
    grid=[(36, 32, 8), (37, 29, 5), (5, 40, 11), (3, 4, 5)],
    patch=[(16, 24, 4), (24, 24), (32, 16, 9)],
    overlap=[0.0, 0.5],
    period=[(2, 2, 1), (4, 2, 1)],
)
def test_the_region_of_every_window_is_counted(grid, patch, overlap, period) -> None:
    image, truth = torch.randn(1, *grid), torch.randint(0, 2, grid)
    period = period[: len(patch)]
    windows, _ = watched(image, patch, period, truth=truth, overlap=overlap)
    room = [n - 2 * max(s // 2 + 1, n // 8) - 2 * (s - 1) if s > 1 else n
            for n, s in zip(map(min, grid, patch), period, strict=True)]  # fmt: skip
    lengths = [max(0, n // s * s) for n, s in zip(room, period, strict=True)]
    if math.prod(lengths) < 8 * math.prod(period):
        assert windows.region is None
        return
    sizes = zip(grid, [*patch, *[1] * (3 - len(patch))], strict=True)
    expected = math.prod(lengths)
    expected *= math.prod(len(starts_along(n, p, overlap)) for n, p in sizes)
    assert int(windows.errors[1].sum()) == expected
    for group in ("prediction", "image", "truth"):
        assert whole(windows.moments(group)[0].gram) == expected
    assert windows.errors[1].unique().numel() == 1  # whole periods


def test_a_region_has_the_moments_of_its_voxels_by_phase_of_the_window() -> None:
    image = torch.randn(1, 32, 24, 3)
    windows, _ = watched(image, (32, 24), (4, 2))
    sums = 0
    for part in image[0].movedim(-1, 0):
        (top, left), margin = windows.region.start, halo((4, 2))
        cut = part[windows.region.within(margin, margin)]
        sums += phase_moments(cut, (4, 2), (top - margin[0], left - margin[1])).gram
    torch.testing.assert_close(windows.moments("prediction")[0].gram, sums, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(windows.moments("image")[0].gram, sums[:, :3, :3])


def test_a_pattern_on_the_grid_of_each_window_is_found_wherever_windows_start() -> None:
    image = torch.randn(1, 45, 20, 20)  # windows start at 0, 9, 18, …: either parity
    windows, blended = watched(image, (18, 18, 18), (2, 1, 1), amplitude=2.0)
    found = additive(windows.moments("prediction")[0])
    assert found.pattern.flatten().tolist() == pytest.approx([1.0, -1.0], abs=0.1)
    hidden = additive(phase_moments(blended[1] - blended[0], (2, 1, 1)))
    assert abs(float(hidden.pattern.flatten()[0])) < 0.3


def test_errors_are_counted_by_phase_of_their_window() -> None:
    truth = torch.zeros(24, 27, 4, dtype=torch.long)
    truth[1::2, ::3] = 1
    windows, _ = watched(-torch.ones(1, 24, 27, 4), (24, 27, 4), (2, 3, 1), truth=truth)
    wrong, voxels = windows.errors
    assert (wrong / voxels).tolist() == [0, 0, 0, 1, 0, 0]


def test_masks_and_boundaries_of_the_truth_are_counted_beside_the_prediction() -> None:
    truth = torch.zeros(32, 12, 8)
    truth[8:20] = 1
    windows, _ = watched(2 * truth[None] - 1, (32, 6, 4), (2, 1, 1), truth=truth.long())
    faces = {whose: found[0].tolist() for whose, found in windows.boundaries.items()}
    assert faces["prediction"] == faces["truth"] == [2 * 12 * 8 * 9 // 4, 0]
    assert [*windows.boundaries["prediction"]] == [0]


@pytest.mark.parametrize("size", [24, 40])
def test_boundaries_that_ignore_the_grid_have_no_snapping_on_average(size) -> None:
    """Of all W − 1 faces of a window, phase 0 has one less: −1 / (W − 1)."""
    found = []
    for seed in range(60):
        windows = CaseSums(period=(2, 2), patch_size=(size, size), labelling=CLASSES, seed=seed)
        logits = torch.randn(4, 2, size, size)
        windows.start(torch.zeros(1, size, size, 4))(logits[:, :1], logits, [(0, 0, 0)] * 4)
        found.append(boundary_snapping(windows.boundaries["prediction"]))
    error = torch.tensor(found).std() / 60**0.5
    assert abs(sum(found) / 60) < 3 * error < 1 / (size - 1)


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


def test_windows_without_room_have_no_moments() -> None:
    windows, _ = watched(torch.randn(1, 6, 6, 6), (8, 8, 8), (8, 8, 8))
    assert windows.moments("prediction") == []
    assert not windows.boundaries["prediction"]
