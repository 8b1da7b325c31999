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
)


def ellipsoid(*shape: int) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(float(n)) for n in shape), indexing="ij")
    middle, radius = [n * (0.4 + 0.2 * float(torch.rand(()))) for n in shape], torch.rand(3)
    parts = zip(axes, middle, shape, radius, strict=False)
    return sum(((a - m) / (n * (0.2 + 0.2 * r))) ** 2 for a, m, n, r in parts) < 1


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
            found = boundary_histograms(labels[None], period, origin).get(axis)
            assert found is None if step == 1 else found.tolist() == counts

    @settings(max_examples=20)
    @given(st.permutations(range(4)), st.integers(1, 12))
    def test_names_of_labels_and_cuts_change_nothing(self, names, cut) -> None:
        labels = torch.randint(0, 4, (14, 9), generator=torch.manual_seed(cut))
        whole = boundary_histograms(labels[None], (4, 2), (0, 0))
        renamed = boundary_histograms(torch.tensor(names)[labels][None], (4, 2), (0, 0))
        assert torch.equal(renamed[1], whole[1])
        if 4 <= cut <= 9:  # two parts that share one row
            upper = boundary_histograms(labels[None, : cut + 1], (4, 2), (0, 0))[0]
            lower = boundary_histograms(labels[None, cut:], (4, 2), (cut, 0))[0]
            assert torch.equal(upper + lower, whole[0])


class TestSnapping:
    @pytest.mark.parametrize(("dims", "step"), [(1, 2), (2, 2), (2, 3), (3, 2), (3, 4)])
    def test_a_nearest_mask_lies_on_the_grid(self, dims, step) -> None:
        coarse = ellipsoid(*[20] * dims)[None, None].double()
        mask = functional.interpolate(coarse, scale_factor=step, mode="nearest")[0]
        assert boundary_snapping(boundary_histograms(mask, [step] * dims, [0] * dims)) == 1

    @pytest.mark.parametrize("dims", [2, 3])
    def test_free_boundaries_ignore_it(self, dims) -> None:
        masks = torch.stack([ellipsoid(*[48] * dims) for _ in range(12)])
        assert abs(boundary_snapping(boundary_histograms(masks, [2] * dims, [0] * dims))) < 0.1

    def test_a_map_without_boundaries(self) -> None:
        empty = boundary_histograms(torch.ones(1, 9), (2,), (0,))
        assert boundary_snapping(empty) is None
        assert boundary_distance(empty, {0: torch.tensor([1, 0])}) is None


class TestDistance:
    def test_is_zero_to_itself_and_symmetric(self) -> None:
        one, two = ({0: torch.tensor(counts)} for counts in ([3, 1, 4], [2, 7, 1]))
        assert boundary_distance(one, one) == 0
        assert boundary_distance(one, two) == boundary_distance(two, one) > 0
        assert boundary_distance({0: torch.tensor([5, 0])}, {0: torch.tensor([0, 2])}) == 1
