"""Taps and DC gains of layers against what the layers do to impulses and constants."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.blocks.upsample import SubpixelUpsample
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
from medseg.layers.ndim import linear_mode
from medseg.layers.parallel import Sum
from medseg.layers.resampling import BoxBlur, Upsampling

from ..pairwise import covering
from .taps import DIMS, LINEAR, NEAREST, TRANSPOSED, kernel_of

COMPOSITES = [
    upsample.PixelShuffle(),
    upsample.PixelShuffle(kernel_size=1),
    upsample.PixelShuffle(kernel_size=5, blur=True),
    upsample.PixelShuffle(init="icnr", blur=True),
    upsample.BedOfNails(),
    upsample.SmoothedTransposed(),
    upsample.SmoothedTransposed(kernel_size=5),
    upsample.LargeKernelTransposed(),
    upsample.LargeKernelTransposed(kernel_size=4, small_kernel_size=3),
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

    @pytest.mark.parametrize(
        ("mode", "taps"), [("nearest", NEAREST), ("nearest-exact", NEAREST), ("linear", LINEAR)]
    )
    def test_interpolations(self, dims, mode, taps) -> None:
        layer = nn.Upsample(scale_factor=2, mode=linear_mode(dims) if mode == "linear" else mode)
        assert_is_shifted(UpsamplingLayer(layer, dims).kernel, kernel_of(taps, dims))
        assert UpsamplingLayer(layer, dims).stride == (2,) * dims


def response_to_constants(layer: nn.Module, inputs: int, dims: int, strides) -> torch.Tensor:
    """Gains read off the layer's output, away from its border: `(phases, inputs, outputs)`."""
    gains = []
    for channel in range(inputs):
        x = torch.zeros(1, inputs, *[8] * dims, dtype=torch.float64)
        bias = layer.double()(x)
        x[:, channel] = 1
        out = (layer(x) - bias)[0]
        cells = tuple(slice(4 * s, 5 * s) for s in strides)  # one cell, far from every border
        gains.append(out[(slice(None), *cells)].flatten(1).T)
    return torch.stack(gains, dim=1).detach()


@covering(
    factory=COMPOSITES,
    grid=[(1, (2,)), (1, (3,)), (2, (2, 2)), (2, (1, 3)), (3, (2, 2, 2)), (3, (1, 2, 2))],
)
def test_the_gains_of_layers_held_together_are_their_answers_to_constants(factory, grid) -> None:
    dims, scale = grid
    layer = factory(dims, 3, 2, scale)
    answer = response_to_constants(layer, 3, dims, scale)
    torch.testing.assert_close(UpsamplingLayer(layer).gains, answer)


@pytest.mark.parametrize(
    "inside", [nn.Conv1d(2, 2, 3, padding=1), nn.Upsample(scale_factor=2, mode="linear")], ids=str
)
def test_branches_of_other_paddings_and_layers_in_turn(inside) -> None:
    first, second = nn.ConvTranspose1d(2, 2, 4, 2, 1), nn.ConvTranspose1d(2, 2, 5, 2, 2, 1)
    scale = (2 * int(getattr(inside, "scale_factor", 1)),)
    layer = Upsampling(nn.Sequential(Sum(first, second), inside), 2, scale)
    answer = response_to_constants(layer, 2, 1, scale)
    torch.testing.assert_close(UpsamplingLayer(layer).gains, answer)


def test_a_sequence_that_does_something_else_is_not_taken_apart() -> None:
    class Doubled(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    layer = Upsampling(Doubled(nn.ConvTranspose1d(1, 1, 2, 2)), 1, (2,))
    expected = 2 * UpsamplingLayer(layer.layers[0]).kernel
    torch.testing.assert_close(UpsamplingLayer(layer).kernel, expected)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (upsample.SmoothedTransposed(kernel_size=3), 0),
        (upsample.PixelShuffle(blur=True), 0),
        (upsample.PixelShuffle(init="icnr"), 0),
        (upsample.BilinearTransposed(), 0),
        (upsample.AdditiveInterpolate(), 0),
        (upsample.BedOfNails(), 0.75),
    ],
    ids=repr,
)
def test_the_blocks_of_known_imbalance(block, expected) -> None:
    (gain,) = upsampling_rows(block(2, 6, 3, 2))
    assert gain.values["dc_gain"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize(("dims", "scale"), [(1, 2), (2, 2), (2, 3), (3, 2)])
class TestSubpixelUpsample:
    def layer(self, dims: int, scale: int, pool: bool) -> SubpixelUpsample:
        layer = SubpixelUpsample(dims, 2, 3, scale, apply_pad_pool=pool).double()
        nn.init.normal_(layer.conv_block.weight)
        return layer

    def test_its_taps_are_its_answer(self, dims, scale, pool) -> None:
        layer = self.layer(dims, scale, pool)
        taps, middle = UpsamplingLayer(layer).kernel, 3
        x = torch.zeros(1, 2, *[7] * dims, dtype=torch.float64)
        bias = layer(x)
        x[(0, 1, *[middle] * dims)] = 1
        answer = (layer(x) - bias)[0].detach()
        # a convolution of 3 reaches one cell back, and its padding of 1 says so
        window = [slice((middle - 1) * scale, (middle - 1) * scale + n) for n in taps.shape[2:]]
        torch.testing.assert_close(answer[(slice(None), *window)], taps[1])
        assert answer.abs().sum() == pytest.approx(float(taps[1].abs().sum()))


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (4, 2), (5, 3)])
def test_noise_gains_of_random_weights_expect_the_overlap(dims, kernel, stride) -> None:
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


@settings(max_examples=20)
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
