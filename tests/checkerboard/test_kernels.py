"""Taps of layers on their output grid against the layers themselves, and their two gains."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from medseg.blocks import upsample
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    kernel_gains,
    noise_gain_imbalance,
    overlap_imbalance,
)
from medseg.checkerboard.kernels import UpsamplingLayer
from medseg.checkerboard.layers import upsampling_period
from medseg.layers.ndim import linear_mode
from medseg.layers.resampling import BoxBlur, DepthToSpace, Upsampling

from .taps import DIMS, LINEAR, NAILS, NEAREST, ODD_LINEAR, ONES, TRANSPOSED, kernel_of, over_axes

COMPOSITES = [
    upsample.PixelShuffle(),
    upsample.PixelShuffle(kernel_size=1, blur=True),
    upsample.BedOfNails(),
    upsample.SmoothedTransposed(kernel_size=3),
    upsample.LargeKernelTransposed(kernel_size=5),
]
_TRANSPOSE = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d,
              3: functional.conv_transpose3d}  # fmt: skip


def assert_is_shifted(found: torch.Tensor, expected: torch.Tensor) -> None:
    """Equal but for where the answer starts: the grid of the layer is trimmed."""
    assert found.abs().sum() == pytest.approx(float(expected.abs().sum()))
    spectra = [torch.fft.fftn(t, s=[24] * (t.ndim - 2), dim=tuple(range(2, t.ndim))).abs()
               for t in (found, expected)]  # fmt: skip
    torch.testing.assert_close(*spectra)


@pytest.mark.parametrize("dims", DIMS)
class TestKernel:
    @pytest.mark.parametrize(
        ("kernel", "stride", "dilation", "groups"), [(3, 2, 1, 1), (2, 3, 2, 1), (3, 2, 3, 2)]
    )
    def test_a_transposed_layer_is_one_with_stride_and_these_taps(
        self, dims, kernel, stride, dilation, groups
    ) -> None:
        layer = TRANSPOSED[dims - 1](4, 6, kernel, stride, dilation=dilation, groups=groups)
        layer = layer.double()
        x = torch.randn(1, 4, *(5, 4, 3)[:dims], dtype=torch.float64)
        taps = UpsamplingLayer(layer).kernel
        found = _TRANSPOSE[dims](x, taps, layer.bias, stride=UpsamplingLayer(layer).stride)
        torch.testing.assert_close(found, layer(x))
        assert not taps.requires_grad

    @pytest.mark.parametrize("block", COMPOSITES, ids=repr)
    def test_layers_held_together(self, dims, block) -> None:
        layer = block(dims, 3, 2, 2)
        taps = UpsamplingLayer(layer).kernel
        assert taps.shape[:2] == (3, 2)
        assert taps.ndim == dims + 2
        layer = layer.double()
        x = torch.zeros(1, 3, *[11] * dims, dtype=torch.float64)
        x[(0, slice(None), *[5] * dims)] = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
        with torch.no_grad():
            answer = layer(x) - layer(torch.zeros_like(x))
        one = x[(..., *[slice(5, 6)] * dims)]
        assert_is_shifted(answer, _TRANSPOSE[dims](one, taps, stride=(2,) * dims))
        found, black_box = kernel_gains(taps, layer.scale), UpsamplingLayer(layer).gains
        torch.testing.assert_close(found, black_box)

    @pytest.mark.parametrize(
        ("mode", "taps"), [("nearest", NEAREST), ("nearest-exact", NEAREST), ("linear", LINEAR)]
    )
    def test_interpolations(self, dims, mode, taps) -> None:
        layer = nn.Upsample(scale_factor=2, mode=linear_mode(dims) if mode == "linear" else mode)
        assert_is_shifted(UpsamplingLayer(layer, dims).kernel, kernel_of(taps, dims))
        assert UpsamplingLayer(layer, dims).stride == (2,) * dims


def test_anisotropic_strides() -> None:
    layer = upsample.Interpolate()(3, 2, 2, (1, 2, 3))[1]
    taps = UpsamplingLayer(layer).kernel
    assert UpsamplingLayer(layer).stride == (1, 2, 3)
    torch.testing.assert_close(kernel_gains(taps, (1, 2, 3)), torch.ones(6, 1, 1).double())
    shuffle = upsample.PixelShuffle(kernel_size=1)(3, 2, 2, (1, 2, 3))
    assert UpsamplingLayer(shuffle).kernel.shape == (2, 2, 1, 2, 3)


class TestRefusal:
    @pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 3), nn.PixelShuffle(2)])
    def test_other_layers(self, layer) -> None:
        for name in ("kernel", "stride", "gains"):
            with pytest.raises(TypeError, match=r"is no upsampling .*; hold"):
                getattr(UpsamplingLayer(layer), name)

    @pytest.mark.parametrize("inside", [nn.ReLU(), nn.Tanh()])
    def test_layers_that_are_not_linear(self, inside) -> None:
        layer = Upsampling(
            nn.Sequential(nn.Conv2d(2, 4, 1), inside, DepthToSpace((2, 2))), 2, (2, 2)
        )
        with pytest.raises(ValueError, match="not linear"):
            _ = UpsamplingLayer(layer).gains
        assert upsampling_rows(layer)[0].values["dc_gain"] is None

    def test_corners_that_are_put_on_each_other(self) -> None:
        layer = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        with pytest.raises(ValueError, match="align_corners=False"):
            _ = UpsamplingLayer(layer).kernel
        assert dc_gain_imbalance(UpsamplingLayer(layer).gains) == 0

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_weights_that_are_not_finite(self, bad) -> None:
        layer = nn.ConvTranspose2d(1, 1, 2, 2)
        nn.init.constant_(layer.weight, bad)
        with pytest.raises(ValueError, match=r"4 of 4 weights are NaN or infinite.*; take"):
            _ = UpsamplingLayer(layer).gains
        shuffle = Upsampling(nn.Sequential(nn.Conv2d(1, 4, 1), DepthToSpace((2, 2))), 1, (2, 2))
        nn.init.constant_(shuffle.layers[0].weight, bad)
        with pytest.raises(ValueError, match="NaN or infinite"):
            _ = UpsamplingLayer(shuffle).gains
        assert all(
            r.values["dc_gain"] is None for r in upsampling_rows(nn.Sequential(layer, shuffle))
        )


class TestOneScaleForAllAxes:
    def test_without_one_all_axes_are_equal(self) -> None:
        nearest = nn.Upsample(scale_factor=3)
        assert UpsamplingLayer(nearest).gains.shape == (3, 1, 1)
        assert UpsamplingLayer(nearest, 2).gains.shape == (9, 1, 1)
        assert upsampling_rows(nearest)[0].values["dc_gain"] == 0
        for name in ("stride", "kernel"):
            with pytest.raises(ValueError, match="give dims"):
                getattr(UpsamplingLayer(nearest), name)
        with pytest.raises(ValueError, match="give dims"):
            upsampling_period(nearest)


@pytest.mark.parametrize("dims", DIMS)
class TestNoise:
    @pytest.mark.parametrize(
        ("taps", "one"), [(NAILS, 0.5), (NEAREST, 0), (LINEAR, 0), (ODD_LINEAR, 0.1), (ONES, 0.1)]
    )
    def test_the_table(self, dims, taps, one) -> None:
        found = noise_gain_imbalance(kernel_of(taps, dims), (2,) * dims)
        assert found == pytest.approx(over_axes(one, dims), abs=1e-11)

    @pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (5, 3)])
    def test_random_weights_expect_the_overlap(self, dims, kernel, stride) -> None:
        weight = torch.randn(40, 40, *[kernel] * dims)
        expected = overlap_imbalance((kernel,) * dims, (stride,) * dims)
        found = noise_gain_imbalance(weight, (stride,) * dims)
        assert found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("stride", [2, 3])
def test_a_box_of_the_stride_repairs_any_kernel(dims, stride) -> None:
    scale = (stride,) * dims
    transposed = upsample.Transposed(kernel_size=stride + 1)(dims, 3, 2, scale)
    assert dc_gain_imbalance(UpsamplingLayer(transposed).gains) > 0.1
    layer = Upsampling(nn.Sequential(transposed, BoxBlur(scale)), 3, scale)
    assert dc_gain_imbalance(UpsamplingLayer(layer).gains) < 1e-12


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    factor=st.sampled_from([-2.0, 1e-7, 1e7]),
    shift=st.integers(0, 2),
    bias=st.floats(-9, 9),
)
def test_neither_scale_nor_shift_nor_bias_nor_rotation_matters(seed, factor, shift, bias) -> None:
    layer = nn.ConvTranspose2d(2, 3, 3, (2, 3)).double()
    weight = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(seed)).double()
    layer.weight.data = weight
    nn.init.constant_(layer.bias, bias)
    turn = torch.linalg.qr(weight[0, :, :, 0]).Q
    moved = functional.pad(factor * weight, (shift, 0, 2 * shift, 0))
    moved = torch.einsum("io...,oq->iq...", moved, turn)
    taps = UpsamplingLayer(layer).kernel
    for measure in (noise_gain_imbalance, lambda k, s: dc_gain_imbalance(kernel_gains(k, s))):
        assert measure(moved, (2, 3)) == pytest.approx(measure(taps, (2, 3)), abs=1e-9)
