"""Gradients of strided convolutions, and what stacks of dilated ones see."""

import pytest
import torch
from torch import nn

from medseg.checkerboard.gradients import StridedLayer
from medseg.checkerboard.gridding import composed_kernel, coverage, gridding_imbalance
from medseg.checkerboard.imbalance import dc_gain_imbalance, kernel_gains
from medseg.checkerboard.kernels import UpsamplingLayer

from .taps import CONV, DIMS, TRANSPOSED


def stack(dims: int, rates: list[int], kernel: int = 3) -> torch.Tensor:
    """What one output of all-ones convolutions with these dilations sees."""
    kernels = [torch.ones([kernel] * dims, dtype=torch.float64)] * len(rates)
    return composed_kernel(kernels, [(rate,) * dims for rate in rates])


@pytest.mark.parametrize("dims", DIMS)
class TestGradient:
    @pytest.mark.parametrize("dilation", [1, 2, 3])
    def test_is_the_imbalance_of_the_transposed_convolution(self, dims, dilation) -> None:
        conv = CONV[dims - 1](2, 3, 3, 2, dilation=dilation)
        adjoint = TRANSPOSED[dims - 1](3, 2, 3, 2, dilation=dilation)
        adjoint.weight = conv.weight
        found = StridedLayer("", conv)
        torch.testing.assert_close(found.kernel, UpsamplingLayer(adjoint).kernel)
        expected = dc_gain_imbalance(UpsamplingLayer(adjoint).gains)
        assert found.imbalance() == pytest.approx(expected, abs=1e-11)

    @pytest.mark.parametrize(("kernel", "stride", "groups"), [(3, 2, 1), (3, 2, 2), (2, 3, 1)])
    def test_is_what_autograd_leaves_on_the_input(self, dims, kernel, stride, groups) -> None:
        conv = CONV[dims - 1](2, 4, kernel, stride, groups=groups).double()
        x = torch.zeros(1, 2, *[stride * 8] * dims, dtype=torch.float64, requires_grad=True)
        conv(x).sum().backward()
        assert x.grad is not None
        cell = x.grad[(0, slice(None), *[slice(4 * stride, 5 * stride)] * dims)].flatten(1).T
        gains = kernel_gains(StridedLayer("", conv).kernel, conv.stride)
        torch.testing.assert_close(gains.sum(dim=1), cell)


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
        # voxels outside the receptive field do not count
        assert coverage(x.grad[0, 0]) == coverage(composed) == 1
        expected = gridding_imbalance(composed, (2, 2))
        assert gridding_imbalance(x.grad[0, 0], (2, 2)) == pytest.approx(expected)

    def test_axes_of_their_own(self) -> None:
        field = composed_kernel([torch.ones(3, 2)], [(2, 1)])
        assert field.shape == (5, 2)
        assert gridding_imbalance(field, (2, 1)) == 0.5
        assert gridding_imbalance(field, (1, 2)) == 0
        assert coverage(field) == 0.6
