"""All measures of all upsamplings of a network: closed forms, presets, networks of others."""

import math

import pytest
import torch
from monai.networks.blocks.upsample import SubpixelUpsample
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from medseg.blocks import upsample
from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.kernels import UpsamplingLayer
from medseg.checkerboard.layers import upsampling_period
from medseg.layers.resampling import DepthToSpace, Upsampling

from .taps import DIMS, TRANSPOSED, ones, over_axes


@pytest.mark.parametrize("dims", DIMS)
class TestClosedForms:
    @pytest.mark.parametrize(("kernel", "one"), [(1, 0.5), (2, 0), (3, 0.1), (4, 0), (5, 1 / 26)])
    def test_all_ones(self, kernel, one, dims) -> None:
        (found,) = upsampling_rows(ones(TRANSPOSED, dims, kernel, 2))
        expected = pytest.approx(over_axes(one, dims), abs=1e-11)
        assert found.values["overlap"] == expected
        assert found.values["dc_gain"] == found.values["dc_gain_worst"] == expected
        assert found.stride == [2] * dims

    @pytest.mark.parametrize(
        ("mode", "order", "leak"), [("nearest", 1, None), ("linear", 3, 0.0331)]
    )
    def test_interpolation(self, mode, order, leak, dims) -> None:
        (found,) = upsampling_rows(upsample.Interpolate(mode=mode)(dims, 4, 3, 2))
        assert found.values["overlap"] is None
        assert found.values["dc_gain"] == found.values["dc_gain_worst"] == 0
        assert found.values["noise_gain"] == pytest.approx(0, abs=1e-11)
        assert found.values["sum_rule_order"] == order
        leak = (1 - 2 / math.pi) / 2 if leak is None else leak
        assert found.values["imaging"] == pytest.approx(over_axes(leak, dims), abs=2e-4)

    def test_blurred_shuffle_of_equal_phases_is_a_tent(self, dims) -> None:
        layer = upsample.PixelShuffle(kernel_size=1, init="icnr", blur=True)(dims, 3, 2, 2)
        (found,) = upsampling_rows(layer)
        assert found.values["dc_gain_worst"] == pytest.approx(0, abs=1e-9)
        assert found.values["noise_gain"] == pytest.approx(over_axes(0.1, dims))
        assert found.values["sum_rule_order"] == 2


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


class TestReasons:
    @pytest.mark.parametrize(
        ("layer", "reason"),
        [
            (Upsampling(nn.Sequential(nn.Conv1d(2, 2, 1), nn.Tanh(), DepthToSpace((2,))), 2, (2,)),
             "not linear"),
            (nn.Upsample(scale_factor=2, mode="bicubic", align_corners=True), "align_corners=True"),
            (nn.Upsample(size=8), "no whole scale_factor"),
            (nn.Upsample(scale_factor=2), "does not say how many"),
            (nn.MaxUnpool2d(2), "MaxUnpool2d is no upsampling that is linear"),
            (DepthToSpace((2, 2)), "DepthToSpace is no upsampling"),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )  # fmt: skip
    def test_layers_without_a_kernel(self, layer, reason) -> None:
        (found,) = upsampling_rows(layer)
        assert (
            found.values["noise_gain"]
            is found.values["imaging"]
            is found.values["sum_rule_order"]
            is None
        )
        assert reason in found.note

    @pytest.mark.parametrize(
        ("value", "reason"), [(math.nan, "36 of 36 weights are NaN"), (0.0, "all 36 taps are 0")]
    )
    def test_weights_that_say_nothing_have_their_overlap_all_the_same(self, value, reason) -> None:
        layer = nn.ConvTranspose2d(2, 2, 3, 2)
        nn.init.constant_(layer.weight, value)
        (found,) = upsampling_rows(layer)
        assert found.values["overlap"] == pytest.approx(0.19)
        assert found.values["dc_gain"] is found.values["dc_gain_worst"] is None
        assert reason in found.note


BOTH = pytest.mark.parametrize("dims", [2, 3])


def monai_unet(dims: int, **options) -> nn.Module:
    return UNet(dims, 1, 3, (4, 8, 8), (2, 2), **options)


def basic_unet(dims: int, upsample: str) -> nn.Module:
    return BasicUNet(dims, 1, 3, features=(8, 8, 8, 8, 8, 8), upsample=upsample)


@BOTH
class TestUNet:
    @pytest.mark.parametrize("residual", [0, 2])
    def test_its_default_kernel_overlaps_unevenly(self, dims, residual) -> None:
        found = upsampling_rows(monai_unet(dims, num_res_units=residual))
        assert len(found) == 2
        for each in found:
            assert each.values["overlap"] == pytest.approx(over_axes(0.1, dims))
            assert each.stride == [2] * dims
            assert each.note == ""
            assert each.values["sum_rule_order"] == 0


@BOTH
class TestBasicUNet:
    def test_transposed(self, dims) -> None:
        found = upsampling_rows(basic_unet(dims, "deconv"))
        assert [each.layer for each in found] == [
            f"upcat_{n}.upsample.deconv" for n in (4, 3, 2, 1)
        ]
        assert [each.values["overlap"] for each in found] == [0] * 4
        assert all(each.values["dc_gain"] > 0.4 for each in found)

    def test_shuffled(self, dims) -> None:
        network = basic_unet(dims, "pixelshuffle")
        found = upsampling_rows(network)
        assert [each.layer for each in found] == [
            f"upcat_{n}.upsample.pixelshuffle" for n in (4, 3, 2, 1)
        ]
        for each in found:
            assert each.note == ""
            assert each.values["overlap"] is None
            assert each.values["dc_gain"] == pytest.approx(0, abs=1e-9)
            assert each.values["noise_gain"] == pytest.approx(over_axes(0.1, dims), abs=0.02)
            assert each.values["sum_rule_order"] == 2

    def test_interpolated_with_the_corners_on_each_other(self, dims) -> None:
        for each in upsampling_rows(basic_unet(dims, "nontrainable")):
            assert each.values["dc_gain"] == each.values["dc_gain_worst"] == 0
            assert (
                each.values["noise_gain"]
                is each.values["imaging"]
                is each.values["sum_rule_order"]
                is None
            )
            assert "align_corners=True" in each.note
            assert "do not repeat with the stride" in each.note


@BOTH
def test_dynunet_overlaps_evenly(dims) -> None:
    strides = [1, 2, (2,) * (dims - 1) + (1,)]
    network = DynUNet(dims, 1, 3, [3] * 3, strides, strides[1:], filters=[4, 8, 8])
    found = upsampling_rows(network)
    assert [each.layer for each in found] == [f"upsamples.{n}.transp_conv.conv" for n in (0, 1)]
    assert [each.values["overlap"] for each in found] == [0, 0]
    assert [each.stride for each in found] == [list(strides[2]), [2] * dims]


@BOTH
@pytest.mark.parametrize("mode", ["nontrainable", "deconv", "pixelshuffle"])
def test_segresnet(dims, mode) -> None:
    network = SegResNet(dims, 8, 1, 3, blocks_down=(1, 1, 1), blocks_up=(1, 1), upsample_mode=mode)
    found = upsampling_rows(network)
    assert len(found) == 2
    assert all(each.note == "" for each in found)
    flat = [each.values["dc_gain"] == pytest.approx(0, abs=1e-9) for each in found]
    assert flat == [mode != "deconv"] * 2
    if mode == "nontrainable":
        assert [each.values["sum_rule_order"] for each in found] == [3, 3]


class TestWhatIsNotMeasured:
    @pytest.mark.parametrize(
        "block", [None, nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU())], ids=["none", "rectified"]
    )
    def test_other_layers_before_the_shuffle(self, block) -> None:
        layer = SubpixelUpsample(2, 4, conv_block=block)
        (found,) = upsampling_rows(layer)
        assert found.values["dc_gain"] is None
        assert "no known kernel" in found.note

    def test_a_shuffle_alone(self) -> None:
        conv = nn.Conv2d(2, 8, 3, padding=1)
        (found,) = upsampling_rows(nn.Sequential(conv, nn.PixelShuffle(2)))
        assert (found.layer, found.stride, found.values["dc_gain"]) == ("1", [], None)
        assert "hold its layers together" in found.note
        together = Upsampling(nn.Sequential(conv, nn.PixelShuffle(2)), 2, (2, 2))
        (found,) = upsampling_rows(together)
        assert found.note == ""
        ours = Upsampling(nn.Sequential(conv, DepthToSpace((2, 2))), 2, (2, 2))
        torch.testing.assert_close(UpsamplingLayer(together).kernel, UpsamplingLayer(ours).kernel)
