"""The share of energy off the mean phase, with and without second moments, and of tap counts."""

import math

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.blocks import upsample
from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    kernel_gains,
    overlap_imbalance,
    phase_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.checkerboard.kernels import UpsamplingLayer

from .taps import DIMS, TRANSPOSED, over_axes

SEEDS = st.integers(0, 2**31)


def random_gains(seed: int, phases: int = 4, inputs: int = 3, outputs: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(phases, inputs, outputs, generator=generator, dtype=torch.float64)


def rotation(seed: int, size: int) -> torch.Tensor:
    return torch.linalg.qr(random_gains(seed, 1, size, size)[0]).Q


def moment_of(gains: torch.Tensor, seed: int = 1) -> torch.Tensor:
    features = random_gains(seed, 1, gains.shape[1], 8)[0]
    return features @ features.T / 8


class TestOverlap:
    @pytest.mark.parametrize("dims", DIMS)
    @pytest.mark.parametrize(
        ("kernel", "stride", "dilation", "one"),
        [
            (3, 2, 1, 0.1),
            (5, 2, 1, 1 / 26),
            (7, 2, 1, 0.02),
            (2, 2, 1, 0),
            (4, 2, 1, 0),
            (1, 2, 1, 0.5),
            (2, 3, 1, 1 / 3),
            (3, 2, 2, 0.5),
            (3, 4, 2, 1 - 9 / 4 / 5),
            (3, 2, 3, 0.1),
        ],
    )
    def test_the_table(self, dims, kernel, stride, dilation, one) -> None:
        found = overlap_imbalance((kernel,) * dims, (stride,) * dims, (dilation,) * dims)
        assert found == pytest.approx(over_axes(one, dims), abs=1e-9)


class TestShare:
    @settings(max_examples=15)
    @given(seed=SEEDS, shape=st.sampled_from([(2,), (3, 2), (2, 2, 2)]))
    def test_is_the_energy_off_the_mean_frequency(self, seed, shape) -> None:
        values = random_gains(seed, math.prod(shape), 1, 1).reshape(shape)
        energies = torch.fft.fftn(values).abs().square()
        expected = 1 - energies.flatten()[0] / energies.sum()
        assert phase_imbalance(values.flatten()) == pytest.approx(float(expected), abs=1e-10)

    @pytest.mark.parametrize("phases", [2, 4, 8, 6])
    def test_one_live_phase_is_the_worst_of_one_sign(self, phases) -> None:
        live = torch.zeros(phases)
        live[1] = 3
        assert phase_imbalance(live) == pytest.approx(1 - 1 / phases)
        for _ in range(20):
            assert phase_imbalance(torch.rand(phases)) <= 1 - 1 / phases
        assert phase_imbalance(torch.tensor([1.0, -1] * (phases // 2))) == 1

    @pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e200])
    def test_no_scale_is_too_small_or_large(self, scale) -> None:
        assert phase_imbalance(torch.tensor([2.0, 1], dtype=torch.float64) * scale) == 0.1


class TestMoment:
    @settings(max_examples=15)
    @given(seed=SEEDS)
    def test_by_hand(self, seed) -> None:
        gains = random_gains(seed)
        moment = moment_of(gains, seed + 1)
        off = gains - gains.mean(0)
        energy = [sum((g.T @ moment @ g).trace() for g in each) for each in (off, gains)]
        expected = float(energy[0] / energy[1])
        assert dc_gain_imbalance(gains, moment) == pytest.approx(expected, abs=1e-9)

    def test_features_that_do_not_pass_print_nothing(self) -> None:
        gains = torch.tensor([[[0.1], [0.3]], [[0.7], [2.1]]], dtype=torch.float64)
        blind = torch.tensor([3.0, -1.0], dtype=torch.float64)
        assert dc_gain_imbalance(gains, torch.outer(blind, blind)) == 0

    def test_a_grouped_layer_mixes_no_channels_of_other_groups(self) -> None:
        layer = nn.ConvTranspose2d(4, 2, 3, 2, groups=2)
        gains = kernel_gains(UpsamplingLayer(layer).kernel, layer.stride)
        assert gains.shape == (4, 4, 2)
        assert not gains[:, :2, 1].any()
        mean = torch.tensor([1.0, 2, -3, 1], dtype=torch.float64)
        halves = torch.cat([torch.einsum("pio,i->po", gains[:, part], mean[part])
                            for part in (slice(2), slice(2, 4))], dim=1)  # fmt: skip
        found = dc_gain_imbalance(gains, torch.outer(mean, mean))
        assert found == pytest.approx(phase_imbalance(halves), abs=1e-9)


class TestWorst:
    @settings(max_examples=20)
    @given(seed=SEEDS)
    def test_is_the_largest_generalised_eigenvalue(self, seed) -> None:
        gains = random_gains(seed)
        off = gains - gains.mean(0)
        part, whole = (torch.einsum("pio,pjo->ij", g, g).numpy() for g in (off, gains))
        expected = scipy.linalg.eigh(part, whole, eigvals_only=True)[-1]
        assert worst_dc_gain_imbalance(gains) == pytest.approx(expected, abs=1e-9)

    @settings(max_examples=20)
    @given(seed=SEEDS)
    def test_no_moment_is_worse(self, seed) -> None:
        gains = random_gains(seed)
        found = dc_gain_imbalance(gains, moment_of(gains, seed + 1))
        assert found <= worst_dc_gain_imbalance(gains) + 1e-12

    def test_rounding_of_single_precision_is_no_pattern(self) -> None:
        layer = upsample.BilinearTransposed()(2, 6, 2, 3)
        gains = kernel_gains(UpsamplingLayer(layer).kernel, layer.stride)
        assert worst_dc_gain_imbalance(gains) < 1e-12
        blind = torch.linalg.svd(gains[0].T).Vh[-1]
        assert dc_gain_imbalance(gains, torch.outer(blind, blind)) == 0


@settings(max_examples=15)
@given(seed=SEEDS, factor=st.sampled_from([-3.0, 1e-8, 1e8]), shift=st.integers(0, 3))
def test_neither_scale_nor_roll_nor_a_rotation_of_the_outputs_matters(seed, factor, shift) -> None:
    gains = random_gains(seed)
    turned = factor * gains.roll(shift, 0) @ rotation(seed + 1, 2)
    moment = moment_of(gains)
    for measure in (
        phase_imbalance,
        dc_gain_imbalance,
        worst_dc_gain_imbalance,
        lambda g: dc_gain_imbalance(g, moment),
    ):
        assert measure(turned) == pytest.approx(measure(gains), abs=1e-9)


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize("kernel", [3, 4, "shuffle"])
def test_random_weights_expect_1_minus_1_over_p(dims, kernel) -> None:
    found = []
    for _ in range(60):
        if kernel == "shuffle":
            layer = upsample.PixelShuffle(kernel_size=1)(dims, 4, 4, 2)
        else:
            layer = TRANSPOSED[dims - 1](4, 4, kernel, 2)
        for weight in layer.parameters():
            nn.init.normal_(weight)
        gains = UpsamplingLayer(layer).gains
        found.append([float((gains - gains.mean(0)).square().sum()), float(gains.square().sum())])
    # the law is of a ratio of expectations; the error is that of the delta method
    off, whole = torch.tensor(found).T
    ratio = off.sum() / whole.sum()
    error = (off - ratio * whole).std() / whole.mean() / math.sqrt(len(found))
    assert abs(ratio - (1 - 2.0**-dims)) < 3.5 * error
