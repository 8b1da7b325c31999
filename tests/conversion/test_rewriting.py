"""Networks rewritten: the same output from other blocks."""

from typing import Any

import pytest
import torch
from torch import nn

from medseg.blocks import conv, downsample, unit, upsample
from medseg.conversion.rewriting import largest_difference, rewrite
from medseg.conversion.targets import target_of
from medseg.models.description import block_texts, build_network

from ..blocks.specs import UNITS
from ..models.networks import DECODERS, block, name_of, unet
from .rewritings import ODD, STRIDES, now, of_slot, rewritten

TO_SHUFFLE = [
    (upsample.Transposed(), upsample.PixelShuffle(kernel_size=1)),
    (upsample.Transposed(kernel_size=3), upsample.PixelShuffle()),
    (upsample.Transposed(kernel_size=4), upsample.PixelShuffle()),
    (upsample.BilinearTransposed(), upsample.PixelShuffle()),
    (upsample.LargeKernelTransposed(), upsample.PixelShuffle(kernel_size=5)),
    (upsample.BedOfNails(), upsample.PixelShuffle(kernel_size=1)),
    (upsample.Interpolate(mode="nearest"), upsample.PixelShuffle(kernel_size=1)),
    (upsample.SmoothedTransposed(), upsample.PixelShuffle(kernel_size=1, blur=True)),
    (upsample.SmoothedTransposed(kernel_size=5), upsample.PixelShuffle(blur=True)),
]
TO_TRANSPOSED = [
    (upsample.Interpolate(mode="nearest"), upsample.Transposed(kernel_size=2)),
    (upsample.LargeKernelTransposed(), upsample.Transposed(kernel_size=7)),
]
TO_STANDARD = [
    (conv.Grouped(), 3),
    (conv.Grouped(groups=2, shuffle=True), 3),
    (conv.Depthwise(kernel_size=5), 5),
    (conv.DepthwiseSeparable(multiplier=2), 3),
    (conv.SpatiallySeparable(), 3),
    (conv.Dilated(), 5),
    (conv.DilatedSchedule(), 5),  # rates 1 and 2 in stages of two units
    (conv.DilatedSchedule(rates=(1, 3, 2)), 7),
    (conv.Pointwise(), 1),
]


def in_turn(cases: list) -> list:
    """Each case once, in 2-D and 3-D by turns."""
    return [
        (*(case if type(case) is tuple else (case,)), 2 + i % 2) for i, case in enumerate(cases)
    ]


class TestEquivalents:
    @pytest.mark.parametrize(("was", "becomes", "dims"), in_turn(TO_SHUFFLE), ids=repr)
    def test_pixel_shuffle(self, was, becomes, dims) -> None:
        found = rewritten(of_slot("upsample", was, dims), upsample="pixel_shuffle")
        assert now(found) == {repr(becomes)}
        assert [row.layer for row in found.layers] == ["decoder.upsamples.0", "decoder.upsamples.1"]

    @pytest.mark.parametrize(("was", "becomes", "dims"), in_turn(TO_TRANSPOSED), ids=repr)
    def test_transposed(self, was, becomes, dims) -> None:
        found = rewritten(of_slot("upsample", was, dims), upsample="transposed")
        assert now(found) == {repr(becomes)}

    @pytest.mark.parametrize(("was", "taps", "dims"), in_turn(TO_STANDARD), ids=repr)
    def test_standard(self, was, taps, dims) -> None:
        found = rewritten(of_slot("conv", was, dims), conv="standard")
        assert now(found) == {repr(conv.Standard(kernel_size=taps))}
        assert not any(m.groups > 1 for m in found.network.modules() if isinstance(m, nn.Conv2d))

    @pytest.mark.parametrize("dims", [2, 3])
    def test_axes_keep_their_own_taps(self, dims) -> None:
        own = conv.Dilated(kernel_size=(1, 3, 3)[-dims:], dilation=(1, 2, 3)[-dims:])
        found = rewritten(of_slot("conv", own, dims), conv="standard")
        assert now(found) == {repr(conv.Standard(kernel_size=(1, 5, 7)[-dims:]))}

    @pytest.mark.parametrize(
        ("was", "dims"), in_turn([downsample.Strided(kernel_size=2), downsample.AveragePool()])
    )
    def test_space_to_depth(self, was, dims) -> None:
        found = rewritten(of_slot("downsample", was, dims), downsample="space_to_depth")
        assert now(found) == {repr(downsample.SpaceToDepth())}

    @pytest.mark.parametrize("dims", [2])
    def test_strided(self, dims) -> None:
        was = of_slot("downsample", downsample.SpaceToDepth(), dims)
        there = rewritten(was, downsample="strided")
        assert now(there) == {repr(downsample.Strided(kernel_size=2))}

    @pytest.mark.parametrize(("decoder", "dims"), in_turn(list(DECODERS)))
    def test_all_slots_at_once_in_every_decoder(self, decoder, dims) -> None:
        description = unet(
            dims, decoder=decoder, strides=STRIDES[dims], depths=2,
            conv=block("conv.DepthwiseSeparable"), upsample=block("upsample.Transposed"),
            downsample=block("downsample.SpaceToDepth"),
        )  # fmt: skip
        wanted = {"upsample": "pixel_shuffle", "conv": "standard", "downsample": "strided"}
        found = rewritten(description, **wanted)
        texts = set(block_texts(found.description).values())
        assert not [t for t in texts if t.startswith(("Transposed", "Depthwise", "SpaceToDepth"))]

    @pytest.mark.parametrize(("kind", "dims"), in_turn(UNITS), ids=repr)
    def test_in_every_unit(self, kind, dims) -> None:
        own = {"channels": (8, 8), "strides": (1, 2), "depths": 1, "unit": name_of(kind)}
        found = rewritten(of_slot("conv", conv.Depthwise(), dims, **own), conv="standard")
        assert now(found) == {repr(conv.Standard())}


class TestThereAndBack:
    def test_shuffles_whose_phases_share_their_bias_become_transposed(self) -> None:
        description = of_slot("upsample", upsample.Transposed(kernel_size=4))
        there = rewritten(description, upsample="pixel_shuffle")
        back = rewrite(there.network, there.description, [target_of("upsample", "transposed")])
        assert now(back) == {repr(upsample.Transposed(kernel_size=4))}
        assert largest_difference(there.network, back.network, 1, ODD[2]) <= 1e-10

    def test_so_do_those_with_a_blur(self) -> None:
        description = of_slot("upsample", upsample.SmoothedTransposed(kernel_size=3))
        there = rewritten(description, upsample="pixel_shuffle")
        back = rewrite(there.network, there.description, [target_of("upsample", "transposed")])
        assert now(back) == {repr(upsample.SmoothedTransposed(kernel_size=3))}
        assert largest_difference(there.network, back.network, 1, ODD[2]) <= 1e-10


STAGE: dict[str, Any] = {
    "0": {"upsample": block("upsample.Interpolate", mode="nearest")},
    "1": {"conv": block("conv.Grouped")},
}


class TestStages:
    def test_blocks_of_single_stages_are_rewritten_in_their_place(self) -> None:
        description = unet(of_decoder={"stage": STAGE})
        found = rewritten(description, upsample="pixel_shuffle", conv="standard")
        stage = found.description["decoder"]["stage"]
        assert stage["0"]["upsample"]["name"] == "blocks.upsample.PixelShuffle"
        assert stage["1"]["conv"] == {"name": "blocks.conv.Standard", "kernel_size": 3}
        assert found.description["encoder"] == description["encoder"]
        assert [row.was for row in found.layers] == [
            "Transposed(kernel_size=None)",
            "Interpolate(mode='nearest')",
            "Grouped(kernel_size=3, groups=4, shuffle=False)",
        ]

    def test_linear_interpolation_stays_and_says_why(self) -> None:
        own = {0: {"upsample": block("upsample.Interpolate")}}
        found = rewritten(unet(of_decoder={"stage": own}), upsample="pixel_shuffle")
        assert [row.layer for row in found.layers] == ["decoder.upsamples.1"]
        (line,) = found.unchanged
        assert line.startswith("decoder.upsamples.0 stays Interpolate(")
        assert "repeats the border" in line

    def test_what_is_the_target_already_is_left_alone(self) -> None:
        shuffle = block("upsample.PixelShuffle", kernel_size=5)
        found = rewritten(
            unet(of_decoder={"stage": {1: {"upsample": shuffle}}}), upsample="pixel_shuffle"
        )
        assert [row.layer for row in found.layers] == ["decoder.upsamples.0"]
        assert found.description["decoder"]["stage"] == {1: {"upsample": shuffle}}

    def test_a_block_that_made_no_layer_is_left_alone(self) -> None:
        every = {index: {"upsample": block("upsample.Transposed")} for index in range(2)}
        description = unet(upsample=block("upsample.MaxUnpool"), of_decoder={"stage": every})
        found = rewritten(description, upsample="pixel_shuffle")
        assert found.description["decoder"]["upsample"] == block("upsample.MaxUnpool")

    def test_strides_of_two_sizes_share_the_larger_kernel(self) -> None:
        found = rewritten(
            unet(strides=(1, 3, 2), upsample=block("upsample.Interpolate", mode="nearest")),
            upsample="transposed",
        )
        assert now(found) == {repr(upsample.Transposed(kernel_size=3))}


def test_a_network_inside_another_is_found() -> None:
    description = {"name": "models.padding.Padded", "network": unet(), "multiple": 4}
    network = build_network(description).double().eval()
    found = rewrite(network, description, [target_of("upsample", "pixel_shuffle")])
    assert [row.layer for row in found.layers] == [
        "network.decoder.upsamples.0",
        "network.decoder.upsamples.1",
    ]
    assert largest_difference(network, found.network, 1, ODD[2]) <= 1e-10


def test_untouched_weights_are_the_same_numbers() -> None:
    description = unet(unit=block("unit.Plain", norm=block("norm.Batch")))
    network = build_network(description).eval()
    found = rewrite(network, description, [target_of("upsample", "pixel_shuffle")])
    new = found.network.state_dict()
    kept = {k: v for k, v in network.state_dict().items() if "upsamples" not in k}
    assert all(torch.equal(new[key], value) for key, value in kept.items())
    assert {v.dtype for v in new.values()} == {torch.float32, torch.int64}
    assert largest_difference(network, found.network, 1, ODD[2]) < 1e-5


def test_the_unit_of_xception_keeps_its_own_1x1() -> None:
    kind = name_of(unit.SeparableResidual())
    found = rewritten(unet(conv=block("conv.Depthwise"), unit=kind), conv="standard")
    assert all(row.layer.rpartition(".")[2] in ("0", "4") for row in found.layers)
