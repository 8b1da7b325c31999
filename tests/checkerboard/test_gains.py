"""DC-gain imbalance of single layers against closed forms and black-box responses."""

import math

import pytest
import torch
from torch import nn

from medseg.blocks import upsample
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.imbalance import dc_gain_imbalance
from medseg.checkerboard.kernels import phase_gains
from medseg.checkerboard.layers import lattice_period
from medseg.layers.resampling import Upsampling

TRANSPOSED = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d]


def imbalance_of_ones(dims: int, kernel, stride, dilation=1) -> float:
    layer = TRANSPOSED[dims - 1](1, 1, kernel, stride, dilation=dilation)
    nn.init.ones_(layer.weight)
    return dc_gain_imbalance(phase_gains(layer))


def closed_form(dims: int, kernel: int, stride: int) -> float:
    """Share of the structural imbalance: kernel = q·stride + r overlaps q or q + 1 times."""
    q, r = divmod(kernel, stride)
    one = (r * (stride - r) / stride) / (r * (q + 1) ** 2 + (stride - r) * q**2)
    return 1 - (1 - one) ** dims


class TestOnes:
    @pytest.mark.parametrize(
        ("kernel", "stride", "dilation", "expected"),
        [
            (3, 2, 1, (0.1, 0.19, 0.271)),
            (5, 2, 1, (0.0384615, 0.0754438, 0.1110036)),
            (2, 2, 1, (0, 0, 0)),
            (4, 2, 1, (0, 0, 0)),
            (3, 3, 1, (0, 0, 0)),
            (6, 3, 1, (0, 0, 0)),
            (1, 2, 1, (0.5, 0.75, 0.875)),  # a bed of nails
            (3, 2, 2, (0.5, 0.75, 0.875)),  # all taps fall on one phase
            (3, 2, 3, (0.1, 0.19, 0.271)),  # the taps of k3, in another order
        ],
    )
    def test_the_table_of_known_kernels(self, kernel, stride, dilation, expected) -> None:
        found = [imbalance_of_ones(dims, kernel, stride, dilation) for dims in (1, 2, 3)]
        assert found == pytest.approx(expected, abs=1e-7)

    @pytest.mark.parametrize("dims", [1, 2, 3])
    @pytest.mark.parametrize(
        ("kernel", "stride"), [(3, 2), (4, 3), (5, 3), (7, 3), (7, 2), (5, 4), (8, 4)]
    )
    def test_the_closed_form(self, dims, kernel, stride) -> None:
        found = imbalance_of_ones(dims, kernel, stride)
        assert found == pytest.approx(closed_form(dims, kernel, stride), abs=1e-10)

    def test_an_axis_that_keeps_its_size_does_not_count(self) -> None:
        assert imbalance_of_ones(3, (1, 3, 3), (1, 2, 2)) == pytest.approx(0.19)
        layer = upsample.Transposed(kernel_size=3)(3, 1, 1, (1, 2, 2))
        nn.init.ones_(layer.weight)
        assert dc_gain_imbalance(phase_gains(layer)) == pytest.approx(0.19)

    def test_axes_multiply(self) -> None:
        assert imbalance_of_ones(2, (3, 5), 2) == pytest.approx(1 - 0.9 * (1 - 1 / 26))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (3, 2), (4, 2), (3, 3)])
def test_a_random_kernel_expects_1_minus_1_over_p(dims, kernel, stride) -> None:
    phases = stride**dims
    kinds = torch.empty(200)
    for index in range(len(kinds)):
        layer = TRANSPOSED[dims - 1](8, 8, kernel, stride)
        nn.init.normal_(layer.weight)
        kinds[index] = dc_gain_imbalance(phase_gains(layer))
    error = kinds.std() / math.sqrt(len(kinds))
    # taps per phase differ by at most one, which moves the mean of a ratio by far less than 3 se
    if kernel % stride == 0:
        assert abs(kinds.mean() - (1 - 1 / phases)) < 3 * error
    assert abs(kinds.mean() - (1 - 1 / phases)) < 0.02


class TestInvariance:
    gains = torch.tensor([[1.0, -2.0], [3.0, 0.5], [0.0, 1.0], [2.0, 2.0]])

    @pytest.mark.parametrize("factor", [-1.0, 3.0, 1e-4, 1e6])
    def test_scale(self, factor) -> None:
        expected = dc_gain_imbalance(self.gains)
        assert dc_gain_imbalance(factor * self.gains) == pytest.approx(expected)

    def test_order_of_phases_and_of_channels(self) -> None:
        expected = dc_gain_imbalance(self.gains)
        assert dc_gain_imbalance(self.gains.roll(1, 0)) == pytest.approx(expected)
        assert dc_gain_imbalance(self.gains.flip(1)) == pytest.approx(expected)

    def test_bias(self) -> None:
        layer = nn.ConvTranspose2d(2, 3, 3, 2)
        before = dc_gain_imbalance(phase_gains(layer))
        nn.init.constant_(layer.bias, 7)
        assert dc_gain_imbalance(phase_gains(layer)) == before

    def test_padding(self) -> None:
        layers = [nn.ConvTranspose2d(2, 3, 3, 2, p, op) for p, op in ((0, 0), (1, 1))]
        layers[1].load_state_dict(layers[0].state_dict())
        first, second = (dc_gain_imbalance(phase_gains(layer)) for layer in layers)
        assert first == pytest.approx(second)

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
        assert phase_gains(layer).shape == (math.prod(scale), 3, 2)
        torch.testing.assert_close(sorted_phases(phase_gains(layer)), sorted_phases(black_box))

    @pytest.mark.parametrize(("kernel", "dilation"), [(3, 2), (3, 3), (2, 3)])
    def test_a_dilated_one(self, kernel, dilation) -> None:
        layer = nn.ConvTranspose2d(2, 3, kernel, 2, dilation=dilation)
        black_box = response_to_constants(layer, 2, 2, (2, 2))
        expected, found = dc_gain_imbalance(black_box), dc_gain_imbalance(phase_gains(layer))
        assert found == pytest.approx(expected)

    def test_without_padding_the_phases_are_in_the_order_of_the_grid(self) -> None:
        layer = nn.ConvTranspose2d(2, 3, (3, 5), (2, 3))
        black_box = response_to_constants(layer, 2, 2, (2, 3))
        torch.testing.assert_close(phase_gains(layer), black_box)

    def test_a_grouped_one_has_the_gains_within_its_groups(self) -> None:
        layer = nn.ConvTranspose2d(4, 6, 3, 2, groups=2)
        black_box = response_to_constants(layer, 4, 2, (2, 2))
        found = phase_gains(layer)
        torch.testing.assert_close(found, black_box)
        assert dc_gain_imbalance(found) == pytest.approx(dc_gain_imbalance(black_box))

    @pytest.mark.parametrize("mode", ["linear", "nearest"])
    @pytest.mark.parametrize(("dims", "scale"), [(1, 2), (2, 2), (2, (1, 3)), (3, (1, 2, 2))])
    def test_interpolation_is_flat(self, mode, dims, scale) -> None:
        resize = upsample.Interpolate(mode=mode)(dims, 2, 2, scale)[1]
        gains = phase_gains(resize)
        phases = scale**dims if isinstance(scale, int) else math.prod(scale)
        assert gains.shape == (phases, 1, 1)
        torch.testing.assert_close(gains, torch.ones_like(gains))
        assert dc_gain_imbalance(gains) == 0

    @pytest.mark.parametrize("mode", ["bilinear", "trilinear", "linear"])
    def test_an_interpolation_with_one_scale_for_all_axes(self, mode) -> None:
        dims = {"linear": 1, "bilinear": 2, "trilinear": 3}[mode]
        gains = phase_gains(nn.Upsample(scale_factor=2, mode=mode))
        assert gains.shape == (2**dims, 1, 1)
        assert dc_gain_imbalance(gains) == 0

    @pytest.mark.parametrize("layer", [nn.Conv2d(1, 1, 3), nn.ReLU(), nn.PixelShuffle(2)])
    def test_any_other_layer_is_refused(self, layer) -> None:
        with pytest.raises(TypeError, match=f"{type(layer).__name__} is no upsampling"):
            phase_gains(layer)

    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("kernel", [2, 3, 4, 7])
    def test_layers_held_together_are_measured_by_their_answer_to_constants(
        self, dims, kernel
    ) -> None:
        layer = upsample.Transposed(kernel_size=kernel)(dims, 40, 3, 2)
        together = Upsampling(layer, 40, (2,) * dims)
        expected = phase_gains(layer)
        found = phase_gains(together)
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

    def test_random_pixel_shuffle_starts_like_a_random_transposed_kernel(self) -> None:
        (gain,) = upsampling_rows(upsample.PixelShuffle()(2, 64, 32, 2))
        assert gain.values["dc_gain"] == pytest.approx(0.75, abs=0.05)

    def test_two_kernels_beside_each_other_are_one_upsampling(self) -> None:
        module = upsample.LargeKernelTransposed()(2, 4, 3, 2)
        assert len(upsampling_rows(module)) == 1
        assert lattice_period(module) == (2, 2)

    def test_gradients_and_the_weight_are_left_alone(self) -> None:
        layer = nn.ConvTranspose2d(2, 3, 3, 2)
        before = layer.weight.clone()
        assert not phase_gains(layer).requires_grad
        assert torch.equal(layer.weight, before)


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
        assert lattice_period(self.network) == (6, 2)
        assert lattice_period(nn.Sequential(nn.Conv2d(1, 1, 3))) == ()

    def test_without_upsampling_there_is_nothing_to_list(self) -> None:
        assert upsampling_rows(nn.Sequential(nn.Conv2d(1, 1, 3), nn.MaxPool2d(2))) == []
