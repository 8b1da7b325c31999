"""Single stages, the facts of the presets and impossible combinations, by command line."""

from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from medseg.errors import ConfigError
from medseg.models.description import build_network, describe

from .test_configs import OWN_MODELS, composed

CONVS = (nn.Conv2d, nn.Conv3d)


UP = "upsample@model.decoder.upsample"


@cache
def network_of(*overrides: str) -> nn.Module:
    """The network of overrides, to be looked at alone: its weights have no values."""
    with torch.device("meta"):
        return build_network(describe(composed(*overrides)["model"]))


def convs_of(module: nn.Module) -> list[Any]:
    return [m for m in module.modules() if isinstance(m, CONVS)]


STAGES = [
    ("conv@model.encoder.stage.2.conv=dilated", "model.encoder.stage.2.conv.dilation=3"),
    ("conv@model.encoder.stage.0.conv=grouped", "model.encoder.stage.0.conv.groups=2"),
    ("unit@model.encoder.stage.3.unit=residual", "model.encoder.stage.3.unit.convs=1"),
    ("unit@model.encoder.stage.1.unit=plain", "norm@model.encoder.stage.1.unit.norm=batch"),
    ("downsample@model.encoder.stage.2.downsample=max_pool", None),
    ("upsample@model.decoder.stage.0.upsample=bilinear", None),
    ("skip@model.decoder.stage.1.skip=none", None),
    ("conv@model.decoder.stage.2.conv=depthwise", "model.decoder.stage.2.conv.kernel_size=5"),
    ("unit@model.decoder.stage.1.unit=inception", None),
]
PLACES = {"encoder": ["downsamples", "stages"], "decoder": ["upsamples", "skips", "stages"]}


@pytest.mark.parametrize(("block", "option"), STAGES)
def test_a_single_stage_is_changed_on_the_command_line(block: str, option: str | None) -> None:
    _, half, _, stage, *_ = block.split("=")[0].partition("@")[2].split(".")
    before, after = network_of(), network_of(f"+{block}", *([option] if option else []))
    changed = {
        (side, str(index))
        for side, places in PLACES.items()
        for place in places
        for index, (old, new) in enumerate(
            zip(*(getattr(getattr(n, side), place) for n in (before, after)), strict=True)
        )
        if str(old) != str(new)
    }
    assert changed == {(half, stage)}


def test_the_dilation_of_one_stage_reaches_its_convolutions() -> None:
    network = network_of(
        "+conv@model.encoder.stage.2.conv=dilated", "model.encoder.stage.2.conv.dilation=3"
    )
    rates = [{c.dilation for c in convs_of(stage)} for stage in network.encoder.stages]
    assert rates == [{(1, 1)}, {(1, 1)}, {(3, 3)}, {(1, 1)}]


class TestPresets:
    @pytest.mark.parametrize("data", ["mni152", "hippocampus"])
    def test_mednext_s_wide_kernels_see_one_channel_each(self, data) -> None:
        network = network_of("model=mednext", f"data={data}")
        stages = [*network.encoder.stages, *network.decoder.stages]
        wide = [c for stage in stages for c in convs_of(stage) if max(c.kernel_size) > 1]
        assert len(wide) == 1 + 3 * 2 + 3 * 2  # the stem besides
        for conv in wide:
            assert conv.groups == conv.in_channels == conv.out_channels
        assert {type(m) for s in stages for m in s.modules()} & {nn.GELU, nn.LeakyReLU} == {nn.GELU}
        inner = [u.branches[0] for s in stages for u in s]
        for residual in inner:  # depthwise, norm, 1×1 to twice, GELU, 1×1
            assert convs_of(residual)[1].out_channels == 2 * convs_of(residual)[1].in_channels

    @pytest.mark.parametrize("data", ["mni152", "hippocampus"])
    def test_vnet_s_stages_are_two_kernels_of_5_around_a_shortcut(self, data) -> None:
        network = network_of("model=vnet", f"data={data}")
        dims = len(network.total_stride)
        for stage in [*network.encoder.stages[1:], *network.decoder.stages]:
            for unit in stage:
                wide = [c for c in convs_of(unit) if max(c.kernel_size) > 1]
                assert [c.kernel_size for c in wide] == [(5,) * dims] * 2
            assert {type(m) for m in stage.modules()} & {nn.PReLU, nn.LeakyReLU} == {nn.PReLU}
        for down in network.encoder.downsamples[1:]:
            assert down.kernel_size == down.stride == (2,) * dims
        assert [len(stage) for stage in network.encoder.stages] == [0, 1, 1, 1]

    def test_the_residual_encoder_grows_deep_and_its_decoder_does_not(self) -> None:
        network = network_of("model=resenc_unet")
        assert [len(stage) for stage in network.encoder.stages] == [0, 3, 4, 6]
        assert [len(stage) for stage in network.decoder.stages] == [1, 1, 1]
        config = composed("model=resenc_unet")["model"]
        assert config["encoder"]["unit"]["_target_"].endswith("Residual")
        assert config["decoder"]["unit"]["_target_"].endswith("Plain")
        large = network_of("model=resenc_unet", "size@model.encoder=resenc_large")
        assert [len(stage) for stage in large.encoder.stages] == [0, 3, 4, 6, 6, 6]

    @pytest.mark.parametrize(
        ("model", "difference"),
        [
            ("attention_unet", {"skip": "Attention"}),
            ("autoencoder", {"skip": "Nothing"}),
        ],
    )
    def test_presets_of_the_skip_differ_from_the_unet_in_the_skip(self, model, difference) -> None:
        before, after = composed()["model"], composed(f"model={model}")["model"]
        assert after["encoder"] == before["encoder"]
        own = {k: v for k, v in after["decoder"].items() if before["decoder"][k] != v}
        assert {k: v["_target_"].rpartition(".")[2] for k, v in own.items()} == difference

    def test_an_autoencoder_s_logits_come_from_the_bottleneck_alone(self) -> None:
        decoder = build_network(describe(composed("model=autoencoder")["model"])).decoder.eval()
        features = [torch.randn(1, 16 * 2**i, 32 // 2**i, 32 // 2**i) for i in range(4)]
        others = [torch.randn_like(f) for f in features[:-1]]
        with torch.no_grad():
            assert torch.equal(decoder(features)[0], decoder([*others, features[-1]])[0])

    @pytest.mark.parametrize(
        ("model", "decoder"),
        [("unet_plus_plus", "NestedDecoder"), ("unet_3_plus", "FullScaleDecoder")],
    )
    def test_the_other_decoders_have_their_presets(self, model, decoder) -> None:
        network = network_of(f"model={model}")
        assert type(network.decoder).__name__ == decoder
        if model == "unet_plus_plus":
            assert len(network.decoder.nodes) == 4 * 3 // 2
        else:
            assert network.decoder.channels == (4 * 16,) * 3

    def test_each_model_is_another_network(self) -> None:
        assert len({str(network_of(f"model={model}")) for model in OWN_MODELS}) == len(OWN_MODELS)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model.encoder.conv.kernel_size=4"], "kernel_size=4 must be odd.*choose"),
        (["+model.encoder.conv.rate=3"], "no option 'rate'.* kernel_size"),
        (["model=monai_unet", "model.multiple=0"], "multiple=0 must be at least 1; choose 1"),
        (["+model.encoder.stage.1=null"], "stage 1 must name slots, not None; its slots: conv"),
        (["+conv@model.decoder.stage.3.conv=dilated"], "stage=3 is none of 0, 1, 2"),
        (["model=unet_3_plus", "+skip@model.decoder.skip=add"], "no option 'skip'"),
        (
            ["model=unet_3_plus", f"{UP}=transposed", "model.decoder.upsample.kernel_size=2"],
            "kernel_size=2 is smaller than the scale 4.*choose kernel_size=4 or more",
        ),
    ],
)
def test_an_impossible_combination_names_value_rule_and_remedy(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        network_of(*overrides)
