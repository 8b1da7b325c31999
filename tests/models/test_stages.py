"""Stages that fill their slots differently, and the rates of a schedule."""

import pytest
import torch
from torch import nn

from medseg.blocks import conv, unit
from medseg.errors import ConfigError
from medseg.models.description import build, build_network
from medseg.models.stage import make_stage

from .networks import block, unet

BLOCKS = {
    "conv": block("conv.Dilated", dilation=3),
    "unit": block("unit.Residual"),
    "downsample": block("downsample.AveragePool"),
    "upsample": block("upsample.Interpolate", mode="nearest"),
    "skip": block("skip.Add"),
}
SLOTS = {
    "encoder": ["conv", "downsample", "unit"],
    "standard": ["conv", "upsample", "unit", "skip"],
    "nested": ["conv", "upsample", "unit"],
    "full_scale": ["conv", "upsample", "unit"],
}
SHAPE = {
    "channels": (4, 8, 12),
    "strides": (1, 2, 2),
    "depths": 2,
    "upsample": block("upsample.Interpolate"),
}
CASES = [
    (half, slot, stage)
    for half, slots in SLOTS.items()
    for slot in slots
    for stage in range(3 if half == "encoder" else 2)
]


def half_of(half: str, stage: dict | None = None) -> nn.Module:
    options = {} if stage is None else {"stage": stage}
    if half == "encoder":
        return build(unet(of_encoder=options, **SHAPE)["encoder"])
    return build(unet(decoder=half, of_decoder=options, **SHAPE)["decoder"])


def parts_of(half: str, module: nn.Module) -> list[str]:
    """All that stands at each stage, as text."""
    match half:
        case "encoder":
            rows = list(zip(module.downsamples, module.stages, strict=True))
            rows[0] = (module.stem, *rows[0])
        case "standard":
            rows = list(zip(module.upsamples, module.skips, module.stages, strict=True))
        case "nested":
            rows = [
                [n for place, n in zip(module.order, module.nodes, strict=True) if place[0] == row]
                for row in range(len(module.channels))
            ]
        case _:
            rows = list(zip(module.joins, module.stages, strict=True))
    return [str([str(part) for part in row]) for row in rows]


@pytest.mark.parametrize(("half", "slot", "stage"), CASES)
def test_one_stage_alone_changes_and_to_what_all_would_change(half, slot, stage) -> None:
    before = parts_of(half, half_of(half))
    own = half_of(half, {stage: {slot: BLOCKS[slot]}})
    after = parts_of(half, own)
    every = {index: {slot: BLOCKS[slot]} for index in range(len(before))}
    wanted = parts_of(half, half_of(half, every))
    nothing_to_do = (half, slot, stage) == ("encoder", "downsample", 0)
    assert (after[stage] == before[stage]) == nothing_to_do
    assert after == [*before[:stage], wanted[stage], *before[stage + 1 :]]
    by_word = half_of(half, {str(stage): {slot: BLOCKS[slot]}})
    assert str(by_word) == str(own)


@pytest.mark.parametrize(
    ("half", "slot"), [(half, s) for half, every in SLOTS.items() for s in every]
)
def test_a_slot_given_for_all_stages_is_the_slot_of_the_half(half, slot) -> None:
    given = half_of(half, {i: {slot: BLOCKS[slot]} for i in range(3 if half == "encoder" else 2)})
    key = "of_encoder" if half == "encoder" else "of_decoder"
    decoder = "standard" if half == "encoder" else half
    whole = build(
        unet(decoder=decoder, **SHAPE, **{key: {slot: BLOCKS[slot]}})[
            "encoder" if half == "encoder" else "decoder"
        ]
    )
    assert str(given) == str(whole)


@pytest.mark.parametrize("nothing", [None, {}, {1: {}}], ids=str)
@pytest.mark.parametrize("half", SLOTS)
def test_a_stage_without_slots_of_its_own_is_as_all(half, nothing) -> None:
    assert str(half_of(half, nothing)) == str(half_of(half))


class TestRefused:
    @pytest.mark.parametrize("stage", [3, "3", -1, "bottom"])
    def test_a_stage_that_there_is_none_of(self, stage) -> None:
        message = rf"stage={stage} is none of 0, 1, 2 \(0 is the finest\)"
        with pytest.raises(ConfigError, match=message):
            half_of("encoder", {stage: {"conv": BLOCKS["conv"]}})

    @pytest.mark.parametrize("half", SLOTS)
    @pytest.mark.parametrize("slot", ["norm", *BLOCKS])
    def test_a_slot_that_the_half_has_not(self, half, slot) -> None:
        given = {1: {slot: BLOCKS.get(slot)}}
        if slot in SLOTS[half]:
            half_of(half, given)
            return
        with pytest.raises(ConfigError) as caught:
            half_of(half, given)
        head, _, listed = str(caught.value).partition("slots: ")
        assert f"stage 1 has no slot '{slot}'" in head
        assert sorted(listed.split(", ")) == sorted(SLOTS[half])

    def test_a_block_that_does_not_fit_its_stage(self) -> None:
        grouped = block("conv.Grouped", groups=8)
        with pytest.raises(ConfigError, match=r"groups=8 must divide out_channels=12; choose .*=6"):
            half_of("encoder", {2: {"conv": grouped}})


def rates_of(stage: nn.Module) -> list[set[int]]:
    """The dilations of each unit of a stage."""
    return [
        {m.dilation[0] for m in part.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] > 1}
        for part in stage
    ]


class TestSchedule:
    @pytest.mark.parametrize("kind", [unit.Plain(), unit.Residual(), unit.Bottleneck()], ids=repr)
    @pytest.mark.parametrize("rates", [(1, 2, 5), (2, 3), (4,)], ids=str)
    def test_each_unit_of_a_stage_has_its_own_rate_in_turn(self, kind, rates) -> None:
        stage = make_stage(kind, conv.DilatedSchedule(rates=rates), 2, 4, 8, 7)
        assert rates_of(stage) == [{rates[index % len(rates)]} for index in range(7)]

    def test_it_begins_anew_in_every_stage_of_both_halves(self) -> None:
        network = build_network(unet(depths=[3, 4, 2], conv=block("conv.DilatedSchedule")))
        stages = [rates_of(stage) for stage in network.encoder.stages]
        assert stages == [[{1}, {2}], [{1}, {2}, {5}, {1}], [{1}, {2}]]  # the stem besides
        stages = [rates_of(stage) for stage in network.decoder.stages]
        assert stages == [[{1}, {2}, {5}], [{1}, {2}, {5}, {1}]]


FLAT = {
    "standard": block("conv.Standard"),
    "of five taps": block("conv.Standard", kernel_size=5),
    "dilated": block("conv.Dilated", dilation=3),
    "schedule": block("conv.DilatedSchedule"),
    "smoothed": block("conv.SmoothedDilated"),
    "separable": block("conv.DepthwiseSeparable"),
    "one axis after another": block("conv.SpatiallySeparable"),
    "deformable": block("conv.Deformable"),
    "without neighbours": block("conv.Pointwise"),
}


@pytest.mark.parametrize(
    ("decoder", "name"),
    [*(("standard", name) for name in FLAT), ("nested", "standard"), ("full_scale", "standard")],
)
def test_a_stage_of_one_tap_along_an_axis_reads_no_neighbour_there(decoder, name) -> None:
    taps = [[None, None, 1], None, [3, 3, 3]]
    slots = {"conv": FLAT[name], "upsample": block("upsample.Interpolate")}
    options = {"decoder": decoder, "strides": [1, [2, 2, 1], 2], "depths": 2, **slots}
    both = {"of_encoder": taps_of(taps), "of_decoder": taps_of(taps)}
    flat, plain = build_network(unet(3, **options, **both)), build_network(unet(3, **options))
    fine = [flat.encoder.stem, flat.encoder.stages[0]]
    kernels = [m.kernel_size for part in fine for m in part.modules() if isinstance(m, nn.Conv3d)]
    assert {kernel[2] for kernel in kernels} == {1}
    image = torch.randn(1, 1, 12, 16, 4)
    assert flat(image).shape == plain(image).shape
    if name == "of five taps":
        assert (5, 5, 1) in kernels


def taps_of(taps: list) -> dict:
    return {"kernel_sizes": taps}


def test_without_sizes_of_kernels_a_network_is_what_it_was() -> None:
    before = build_network(unet(3, conv=block("conv.Dilated")))
    none = [None, None, None]
    same = unet(3, conv=block("conv.Dilated"), of_encoder=taps_of(none), of_decoder=taps_of(none))
    assert str(build_network(same)) == str(before)


@pytest.mark.parametrize("taps", [[None], [[1, 1], None, None], [[2, 3, 3], None, None]])
def test_sizes_of_kernels_that_do_not_fit_are_refused(taps) -> None:
    with pytest.raises(ConfigError, match="kernel"):
        build_network(unet(3, of_encoder=taps_of(taps)))
