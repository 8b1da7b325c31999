"""Every YAML composes, builds and is reachable; wrong words are answered in words."""

import re
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from medseg.analysis.input_sizes import check_patch
from medseg.build import build
from medseg.cli import compose
from medseg.errors import ConfigError
from medseg.labelling import Labelling
from medseg.models.description import build_network, describe
from medseg.training.loss import make_loss

CONFIGS = Path(__file__).parents[1] / "configs"
HALVES = ("encoder", "decoder")
SLOTS = {
    "conv": [f"conv@model.{half}.conv" for half in HALVES],
    "downsample": ["downsample@model.encoder.downsample"],
    "upsample": ["upsample@model.decoder.upsample"],
    "unit": [f"unit@model.{half}.unit" for half in HALVES],
    "norm": [f"norm@model.{half}.unit.norm" for half in HALVES],
    "activation": [f"activation@model.{half}.unit.activation" for half in HALVES],
    "skip": ["skip@model.decoder.skip"],
    "size": ["size@model.encoder"],
}
UPSAMPLE = "upsample@model.decoder.upsample"
NEEDS = {"max_unpool": {"downsample@model.encoder.downsample": "max_pool"}}
DECATHLON = sorted(
    path.stem
    for path in (CONFIGS / "data").glob("*.yaml")
    if "Task" in path.read_text(encoding="utf-8")
)


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def written(group: str, option: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8"))


DATA = [data for data in options("data") if data != "folder"]
MODELS = options("model")
OWN_MODELS = [model for model in MODELS if not model.startswith("monai_")]


@cache
def composed(*overrides: str) -> dict[str, Any]:
    """The configuration, to be read alone: whoever asks again is given the same."""
    return compose.composed("train", *overrides)


def check_network(config: dict[str, Any]) -> None:
    data = config["data"]
    with torch.device("meta"):  # sizes are looked at, weights are not
        network = build_network(describe(config["model"]))
    check_patch(network, data["in_channels"], data["patch_size"], deep_supervision=False)


def turns(*groups: str) -> list[dict[str, str]]:
    """Cells in which every option of the groups stands once in every place, key → option."""
    keys = {key: options(group) for group in groups for key in SLOTS[group]}
    return [
        {key: names[(turn + shift) % len(names)] for shift, (key, names) in enumerate(keys.items())}
        for turn in range(max(map(len, keys.values())))
    ]


# a large network of deformable convolutions takes as long as all others together
CELLS = [
    *turns("conv", "upsample", "skip", "norm", "activation"),
    *turns("unit", "downsample", "size"),
]


@pytest.mark.parametrize("data", ["mni152", "hippocampus"])
@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: " ".join(cell.values()))
def test_every_block_fits_its_slots_in_two_and_three_dimensions(
    cell: dict[str, str], data: str
) -> None:
    chosen = cell | NEEDS.get(cell.get(UPSAMPLE, ""), {})
    config = composed(*(f"{key}={option}" for key, option in chosen.items()), f"data={data}")
    check_network(config)
    for key, option in chosen.items():
        group, _, place = key.partition("@")
        node: Any = config
        for part in place.split("."):
            node = node[part]
        expected = {k: v for k, v in written(group, option).items() if k != "defaults"}
        assert expected.items() <= node.items(), key


@pytest.mark.parametrize("data", DATA)
def test_the_default_network_takes_every_dataset_s_patch(data: str) -> None:
    check_network(composed(f"data={data}"))


@pytest.mark.parametrize("data", ["mni152", "prostate"])  # whose volumes are flat
@pytest.mark.parametrize("model", MODELS)
def test_every_model_takes_planes_and_volumes(model: str, data: str) -> None:
    check_network(composed(f"model={model}", f"data={data}"))


@pytest.mark.parametrize(("model", "size"), [*zip(OWN_MODELS, cycle(options("size")))])
def test_sizes_fit_every_model(model: str, size: str) -> None:
    config = composed(f"model={model}", f"size@model.encoder={size}")
    check_network(config)
    expected = written("size", size)
    for half in HALVES:
        assert config["model"][half]["channels"] == expected["channels"]
        assert config["model"][half]["strides"] == expected["strides"]


@pytest.mark.parametrize("data", DECATHLON)
def test_the_large_network_takes_every_decathlon_patch_or_names_one_for_deep_supervision(
    data: str,
) -> None:
    config = composed(f"data={data}", "model=unet", "size@model.encoder=large")
    with torch.device("meta"):
        network = build_network(describe(config["model"]) | {"deep_supervision": True})
    channels, patch = config["data"]["in_channels"], config["data"]["patch_size"]
    check_patch(network, channels, patch, deep_supervision=False)
    fitting = [-(-size // 32) * 32 for size in patch]
    if patch != fitting:
        with pytest.raises(ConfigError, match=f"choose {re.escape(str(fitting))}"):
            check_patch(network, channels, patch, deep_supervision=True)
    check_patch(network, channels, fitting, deep_supervision=True)


@pytest.mark.parametrize("group", ["loss", "optimizer", "scheduler", "augmentation"])
def test_every_training_option_is_allowed_and_builds(group: str) -> None:
    for option in options(group):
        section = composed(f"{group}={option}")[group]
        assert (
            make_loss(section, Labelling(("one", "two"))) if group == "loss" else build(section)
        ) is not None


def test_a_recipe_changes_the_training_and_gives_way_to_what_is_asked_for() -> None:
    config = composed("recipe=nnunet", "data=hippocampus", "optimizer=adamw", "trainer.epochs=7")
    assert config["model"]["deep_supervision"]
    assert config["data"]["batches_per_epoch"] == 250
    assert config["scheduler"]["total_iters"] == config["trainer"]["epochs"] == 7
    assert config["optimizer"] == composed()["optimizer"]
    own = composed("recipe=nnunet")["optimizer"]
    assert own == composed("optimizer=sgd")["optimizer"]
    assert (own["lr"], own["momentum"], own["weight_decay"]) == (0.01, 0.99, 3e-5)


@pytest.mark.parametrize("ablation", options("ablation"))
def test_every_ablation_composes(ablation: str) -> None:
    config = composed(f"ablation={ablation}")
    assert config["name"] == ablation
    assert config["ablation"]["factors"]


def test_no_yaml_is_an_orphan() -> None:
    groups = {p.parent.relative_to(CONFIGS).as_posix() for p in CONFIGS.rglob("*.yaml")}
    tested = {*SLOTS, "model", "model/encoder", "model/decoder", "data", "loss", "optimizer"}
    assert groups == tested | {
        "data/base",
        "scheduler",
        "augmentation",
        "trainer",
        "recipe",
        "ablation",
        ".",
    } | {"hydra/launcher"}
    defaults = [d for m in MODELS for d in written("model", m).get("defaults", [])]
    chosen = {d.get("override decoder", d.get("decoder")) for d in defaults if isinstance(d, dict)}
    assert set(options("model/decoder")) <= chosen


@pytest.mark.parametrize(
    ("half", "group", "slot", "option"),
    [
        ("encoder", "conv", "conv", "dilated"),
        ("decoder", "unit", "unit", "residual"),
        ("encoder", "norm", "unit.norm", "batch"),
        ("decoder", "activation", "unit.activation", "silu"),
    ],
)
def test_one_override_of_a_half_changes_that_half_alone(
    half: str, group: str, slot: str, option: str
) -> None:
    before, after = composed(), composed(f"{group}@model.{half}.{slot}={option}")
    other = HALVES[1 - HALVES.index(half)]
    assert after["model"][half] != before["model"][half]
    assert after["model"][other] == before["model"][other]


@pytest.mark.parametrize("place", ["decoder.conv", "encoder.stage.2.conv"])
def test_a_misspelt_option_is_answered_with_the_options(place: str) -> None:
    plus = "+" if "stage" in place else ""
    with pytest.raises(ConfigError, match=r"dilated.*grouped"):
        composed(f"{plus}conv@model.{place}=dilatd")


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="chanels"):
        composed("model.encoder.chanels=[8,16]")
