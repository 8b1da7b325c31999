"""DC-gain imbalance of single layers against closed forms and black-box responses."""

import math

import pytest
import torch
from torch import nn

from medseg.blocks import upsample
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.imbalance import dc_gain_imbalance
from medseg.checkerboard.kernels import UpsamplingLayer
from medseg.checkerboard.layers import upsampling_period
from medseg.layers.resampling import Upsampling


class TestInvariance:
    gains = torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 1.0], [2.0, 2.0]])

    def test_by_hand(self) -> None:
        mean = torch.tensor([1.5, 0.375])
        expected = (self.gains - mean).square().sum() / self.gains.square().sum()
        assert dc_gain_imbalance(self.gains) == pytest.approx(float(expected))
        assert dc_gain_imbalance(torch.ones(4, 2)) == 0
        assert dc_gain_imbalance(torch.tensor([1.0, -1.0])) == 1
        assert dc_gain_imbalance(torch.zeros(4, 2)) == 0


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


def sorted_phases(gains: torch.Tensor) -> torch.Tensor:
    """Rows in the order of their first entry: padding relabels phases."""
    return gains[gains.flatten(1)[:, 0].argsort()]


class TestPhaseGains:
    @pytest.mark.parametrize("kernel", [None, 3, 4, 5])
    @pytest.mark.parametrize(
        ("dims", "scale"), [(1, (2,)), (2, (2, 2)), (2, (1, 3)), (3, (1, 2, 2))]
    )
    def test_a_transposed_layer_does_to_constants_what_its_gains_say(
        self, kernel, dims, scale
    ) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 3, 2, scale)
        black_box = response_to_constants(layer, 3, dims, scale)
        assert UpsamplingLayer(layer).gains.shape == (math.prod(scale), 3, 2)
        torch.testing.assert_close(
            sorted_phases(UpsamplingLayer(layer).gains), sorted_phases(black_box)
        )

    def test_a_grouped_one_has_the_gains_within_its_groups(self) -> None:
        layer = nn.ConvTranspose2d(4, 6, 3, 2, groups=2)
        black_box = response_to_constants(layer, 4, 2, (2, 2))
        found = UpsamplingLayer(layer).gains
        torch.testing.assert_close(found, black_box)
        assert dc_gain_imbalance(found) == pytest.approx(dc_gain_imbalance(black_box))

    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("kernel", [2, 3, 4, 7])
    def test_layers_held_together_are_measured_by_their_answer_to_constants(
        self, dims, kernel
    ) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 40, 3, 2)
        together = Upsampling(layer, 40, (2,) * dims)
        expected = UpsamplingLayer(layer).gains
        found = UpsamplingLayer(together).gains
        assert found.shape == expected.shape == (2**dims, 40, 3)
        # the padding of the layer says which output phase its first taps fall on
        shift = layer.padding[0] % 2
        grid = expected.unflatten(0, (2,) * dims).roll([-shift] * dims, list(range(dims)))
        torch.testing.assert_close(found, grid.flatten(0, dims - 1))

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
    def test_the_blocks_of_known_imbalance(self, block, expected) -> None:
        (gain,) = upsampling_rows(block(2, 6, 3, 2))
        assert gain.values["dc_gain"] == pytest.approx(expected, abs=1e-6)


class TestNetwork:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ConvTranspose2d(4, 4, 3, 2),
        nn.Sequential(nn.Upsample(scale_factor=(3, 1), mode="nearest"), nn.ReLU()),
    )

    def test_every_upsampling_layer_is_listed_in_its_order(self) -> None:
        nn.init.ones_(self.network[1].weight)
        gains = upsampling_rows(self.network)
        assert [gain.layer for gain in gains] == ["1", "2.0"]
        assert [gain.values["dc_gain"] for gain in gains] == pytest.approx([0.19, 0])
        assert gains[0].operator == str(self.network[1])

    def test_the_period_is_the_product_of_the_strides(self) -> None:
        assert upsampling_period(self.network) == (6, 2)
        assert upsampling_period(nn.Sequential(nn.Conv2d(1, 1, 3))) == ()
