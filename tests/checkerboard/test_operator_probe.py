"""Upsamplings without a kernel, asked by constants and by noise."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.checkerboard import dc_gain_imbalance, phase_gains
from medseg.checkerboard.network.operator import probe_operator
from medseg.layers.deformable import DeformableConv
from medseg.layers.resampling import MaxUnpool, Nails

from .taps import DIMS, TRANSPOSED, ones, over_axes

LINEAR = ["linear", "bilinear", "trilinear"]
MAX_POOL = [functional.max_pool1d, functional.max_pool2d, functional.max_pool3d]


def pooled_and_unpooled(dims: int, scale: int):
    """Every maximum of a cell stays where it was, the rest of the cell is 0."""
    unpool = MaxUnpool(nn.Identity(), (scale,) * dims)
    return lambda x: unpool(MAX_POOL[dims - 1](x, scale), x)


@pytest.mark.parametrize("dims", DIMS)
class TestClosedForms:
    @pytest.mark.parametrize("scale", [2, 3])
    def test_max_unpooling(self, dims, scale) -> None:
        operator = pooled_and_unpooled(dims, scale)
        found = probe_operator(operator, 1, (scale,) * dims, keeps_grid=True)
        one_alive = 1 - scale**-dims
        assert found.constants == pytest.approx(one_alive, abs=1e-9)
        assert found.within_cell == pytest.approx(one_alive, abs=1e-9)
        assert found.noise < 0.01
        assert found.is_periodic
        assert not found.is_linear

    def test_corners_on_each_other(self, dims) -> None:
        upsample = nn.Upsample(scale_factor=2, mode=LINEAR[dims - 1], align_corners=True)
        found = probe_operator(upsample, 1, (2,) * dims)
        assert found.constants == pytest.approx(0, abs=1e-9)
        assert found.is_linear
        # the places of its taps move by half a voxel along the grid
        assert found.periodicity == probe_operator(upsample, 1, (2,) * dims).periodicity
        assert 1e-4 < found.periodicity < 1
        assert not found.is_periodic

    @pytest.mark.parametrize(("kernel", "one"), [(1, 0.5), (2, 0), (3, 0.1), (4, 0)])
    def test_all_ones(self, dims, kernel, one) -> None:
        found = probe_operator(ones(TRANSPOSED, dims, kernel, 2), 1, (2,) * dims)
        assert found.constants == pytest.approx(over_axes(one, dims), abs=1e-6)
        assert found.noise < 0.01
        assert found.is_periodic
        assert found.is_linear

    def test_nails_and_nearest(self, dims) -> None:
        nails, nearest = (
            probe_operator(operator, 2, (2,) * dims)
            for operator in (Nails((2,) * dims), nn.Upsample(scale_factor=2))
        )
        assert nails.constants == pytest.approx(over_axes(0.5, dims))
        assert nails.within_cell == pytest.approx(over_axes(0.5, dims))
        assert nearest.constants == nearest.noise == 0
        assert nearest.within_cell == pytest.approx(0, abs=1e-12)
        assert nails.periodicity == nearest.periodicity == 0

    def test_linear_interpolation_of_noise(self, dims) -> None:
        # along an axis (¼, ¾) and (¾, ¼) of neighbours: energy 5/8, of the mean of a cell 19/32
        upsample = nn.Upsample(scale_factor=2, mode=LINEAR[dims - 1])
        found = probe_operator(upsample, 1, (2,) * dims)
        assert found.within_cell == pytest.approx(over_axes(1 / 20, dims), abs=0.02)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    dims=st.sampled_from([1, 2]),
    kernel=st.integers(1, 5),
    stride=st.integers(2, 3),
    dilation=st.integers(1, 2),
)
def test_transposed_convolutions_have_their_dc_gain_imbalance(
    seed, dims, kernel, stride, dilation
) -> None:
    torch.manual_seed(seed)
    layer = TRANSPOSED[dims - 1](2, 3, kernel, stride, dilation=dilation).double()
    found = probe_operator(layer, 2, (stride,) * dims, margin=6)
    assert found.constants == pytest.approx(dc_gain_imbalance(phase_gains(layer)), abs=1e-9)
    assert found.is_periodic
    assert found.is_linear


@pytest.mark.parametrize("stride", [(1, 2), (3, 2), (1, 4, 2)], ids=str)
def test_strides_that_differ_by_axis(stride) -> None:
    layer = TRANSPOSED[len(stride) - 1](1, 2, stride, stride)
    found = probe_operator(layer, 1, stride)
    assert found.constants == pytest.approx(dc_gain_imbalance(phase_gains(layer)), abs=1e-6)


class TestProperties:
    def test_a_bias_is_no_pattern(self) -> None:
        layer = ones(TRANSPOSED, 2, 3, 2)
        nn.init.constant_(layer.bias, 100.0)
        assert probe_operator(layer, 1, (2, 2)).constants == pytest.approx(0.19, abs=1e-5)

    def test_another_stride_is_not_the_period(self) -> None:
        stack = nn.Sequential(ones(TRANSPOSED, 1, 1, 2), ones(TRANSPOSED, 1, 1, 2))
        assert probe_operator(stack, 1, (4,)).is_periodic
        grid = nn.Sequential(stack, nn.AvgPool1d(2))  # every second sample is 0
        assert probe_operator(grid, 1, (2,)).is_periodic

    def test_a_gain_that_depends_on_the_place(self) -> None:
        def ramp(x: Tensor) -> Tensor:
            return x.repeat_interleave(2, -1) * torch.arange(2 * x.shape[-1])

        found = probe_operator(ramp, 1, (2,))
        assert not found.is_periodic
        assert found.is_linear

    @pytest.mark.parametrize("power", [1, 3])
    def test_a_median_and_a_cube_do_not_add_up(self, power) -> None:
        def median(x: Tensor) -> Tensor:
            both = torch.stack([x, x.roll(1, -1), x.roll(2, -1)]).median(dim=0).values
            return both.repeat_interleave(2, -1) ** power

        found = probe_operator(median, 1, (2,))
        assert not found.is_linear
        assert found.is_periodic

    def test_a_content_aware_upsampling(self) -> None:
        class Reassembly(nn.Module):
            """Each fine voxel mixes two coarse ones by weights that the data choose."""

            def forward(self, x: Tensor) -> Tensor:
                share = torch.sigmoid(torch.stack([x, -3 * x], dim=-1))
                mixed = share * x[..., None] + (1 - share) * x.roll(1, -1)[..., None]
                return mixed.flatten(-2)

        found = probe_operator(Reassembly(), 1, (2,))
        # weights add up to 1, so that constants stay what they are
        assert found.constants == pytest.approx(0, abs=1e-9)
        assert found.is_periodic
        assert not found.is_linear

    def test_a_deformable_upsampling(self) -> None:
        conv = DeformableConv(2, 2, (3, 3), modulated=True)
        nn.init.normal_(conv.motion.weight, std=0.1)
        operator = nn.Sequential(nn.Upsample(scale_factor=2), conv)
        found = probe_operator(operator, 2, (2, 2), margin=8)
        assert found.constants == pytest.approx(0, abs=1e-6)
        assert found.is_periodic
        assert not found.is_linear

    def test_taps_that_cancel_pass_no_constant(self) -> None:
        layer = nn.ConvTranspose1d(1, 1, 6, 2)
        layer.weight.data = torch.tensor([[[0.1, 0.3, 0.2, 0.4, -0.3, -0.7]]])
        assert probe_operator(layer, 1, (2,)).constants == 0

    @pytest.mark.parametrize("factor", [-2.0, 1e-6, 1e6])
    def test_scale_changes_nothing(self, factor) -> None:
        layer = ones(TRANSPOSED, 2, 3, 2).double()
        one, two = (
            probe_operator(op, 1, (2, 2)) for op in (layer, lambda x: factor * layer(x.double()))
        )
        for name, value in vars(one).items():
            assert getattr(two, name) == pytest.approx(value, abs=1e-6)


class TestUse:
    def test_the_operator_and_the_generator_are_left_as_they_were(self) -> None:
        operator = nn.Sequential(nn.Dropout(0.5), nn.Upsample(scale_factor=2)).train()
        state = torch.random.get_rng_state()
        found = probe_operator(operator, 1, (2, 2))
        assert found.is_linear
        assert operator.training
        assert operator[0].training
        assert torch.equal(torch.random.get_rng_state(), state)

    def test_seeds_draw_other_noise(self) -> None:
        operator = pooled_and_unpooled(2, 2)
        shares = [
            probe_operator(operator, 1, (2, 2), keeps_grid=True, seed=s).noise for s in (0, 0, 1)
        ]
        assert shares[0] == shares[1] != shares[2]

    def test_in_the_dtype_of_its_parameters(self) -> None:
        layer = ones(TRANSPOSED, 2, 3, 2)
        single, double = (
            probe_operator(layer.to(t), 1, (2, 2)) for t in (torch.float32, torch.float64)
        )
        assert double.linearity < 1e-12 < single.linearity

    @pytest.mark.parametrize(
        ("operator", "options", "message"),
        [
            (nn.Upsample(scale_factor=2), {"stride": (1, 1)}, "phases=1"),
            (nn.Upsample(scale_factor=2), {"stride": (2,) * 4}, "1 to 3 whole numbers"),
            (nn.Upsample(scale_factor=2), {"stride": (0, 2)}, "1 to 3 whole numbers"),
            (nn.Upsample(scale_factor=2), {"stride": (3, 3)}, "must be about 144 voxels"),
            (nn.Upsample(scale_factor=2), {"keeps_grid": True}, "must be about 96 voxels"),
            (nn.Flatten(), {}, "an answer of shape"),
            (nn.Upsample(scale_factor=2), {"margin": 0}, "margin=0"),
            (nn.Upsample(scale_factor=2), {"margin": 12}, "margin=12"),
            (lambda x: 0 * x.repeat(1, 1, 2, 2), {}, "an answer of 0"),
            (lambda x: math.nan * x.repeat(1, 1, 2, 2), {}, "answers of the operator are NaN"),
        ],
    )
    def test_refused(self, operator, options, message) -> None:
        with pytest.raises(ValueError, match=message):
            probe_operator(operator, 1, **{"stride": (2, 2)} | options)
