"""Every YAML composes, builds and is reachable; wrong words are answered in words."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.errors import HydraException
from omegaconf import OmegaConf

from medseg.build import instantiate_allowed
from medseg.cli.resolvers import register_resolvers
from medseg.errors import ConfigError
from medseg.models.cost import check_patch, count_macs
from medseg.models.description import build_network, describe

CONFIGS = Path(__file__).parents[1] / "configs"
SLOTS = {
    "conv": ["conv@model.encoder.conv", "conv@model.decoder.conv"],
    "downsample": ["downsample@model.encoder.downsample"],
    "upsample": ["upsample@model.decoder.upsample"],
    "unit": ["unit@model.encoder.unit"],
    "norm": ["norm@model.encoder.unit.norm"],
    "activation": ["activation@model.encoder.unit.activation"],
}
DECATHLON = sorted(
    path.stem
    for path in (CONFIGS / "data").glob("*.yaml")
    if "Task" in path.read_text(encoding="utf-8")
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def composed(*overrides: str) -> dict[str, Any]:
    register_resolvers()
    with initialize_config_module("medseg.configs", version_base="1.3"):
        config = compose("train", overrides=list(overrides))
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def check_network(config: dict[str, Any]) -> None:
    network = build_network(describe(config["model"]))
    data = config["data"]
    check_patch(network, data["in_channels"], data["patch_size"], deep_supervision=False)
    assert count_macs(network, data["in_channels"], data["patch_size"]) > 0


@pytest.mark.parametrize(
    "override",
    [
        f"{key}={option}"
        for group, keys in SLOTS.items()
        for key in keys
        for option in options(group)
    ],
)
@pytest.mark.parametrize("data", ["mni152", "hippocampus"])
def test_every_block_fits_its_slots_in_two_and_three_dimensions(override: str, data: str) -> None:
    config = composed(override, f"data={data}")
    check_network(config)
    key, _, option = override.partition("=")
    node: Any = config
    for part in key.rpartition("@")[2].split("."):
        node = node[part]
    expected = yaml.safe_load(
        (CONFIGS / key.partition("@")[0] / f"{option}.yaml").read_text(encoding="utf-8")
    )
    assert node["_target_"] == expected["_target_"]


@pytest.mark.parametrize("model", options("model"))
def test_every_model_composes_and_builds(model: str) -> None:
    check_network(composed(f"model={model}", "data=mni152"))


@pytest.mark.parametrize("data", [d for d in options("data") if d != "folder"])
def test_the_default_network_takes_every_dataset_s_patch(data: str) -> None:
    check_network(composed(f"data={data}"))


@pytest.mark.parametrize("data", DECATHLON)
def test_the_large_network_takes_every_decathlon_patch_with_deep_supervision(data: str) -> None:
    config = composed(f"data={data}", "model=unet")
    network = build_network(describe(config["model"]) | {"deep_supervision": True})
    patch = config["data"]["patch_size"]
    check_patch(network, config["data"]["in_channels"], patch, deep_supervision=True)


@pytest.mark.parametrize("group", ["loss", "optimizer", "scheduler", "augmentation"])
def test_every_training_option_is_allowed_and_builds(group: str) -> None:
    for option in options(group):
        assert instantiate_allowed(composed(f"{group}={option}")[group]) is not None


@pytest.mark.parametrize("sweep", options("sweep"))
def test_every_sweep_composes(sweep: str) -> None:
    assert composed(f"sweep={sweep}")["name"] == sweep


def test_no_yaml_is_an_orphan() -> None:
    groups = {p.parent.relative_to(CONFIGS).as_posix() for p in CONFIGS.rglob("*.yaml")}
    tested = {*SLOTS, "model", "model/encoder", "model/decoder", "data", "loss", "optimizer"}
    assert groups == tested | {"scheduler", "augmentation", "trainer", "sweep", "."}


def test_one_override_of_the_encoder_changes_encoder_alone() -> None:
    before, after = composed(), composed("conv@model.encoder.conv=dilated")
    assert after["model"]["encoder"]["conv"]["_target_"].endswith("Dilated")
    assert after["model"]["decoder"] == before["model"]["decoder"]


def test_a_misspelt_option_is_answered_with_the_options() -> None:
    with pytest.raises(HydraException, match=r"dilated[\s\S]*grouped"):
        composed("conv@model.encoder.conv=dilatd")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(HydraException, match="chanels"):
        composed("model.encoder.chanels=[8,16]")


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (
            ["conv@model.decoder.conv=grouped", "model.decoder.conv.groups=7"],
            "groups=7 must divide",
        ),
        (["model.decoder.upsample.kernel_size=1"], "kernel_size=1 is smaller than the scale 2"),
        (["model.encoder.downsample.kernel_size=1"], "kernel_size=1 is smaller than the stride 2"),
        (["model.encoder.conv.kernel_size=4"], "kernel_size=4 must be odd"),
        (["model.encoder.strides=[1,2,2]"], "one entry per stage"),
        (["model.encoder.strides=[2,2,2,2]"], "must be 1"),
        (["norm@model.encoder.unit.norm=group", "model.encoder.unit.norm.groups=3"], "groups=3"),
        (["model.num_classes=1"], "num_classes=1 must be at least 2"),
        (["+model.encoder.conv.rate=3"], "no option 'rate'"),
    ],
)
def test_an_impossible_combination_names_value_rule_and_remedy(
    overrides: list[str], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_network(describe(composed(*overrides)["model"]))
