"""Gradients of strided convolutions, and what stacks of dilated ones see."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from medseg.checkerboard.gradients import gradient_gains, gradient_imbalance
from medseg.checkerboard.gridding import composed_kernel, coverage, gridding_imbalance, phase_masses
from medseg.checkerboard.imbalance import dc_gain_imbalance
from medseg.checkerboard.kernels import phase_gains

from .taps import CONV, DIMS, TRANSPOSED, ones, outer, over_axes


def stack(dims: int, rates: list[int], kernel: int = 3) -> torch.Tensor:
    """What one output of all-ones convolutions with these dilations sees."""
    kernels = [torch.ones([kernel] * dims, dtype=torch.float64)] * len(rates)
    return composed_kernel(kernels, [(rate,) * dims for rate in rates])


@pytest.mark.parametrize("dims", DIMS)
class TestGradient:
    @pytest.mark.parametrize(
        ("kernel", "one"), [(1, 0.5), (2, 0), (3, 0.1), (4, 0), (5, 1 / 26), (7, 0.02)]
    )
    def test_the_table(self, dims, kernel, one) -> None:
        found = gradient_imbalance(ones(CONV, dims, kernel, 2))
        assert found == pytest.approx(over_axes(one, dims), abs=1e-11)

    @pytest.mark.parametrize("dilation", [1, 2, 3])
    def test_is_the_imbalance_of_the_transposed_convolution(self, dims, dilation) -> None:
        conv = CONV[dims - 1](2, 3, 3, 2, dilation=dilation)
        adjoint = TRANSPOSED[dims - 1](3, 2, 3, 2, dilation=dilation)
        adjoint.weight = conv.weight
        torch.testing.assert_close(gradient_gains(conv), phase_gains(adjoint))
        expected = dc_gain_imbalance(phase_gains(adjoint))
        assert gradient_imbalance(conv) == pytest.approx(expected, abs=1e-11)

    @pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (3, 2, 2), (2, 3, 1)])
    def test_is_what_autograd_leaves_on_the_input(self, dims, kernel, stride, groups) -> None:
        conv = CONV[dims - 1](2, 4, kernel, stride, groups=groups).double()
        x = torch.zeros(1, 2, *[stride * 8] * dims, dtype=torch.float64, requires_grad=True)
        conv(x).sum().backward()
        assert x.grad is not None
        cell = x.grad[(0, slice(None), *[slice(4 * stride, 5 * stride)] * dims)].flatten(1).T
        torch.testing.assert_close(gradient_gains(conv).sum(dim=1), cell)
        every = torch.ones(4, 4)
        found = gradient_imbalance(conv, every)
        assert found == pytest.approx(dc_gain_imbalance(cell), abs=1e-9)

    def test_a_binomial_blur_has_none(self, dims) -> None:
        conv = CONV[dims - 1](1, 1, 3, 2)
        conv.weight.data = outer([1.0, 2, 1], dims)[None, None].float()
        assert gradient_imbalance(conv) == 0


class TestRefusal:
    def test_no_stride(self) -> None:
        with pytest.raises(ValueError, match="phases=1"):
            gradient_imbalance(nn.Conv2d(1, 1, 3))

    def test_no_convolution(self) -> None:
        with pytest.raises(TypeError, match="MaxPool2d is no convolution"):
            gradient_gains(nn.MaxPool2d(2))

    def test_no_weights(self) -> None:
        conv = nn.Conv2d(1, 1, 3, 2)
        nn.init.zeros_(conv.weight)
        with pytest.raises(ValueError, match="all 9 taps are 0"):
            gradient_imbalance(conv)
        nn.init.constant_(conv.weight, math.nan)
        with pytest.raises(ValueError, match="9 of 9 weights are NaN"):
            gradient_imbalance(conv)


@pytest.mark.parametrize("dims", DIMS)
class TestGridding:
    @pytest.mark.parametrize("factor", [2, 3])
    def test_a_common_factor_leaves_one_sub_grid(self, dims, factor) -> None:
        field = stack(dims, [factor, factor])
        found = gridding_imbalance(field, (factor,) * dims)
        assert found == pytest.approx(1 - factor**-dims, abs=1e-11)
        assert gridding_imbalance(stack(dims, [factor, 2 * factor]), (factor,) * dims) == found

    @pytest.mark.parametrize("rates", [[1], [3], [1, 3], [1, 1, 5]])
    def test_odd_dilations(self, dims, rates) -> None:
        expected = 1 - (1 + 9.0 ** -len(rates)) ** -dims
        found = gridding_imbalance(stack(dims, rates), (2,) * dims)
        assert found == pytest.approx(expected, abs=1e-11)

    def test_the_spectrum_is_a_product(self, dims) -> None:
        one, other = torch.randn([3] * dims).double(), torch.randn([2] * dims).double()
        composed = composed_kernel([one, other], [(2,) * dims, (1,) * dims])
        size = list(composed.shape)
        spread = torch.zeros([5] * dims).double()
        spread[(slice(None, None, 2),) * dims] = one
        product = torch.fft.fftn(spread, s=size) * torch.fft.fftn(other, s=size)
        torch.testing.assert_close(torch.fft.fftn(composed), product)


@pytest.mark.parametrize(
    ("rates", "covered", "imbalance"),
    [
        ([2, 2, 2], (7 / 13) ** 2, 0.75),
        ([2, 4, 8], (15 / 29) ** 2, 0.75),
        ([1, 2, 5], 1.0, over_axes(1 / 82, 2)),
        ([1, 2, 9], (21 / 25) ** 2, over_axes(1 / 82, 2)),
        ([1, 2, 4], 1.0, 0.19),
    ],
)
def test_the_stacks_of_two_axes(rates, covered, imbalance) -> None:
    field = stack(2, rates)
    assert coverage(field) == pytest.approx(covered, abs=1e-11)
    assert gridding_imbalance(field, (2, 2)) == pytest.approx(imbalance, abs=1e-11)


def test_three_at_three_leave_eight_ninths() -> None:
    field = stack(2, [3, 3, 3])
    assert gridding_imbalance(field, (3, 3)) == pytest.approx(8 / 9)
    assert coverage(field) == pytest.approx((7 / 19) ** 2)


class TestMap:
    def test_the_gradient_of_a_network_is_the_composed_kernel(self) -> None:
        layers = nn.Sequential(*(nn.Conv2d(1, 1, 3, dilation=rate) for rate in (1, 2))).double()
        x = torch.zeros(1, 1, 11, 11, dtype=torch.float64, requires_grad=True)
        layers(x)[0, 0, 2, 2].backward()
        assert x.grad is not None
        composed = composed_kernel(
            [layer.weight[0, 0] for layer in layers], [layer.dilation for layer in layers]
        )
        torch.testing.assert_close(x.grad[0, 0, 2:9, 2:9], composed)
        # voxels outside the reach do not count
        assert coverage(x.grad[0, 0]) == coverage(composed) == 1
        masses = phase_masses(x.grad[0, 0], (2, 2))
        assert float(masses.sum()) == pytest.approx(1)
        torch.testing.assert_close(masses, phase_masses(composed, (2, 2)))

    def test_axes_of_their_own(self) -> None:
        field = composed_kernel([torch.ones(3, 2)], [(2, 1)])
        assert field.shape == (5, 2)
        assert gridding_imbalance(field, (2, 1)) == 0.5
        assert gridding_imbalance(field, (1, 2)) == 0
        assert coverage(field) == 0.6

    def test_signs_do_not_cancel(self) -> None:
        assert phase_masses(torch.tensor([1.0, 1.0, -1.0, 1.0]), (2,)).tolist() == [0.5, 0.5]

    def test_scale_and_shift_do_not_matter(self) -> None:
        field = torch.randn(5, 4)
        moved = functional.pad(-1e-9 * field, (1, 0, 3, 0))
        expected = gridding_imbalance(field, (2, 3))
        assert gridding_imbalance(moved, (2, 3)) == pytest.approx(expected)
        assert coverage(moved) == coverage(field)

    @pytest.mark.parametrize(
        ("field", "period", "message"),
        [
            (torch.zeros(4), (2,), "all 4 gradients are 0"),
            (torch.tensor([1.0, math.nan]), (2,), "1 of 2 gradients are NaN"),
            (torch.ones(4), (1,), "phases=1"),
            (torch.ones(4), (2, 2), "one whole number for each of the 1 axes"),
            (torch.ones(4), (0,), "one whole number"),
        ],
    )
    def test_what_has_no_masses_is_refused(self, field, period, message) -> None:
        with pytest.raises(ValueError, match=message):
            gridding_imbalance(field, period)

    @pytest.mark.parametrize("field", [torch.zeros(4), torch.tensor([math.nan])])
    def test_nothing_is_not_covered(self, field) -> None:
        with pytest.raises(ValueError, match=r"are 0|are NaN"):
            coverage(field)

    @pytest.mark.parametrize(
        ("kernels", "dilations", "message"),
        [
            ([], [], "0 kernels"),
            ([torch.ones(3)], [], "1 kernels and 0 dilations"),
            ([torch.ones(3), torch.ones(3, 3)], [(1,), (1,)], "must be as many"),
            ([torch.ones(3)], [(0,)], "must be 1 or more"),
            ([torch.full((3,), math.nan)], [(1,)], "3 of 3 taps are NaN"),
        ],
    )
    def test_what_is_no_stack_is_refused(self, kernels, dilations, message) -> None:
        with pytest.raises(ValueError, match=message):
            composed_kernel(kernels, dilations)
