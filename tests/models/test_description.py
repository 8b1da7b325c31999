"""Networks as data: what can be described, what is built from it and what never is."""

import contextlib
import json
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.errors import ConfigError
from medseg.models.description import block_texts, build, build_network, describe

from ..blocks.specs import EVERY_BLOCK
from .networks import MONAI_UNET, block, name_of, unet


def targets_of(description: Any) -> Any:
    """A description as the Hydra configuration it came from."""
    match description:
        case dict():
            plain = {k: targets_of(v) for k, v in description.items() if k != "name"}
            if "name" not in description:
                return plain
            module, _, cls = description["name"].rpartition(".")
            path = "monai.networks.nets" if module == "monai" else f"medseg.{module}"
            return {"_target_": f"{path}.{cls}"} | plain
        case list() | tuple():
            return [targets_of(item) for item in description]
    return description


@pytest.mark.parametrize("spec", EVERY_BLOCK, ids=repr)
def test_a_described_block_is_built_again_after_json(spec) -> None:
    description = json.loads(json.dumps(describe(targets_of(name_of(spec)))))
    assert build(description) == spec


@pytest.mark.parametrize("description", [unet(3, deep_supervision=True), MONAI_UNET])
def test_a_described_network_is_built_again_after_json(description) -> None:
    described = describe(targets_of(description))
    assert described == description
    torch.manual_seed(0)
    first = build_network(described)
    torch.manual_seed(0)
    second = build_network(json.loads(json.dumps(described)))
    assert str(first) == str(second)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_description_leaves_data_as_it_is() -> None:
    plain = {"a": [1, 2.5, None, {"b": (True, "x")}]}
    assert describe(plain) == build(plain) == {"a": [1, 2.5, None, {"b": [True, "x"]}]}


FOREIGN_TARGETS = [
    "os.system",
    "builtins.eval",
    "torch.nn.Conv2d",
    "medseg.blocks.conv.nn.Conv2d",
    "medseg.models.weights.torch.load",
    "medseg.files.write_text",
    "medseg.blocks",
    "monai.networks.nets.torch.load",
    "",
    "UNet",
    None,
]


@pytest.mark.parametrize("target", FOREIGN_TARGETS)
def test_a_foreign_target_is_not_described(target) -> None:
    pattern = f"_target_={re.escape(repr(target))} is not a part of a network; use a class of"
    with pytest.raises(ConfigError, match=pattern):
        describe({"encoder": [{"_target_": target}]})


FOREIGN_NAMES = [
    "os.system",
    "torch.nn.Conv2d",
    "blocks.conv.nn.Conv2d",
    "medseg.blocks.conv.Standard",
    "Standard",
    "blocks..conv.Standard",
    "monai.torch.load",
    "",
    None,
    ["blocks.conv.Standard"],
]
NOT_THERE = [
    "blocks.conv.Standart",
    "blocks.conv._same_conv",
    "blocks.conv.nn",
    "blocks.conv.dataclass",
    "blocks.conv.ConvFactory",
    "blocks.unit.LeakyReLU",
    "blocks.conv.__builtins__",
    "models.unet.Encoder",
    "models.weights.load_model",
    "monai.Optional",
    "monai.unet",
    "monai.Transchex",  # loads a model of a hub
    "monai.HoVerNet",  # loads weights of an address
]


class TestBuildRefuses:
    @pytest.mark.parametrize("name", FOREIGN_NAMES)
    def test_what_is_no_part_of_a_network(self, name) -> None:
        for description in ({"name": name}, {"name": "blocks.unit.Plain", "norm": {"name": name}}):
            with pytest.raises(ConfigError, match=r"name=.*(not a part of a network|has no)"):
                build(description)

    @pytest.mark.parametrize("name", NOT_THERE)
    def test_what_its_module_does_not_offer(self, name) -> None:
        cls = name.rpartition(".")[2]
        pattern = rf"name='{re.escape(name)}'.* has no '{cls}'; choose from \w*"
        with pytest.raises(ConfigError, match=pattern):
            build({"name": name})

    def test_weights_of_another_network(self) -> None:
        with pytest.raises(ConfigError, match="has no option 'pretrained'"):
            build({"name": "monai.AHNet", "pretrained": True})

    @pytest.mark.parametrize(
        ("description", "message"),
        [
            (block("conv.Dilated", dilation="two"), "dilation='two' must be a whole number"),
            (block("conv.Standard", kernel_size=4), "kernel_size=4 must be odd"),
            (unet(channels=(8,), strides=(1,)), r"channels=\[8\] must name at least 2 stages"),
            (unet(strides=(1, 2)), r"strides=\[1, 2\] must have one entry.*instance \[1, 2, 2\]"),
            (unet(strides=(2, 2, 2)), r"strides\[0\]=2 must be 1"),
            (unet(strides=(1, 0, 2)), "strides=0 must be whole numbers of at least 1"),
            (unet(strides=(1, 2.0, 2)), r"strides=\[1, 2\.0, 2\] must be"),
            (unet(strides=(1, (2, 2, 2), 2)), r"strides=\(2, 2, 2\) has 3 axes"),
            (unet(channels=(4, 0, 8)), r"channels=\[4, 0, 8\] must be .* instance \[16, 32, 64\]"),
            (unet(channels=(4, -8, 8)), r"channels=\[4, -8, 8\] must be whole numbers"),
            (unet(depths=[1, 2]), r"depths=\[1, 2\] must have one entry per stage \(3\)"),
            (unet(depths=0), r"depths=\[0, 0, 0\] must all be at least 1"),
            (unet(of_decoder={"depths": [1, 0, 1]}), r"depths=\[1, 0, 1\] must all be at least 1"),
            (unet(decoder="full_scale", of_decoder={"width": 0}), "width=0 must be at .* choose 4"),
            (unet(dims=4), "spatial_dims=4 must be 1, 2 or 3"),
            (unet(num_classes=1), "num_classes=1 must be at least 2"),
            (unet(conv=block("conv.Grouped", groups=3)), "groups=3 must divide in_channels=4"),
            (unet(conv=7), "conv=7 must be"),
            (unet(unit=block("unit.Plain", norm=block("norm.Group"))), "must divide channels=4"),
            (unet(upsample=block("upsample.Transposed", kernel_size=1)), "=1 is smaller than"),
            (unet(of_decoder={"strides": [1, 2, 4]}), "decoder strides=.* must mirror"),
            (unet() | {"encoder": None}, "models.unet.UNet.encoder=None"),
            ({"name": "models.unet.UNet"}, "models.unet.UNet: .*missing 3 required"),
            (MONAI_UNET | {"strides": [2, 2, 2, 2], "channels": [4]}, "monai.UNet: "),
            (MONAI_UNET | {"act": "nonsense"}, "monai.UNet: "),
            (MONAI_UNET | {"in_channels": -1}, "monai.UNet: "),
        ],
    )  # fmt: skip
    def test_an_impossible_combination(self, description, message) -> None:
        with pytest.raises(ConfigError, match=rf"(?s){message}"):
            build(description)

    @pytest.mark.parametrize("description", [block("conv.Standard"), {"a": 1}, [], "x", None])
    def test_what_is_not_a_network(self, description) -> None:
        with pytest.raises(ConfigError, match=r"is not a network; choose models\.unet\.UNet"):
            build_network(description)


junk = st.none() | st.booleans() | st.integers(-2, 4) | st.floats() | st.text(max_size=3)
junk |= st.lists(junk, max_size=3) | st.dictionaries(st.text(max_size=3), junk, max_size=2)


@settings(max_examples=60)
@given(slot=st.sampled_from(["encoder", "decoder"]), data=st.data())
def test_whatever_an_option_holds_the_answer_is_a_network_or_a_config_error(slot, data) -> None:
    description = unet()
    option = data.draw(st.sampled_from(sorted(description[slot])))
    description[slot][option] = data.draw(junk)
    with contextlib.suppress(ConfigError):
        assert isinstance(build_network(description), nn.Module)


def test_blocks_are_listed_by_slot() -> None:
    conv = block("conv.Dilated", dilation=[2, 3])
    texts = block_texts(unet(conv=conv))
    plain = (
        "Plain(norm=Instance(eps=1e-05), activation=LeakyReLU(negative_slope=0.01), dropout=0.0)"
    )
    assert texts == {
        "encoder.downsample": "Strided(kernel_size=None)",
        "encoder.conv": "Dilated(kernel_size=3, dilation=(2, 3))",
        "encoder.unit": plain,
        "decoder.upsample": "Transposed(kernel_size=None)",
        "decoder.conv": "Dilated(kernel_size=3, dilation=(2, 3))",
        "decoder.unit": plain,
    }
    assert block_texts(MONAI_UNET) == {}
