"""Replicas and sum rules against closed forms, sums over frequencies and reproduced polynomials."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from medseg.checkerboard.imbalance import imaging_leakage, noise_gain_imbalance, sum_rule_order

from .taps import DIMS, LINEAR, NAILS, NEAREST, ODD_LINEAR, ONES, kernel_of, over_axes

BSPLINES = {2: [1.0, 2, 1], 3: [1.0, 3, 3, 1], 4: [1.0, 4, 6, 4, 1], 5: [1.0, 5, 10, 10, 5, 1]}


def random_kernel(seed: int = 0, *shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape or (2, 3, 4, 3), generator=generator, dtype=torch.float64)


def gain(kernel: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
    """`‖H(ω)‖²` as a sum over taps, for one wave of the output grid."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in kernel.shape[2:]))
    turn = torch.exp(-1j * (places.reshape(-1, len(waves)).double() @ waves))
    return (kernel.flatten(2).to(turn.dtype) @ turn).abs().square().sum()


@pytest.mark.parametrize("dims", DIMS)
@pytest.mark.parametrize(
    ("taps", "noise", "leakage", "order"),
    [
        (NAILS, 0.5, 0.5, 0),
        (NEAREST, 0, (1 - 2 / math.pi) / 2, 1),
        (LINEAR, 0, 0.0331, 3),
        (ONES, 0.1, 0.0756, 0),
        (ODD_LINEAR, 0.1, 0.0756, 2),
    ],
)
def test_the_table(dims, taps, noise, leakage, order) -> None:
    kernel, stride = kernel_of(taps, dims), (2,) * dims
    found = noise_gain_imbalance(kernel, stride)
    assert found == pytest.approx(over_axes(noise, dims), abs=1e-11)
    assert imaging_leakage(kernel, stride) == pytest.approx(over_axes(leakage, dims), abs=1.5e-4)
    assert sum_rule_order(kernel, stride) == order


class TestLeakage:
    def test_is_the_mean_over_the_band(self) -> None:
        kernel, points = random_kernel(0, 2, 2, 5), 500
        waves = (torch.arange(points, dtype=torch.float64) + 0.5) / points * 2 * math.pi - math.pi
        passed, *replicas = (
            sum(gain(kernel, (wave.reshape(1) + 2 * math.pi * k) / 3) for wave in waves)
            for k in range(3)
        )
        expected = float(sum(replicas) / (passed + sum(replicas)))
        assert imaging_leakage(kernel, (3,)) == pytest.approx(expected, abs=1e-5)


class TestSumRules:
    @pytest.mark.parametrize("order", BSPLINES)
    def test_splines(self, order) -> None:
        assert sum_rule_order(kernel_of(BSPLINES[order], 2).float(), (2, 2)) == order

    @pytest.mark.parametrize("stride", [3, 4])
    def test_nearest_and_linear_at_other_strides(self, stride) -> None:
        box = torch.ones(1, 1, stride, dtype=torch.float64)
        assert sum_rule_order(box, (stride,)) == 1
        tent = functional.conv1d(box, box, padding=stride - 1)
        assert sum_rule_order(tent, (stride,)) == 2

    def test_the_least_of_all_axes_and_channels_counts(self) -> None:
        line = torch.tensor(LINEAR)
        mixed = line[:, None] * torch.tensor(NEAREST)
        assert sum_rule_order(mixed[None, None], (2, 2)) == 1
        assert sum_rule_order(mixed[None, None], (2, 1)) == 3
        two = torch.stack([line, torch.tensor([0.0, 1, 1, 0])])[None]
        assert sum_rule_order(two, (2,)) == 1

    @pytest.mark.parametrize("taps", [ONES, NEAREST, ODD_LINEAR, LINEAR])
    def test_polynomials_below_the_order_come_out_without_a_pattern(self, taps) -> None:
        kernel = kernel_of(taps, 1)
        order = sum_rule_order(kernel, (2,))
        places = torch.arange(40, dtype=torch.float64)
        for degree in range(order + 1):
            out = functional.conv_transpose1d(places[None, None] ** degree, kernel, stride=2)
            inner = out[0, 0, 10:-10]
            # the differences of that degree and one more are 0 on a polynomial
            rest = torch.diff(inner, n=degree + 1)
            assert (rest.abs().max() < 1e-8 * inner.abs().max()) == (degree < order)


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**31),
    factor=st.sampled_from([-2.0, 1e-9, 1e9]),
    shift=st.integers(0, 3),
)
def test_neither_scale_nor_shift_nor_rotation_of_the_outputs_matters(seed, factor, shift) -> None:
    kernel = random_kernel(seed)
    turn = torch.linalg.qr(random_kernel(seed + 1, 3, 3)).Q
    moved = functional.pad(factor * kernel, (shift, 0, 0, shift))
    moved = torch.einsum("io...,oq->iq...", moved, turn)
    assert imaging_leakage(moved, (2, 3)) == pytest.approx(imaging_leakage(kernel, (2, 3)))
    smooth = functional.pad(factor * kernel_of(ODD_LINEAR, 2), (shift, 0, 0, shift))
    assert sum_rule_order(smooth, (2, 2)) == 2
