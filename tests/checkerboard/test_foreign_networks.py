"""Weight-level measures of the networks of others."""

import pytest
import torch
from monai.networks.blocks.upsample import SubpixelUpsample
from monai.networks.nets import BasicUNet, DynUNet, SegResNet, UNet
from torch import nn

from medseg.checkerboard import upsampling_rows
from medseg.checkerboard.kernels import UpsamplingLayer
from medseg.layers.resampling import DepthToSpace, Upsampling

from .taps import over_axes

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
