"""Networks that cannot be rewritten: a refusal that names the layer, the reason and the remedy."""

import pytest
import torch

from medseg.blocks import conv, downsample, upsample
from medseg.conversion.rewriting import rewrite
from medseg.conversion.targets import target_of
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import MONAI_UNET, block, name_of, unet
from .rewritings import network_of, of_slot, rewritten

REFUSED = [
    ("conv", conv.Deformable(), "standard", "encoder.stages.0.0.0", "its taps move"),
    ("conv", conv.SmoothedDilated(), "standard", "encoder.stages.0.0.0", "zeros are put beyond"),
    ("upsample", upsample.BedOfNails(), "transposed", "decoder.upsamples.0", "biases of a channel"),
    ("upsample", upsample.PixelShuffle(), "transposed", "decoder.upsamples.0", "4 phases differ"),
    ("downsample", downsample.MaxPool(), "space_to_depth", "encoder.downsamples.1", "maxima"),
    ("downsample", downsample.BlurPool(), "strided", "encoder.downsamples.1", "repeats the border"),
    (
        "downsample",
        downsample.Strided(),
        "space_to_depth",
        "encoder.downsamples.1",
        "-1 to 1 lie beyond",
    ),
]


class TestRefused:
    @pytest.mark.parametrize(("slot", "was", "option", "layer", "reason"), REFUSED, ids=repr)
    def test_what_has_no_equivalent(self, slot, was, option, layer, reason) -> None:
        with pytest.raises(ConfigError) as caught:
            rewritten(of_slot(slot, was, strides=(1, 2, 2)), **{slot: option})
        message = str(caught.value)
        assert message.startswith(f"{layer}: {was!r} cannot become {option} without a change")
        assert reason in message
        assert message.endswith(f"; leave out --{slot} {option}, or train with {slot}={option}")

    @pytest.mark.parametrize("slot", ["upsample", "downsample"])
    def test_max_unpooling_and_its_pooling(self, slot) -> None:
        blocks = {"upsample": upsample.MaxUnpool(), "downsample": downsample.MaxPool()}
        description = unet(**{key: name_of(value) for key, value in blocks.items()})
        option = {"upsample": "pixel_shuffle", "downsample": "strided"}[slot]
        with pytest.raises(ConfigError, match="follows the maxima of the image"):
            rewritten(description, **{slot: option})

    def test_taps_along_an_axis_that_keeps_its_size(self) -> None:
        description = of_slot(
            "upsample", upsample.PixelShuffle(), channels=(4, 8), strides=(1, (1, 2))
        )
        network = network_of(description)
        with torch.no_grad():
            network.decoder.upsamples[0].layers[0].bias.zero_()
        with pytest.raises(ConfigError, match=r"taps -1 to 1 along an axis that keeps its size"):
            rewrite(network, description, [target_of("upsample", "transposed")])

    def test_weights_that_are_no_numbers(self) -> None:
        network = network_of(unet())
        with torch.no_grad():
            network.decoder.upsamples[1].weight.fill_(torch.nan)
        with pytest.raises(ConfigError, match=r"upsamples\.1: .* differ by nan"):
            rewrite(network, unet(), [target_of("upsample", "pixel_shuffle")])

    @pytest.mark.parametrize(
        ("description", "option", "message"),
        [
            (unet(), "transposed", "every layer is upsample=transposed already; use the"),
            (MONAI_UNET, "transposed", "monai.UNet has no blocks that could become upsample"),
            (unet(upsample=block("upsample.Interpolate")), "transposed", "there is nothing"),
            (unet(upsample=name_of(upsample.AdditiveInterpolate()), channels=(4, 8, 8)),
             "pixel_shuffle", "repeats the border"),
        ],
    )  # fmt: skip
    def test_where_there_is_nothing_to_rewrite(self, description, option, message) -> None:
        with pytest.raises(ConfigError, match=message):
            rewrite(build_network(description), description, [target_of("upsample", option)])

    def test_a_target_that_there_is_none_of(self) -> None:
        with pytest.raises(ConfigError, match=r"upsample=bilinear .* choose one of conv=standard"):
            target_of("upsample", "bilinear")


def test_a_wrong_kernel_would_be_found() -> None:
    target = target_of("upsample", "pixel_shuffle")

    def one_tap_off(layer, kernel) -> None:
        target.fill(layer, kernel)
        with torch.no_grad():
            layer.layers[0].weight[0, 0, 0, 0] += 1e-6

    with pytest.raises(ConfigError, match=r"differ by .* in float64; leave out"):
        rewrite(network_of(unet()), unet(), [target._replace(fill=one_tap_off)])
