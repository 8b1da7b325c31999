"""Boundaries of label maps by phase: nearest masks, checkerboards, free ellipses."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medseg.checkerboard.boundaries import (
    boundary_distance,
    boundary_histograms,
    boundary_snapping,
    saddle_rate,
)
from medseg.checkerboard.windows import ErrorCounts


def ellipsoid(*shape: int) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    middle, radius = [n * (0.4 + 0.2 * float(torch.rand(()))) for n in shape], torch.rand(3)
    parts = zip(axes, middle, shape, radius, strict=False)
    return sum(((a - m) / (n * (0.2 + 0.2 * r))) ** 2 for a, m, n, r in parts) < 1


def checker(size: int, dims: int = 2) -> torch.Tensor:
    places = torch.meshgrid(*[torch.arange(size)] * dims, indexing="ij")
    return torch.stack(places).sum(dim=0) % 2


class TestHistograms:
    @pytest.mark.parametrize("period", [(2,), (3, 2), (1, 4), (2, 1, 3)])
    def test_agree_with_a_loop(self, period) -> None:
        shape, origin = [9, 8, 7][: len(period)], [1, 5, 2][: len(period)]
        labels = torch.randint(0, 3, shape)
        for axis, step in enumerate(period):
            counts = [0] * step
            for index in itertools.product(*(range(n) for n in shape)):
                before = tuple(i - (a == axis) for a, i in enumerate(index))
                if before[axis] >= 0:
                    counts[(index[axis] + origin[axis]) % step] += int(
                        labels[index] != labels[before]
                    )
            found = boundary_histograms(labels, period, origin)[axis]
            assert found is None if step == 1 else found.tolist() == counts

    @settings(deadline=None, max_examples=20)
    @given(st.permutations(range(4)), st.integers(1, 12))
    def test_names_of_labels_and_cuts_change_nothing(self, names, cut) -> None:
        labels = torch.randint(0, 4, (14, 9), generator=torch.manual_seed(cut))
        (whole, across), renamed = boundary_histograms(labels, (4, 2)), torch.tensor(names)[labels]
        assert torch.equal(boundary_histograms(renamed, (4, 2))[1], across)
        if 4 <= cut <= 9:  # two parts that share one row
            upper = boundary_histograms(labels[: cut + 1], (4, 2))[0]
            lower = boundary_histograms(labels[cut:], (4, 2), (cut, 0))[0]
            assert torch.equal(upper + lower, whole)


class TestSnapping:
    @pytest.mark.parametrize(("dims", "step"), [(1, 2), (2, 2), (2, 3), (3, 2), (3, 4)])
    def test_a_nearest_mask_lies_on_the_grid(self, dims, step) -> None:
        coarse = ellipsoid(*[20] * dims)[None, None].double()
        mask = functional.interpolate(coarse, scale_factor=step, mode="nearest")[0, 0]
        for histogram in boundary_histograms(mask, [step] * dims):
            assert boundary_snapping(histogram) == 1

    @pytest.mark.parametrize("dims", [2, 3])
    def test_free_boundaries_ignore_it(self, dims) -> None:
        masks = [ellipsoid(*[48] * dims) for _ in range(12)]
        total = sum(boundary_histograms(mask, [2] * dims)[0] for mask in masks)
        assert abs(boundary_snapping(total)) < 0.1

    def test_a_map_without_boundaries(self) -> None:
        (empty,) = boundary_histograms(torch.ones(9), (2,))
        assert boundary_snapping(empty) is None
        assert boundary_distance(empty, torch.tensor([1, 0])) is None
        assert saddle_rate(torch.ones(9, 9)) is None


class TestDistance:
    def test_is_zero_to_itself_and_symmetric(self) -> None:
        one, two = torch.tensor([3, 1, 4]), torch.tensor([2, 7, 1])
        assert boundary_distance(one, one) == 0
        assert boundary_distance(one, two) == boundary_distance(two, one) > 0
        assert boundary_distance(torch.tensor([5, 0]), torch.tensor([0, 2])) == 1


class TestSaddles:
    @pytest.mark.parametrize("size", [2, 5, 32])
    def test_a_checkerboard(self, size) -> None:
        expected = (size - 1) ** 2 / (2 * size * (size - 1))
        assert saddle_rate(checker(size)) == pytest.approx(expected)

    def test_smooth_masks_have_hardly_any(self) -> None:
        assert saddle_rate(ellipsoid(96, 96)) < 0.02
        assert saddle_rate(torch.tensor([0, 1, 1, 0])) == 0

    def test_three_labels_at_a_corner_are_no_saddle(self) -> None:
        assert saddle_rate(torch.tensor([[0, 1], [2, 0]])) == 0


def test_errors_are_counted_by_phase() -> None:
    truth = torch.randint(0, 3, (2, 7, 9, 4))
    prediction = truth.clone()
    prediction[:, 1::2, ::3] += 1
    expected = torch.zeros(2, 3, 1)
    expected[1, 0] = 1
    for origin in ((0, 0, 0), (1, 1, 5)):
        counts = ErrorCounts((2, 3, 1))
        counts.add(prediction, truth, origin)
        rates = (counts.wrong / counts.voxels).reshape(2, 3, 1)
        assert rates.tolist() == expected.roll(origin[:2], dims=(0, 1)).tolist()
        assert int(counts.voxels.sum()) == truth.numel()


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="one phase"):
        boundary_histograms(torch.ones(3, 3), (1, 1))
    with pytest.raises(ValueError, match="smaller than one period"):
        boundary_histograms(torch.ones(3, 3), (2, 4))
