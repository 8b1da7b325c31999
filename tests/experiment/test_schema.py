"""Every key of the configuration has its rule, and classes are checked by their signatures."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests_support import OVERRIDES

from medseg.arguments import construct
from medseg.blocks.conv import Standard
from medseg.blocks.unit import Residual
from medseg.cli.compose import composed
from medseg.data.augmentation import STEPS
from medseg.data.preprocess import Window
from medseg.errors import ConfigError
from medseg.experiment.effects import require_effect
from medseg.experiment.plan import make_plan
from medseg.experiment.schema import PARTS, RULES, check_config
from medseg.models.encoder import Encoder
from medseg.models.unet import UNet

BASE = composed("train", *OVERRIDES)


def leaves(section: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        key = f"{path}{name}"
        if key in PARTS:
            continue
        if isinstance(value, Mapping) and key not in RULES:
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def changed(key: str, value: Any, base: dict[str, Any] = BASE) -> dict[str, Any]:
    """The base with one value changed."""
    *path, last = key.split(".")
    config = dict(base)
    node: Any = config
    for part in path:
        node[part] = dict(node[part])
        node = node[part]
    node[last] = value
    return config


def test_every_key_has_a_rule() -> None:
    assert {key for key, _ in leaves(BASE)} <= RULES.keys()


@pytest.mark.parametrize("key", [key for key, value in leaves(BASE) if value != []])
def test_no_key_takes_an_empty_list(key: str) -> None:
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check_config(changed(key, []))


def test_outputs_are_regions_where_there_are_some() -> None:
    config = changed("data.regions", {"whole": [1, 2], "core": 2})
    config["data"] |= {"regions_class_order": [1, 2], "num_classes": 2}
    check_config(changed("model.num_classes", 2, config))
    for wrong in ([[1]], {"whole": "1"}, {"whole": [1.5]}):
        with pytest.raises(ConfigError, match=r"data\.regions"):
            check_config(changed("data.regions", wrong, config))


NUMBERS = [key for key, rule in RULES.items() if "number" in rule.must or "length" in rule.must]


@pytest.mark.parametrize(
    "value", [-1, float("nan"), float("inf"), True, "12", [1, 2, 3, 4]], ids=repr
)
@pytest.mark.parametrize("key", [key for key in NUMBERS if key in dict(leaves(BASE))])
def test_numbers_keep_their_range_and_kind(key: str, value: Any) -> None:
    if key == "ablation.seeds" and value == [1, 2, 3, 4]:
        return
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check_config(changed(key, value))


def test_all_faults_are_told_at_once_each_on_a_line() -> None:
    config = changed("trainer.epochs", 0) | {
        "seed": -1,
        "pictures": {"cases": "x", "every_epochs": 1},
    }
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "key",
    ["seed", "pictures.cases", "artifacts", "artifacts.shifts", "data.fold", "loss", "model"],
)
def test_a_key_that_is_taken_out_is_told_before_it_is_missed(key: str) -> None:
    config = changed(key, None)
    section: Any = config
    for part in key.split(".")[:-1]:
        section = section[part]
    del section[key.rpartition(".")[2]]
    with pytest.raises(ConfigError, match=key.replace(".", r"\.")):
        check_config(config)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("data.patch_size", [16, 16]),
        ("data.patch_size", [16, 16, 16, 16]),
        ("model.num_classes", 5),
        ("data.folds", 1),
        ("data.source.classes", 5),
        ("data.source.channels", 2),
    ],
)
def test_values_that_do_not_go_together(key: str, value: Any) -> None:
    with pytest.raises(ConfigError):
        check_config(changed(key, value))


_KINDS = [f"augmentation.{name}" for name in ("flip", "affine", "elastic", *STEPS)]
INERT = {
    "a fold of no folds": {"data.fold": 2},
    "a share beside folds": {"data.validation_fraction": 0.3, "data.folds": 3},
    "a share beside a split file": {"data.validation_fraction": 0.3, "data.split_file": "s"},
    "folds beside a split file": {"data.folds": 3, "data.split_file": "s"},
    "a seed beside a split file": {"data.split_seed": 3, "data.split_file": "s"},
    "a slice axis of volumes": {"data.slice_axis": 0},
    "a download of what is made": {"data.download": True},
    "axes of no flip": {"augmentation.flip_axes": [1], "augmentation.flip": 0.0},
    "a flip along no axis": {"augmentation.flip": 0.5, "augmentation.flip_axes": []},
    "an angle of no rotation": {"augmentation.rotation": 90, "augmentation.affine": 0},
    "a ramp of nothing": {"augmentation.ramp": 5.0, **dict.fromkeys(_KINDS, 0.0)},
    "a scale of no scaling": {"augmentation.scale": 0.1, "augmentation.affine": 0},
    "how often nothing is drawn": {"pictures.every_epochs": 2, "pictures.cases": 0},
    "shifts of nothing": {"artifacts.shifts": 8, "artifacts.follow": False, "artifacts.cases": 0},
    "damping of no momentum": {"optimizer.dampening": 0.1},
}


@pytest.mark.parametrize("given", INERT.values(), ids=INERT.keys())
def test_what_changes_nothing_is_refused(given: dict[str, Any]) -> None:
    config = BASE
    for key, value in given.items():
        config = changed(key, value, config)
    first = next(iter(given))
    with pytest.raises(ConfigError, match=first.replace(".", r"\.")):
        require_effect(given, [config])
    require_effect({first: None}, [config])


ARGUMENTS = {
    "a word for a number": (Window, {"low": "a", "high": 1}, "low"),
    "a list for a number": (Window, {"low": [0], "high": 1}, "low"),
    "not a number": (Window, {"low": float("nan"), "high": 1}, "low"),
    "an unknown option": (Window, {"low": 0, "hihg": 1}, "high"),
    "a range of its own": (Window, {"low": 2, "high": 1}, "low"),
    "a fraction for a count": (Residual, {"convs": 1.5}, "convs"),
    "true for a count": (Standard, {"kernel_size": True}, "kernel_size"),
    "a number for a block": (Residual, {"norm": 5}, "norm"),
    "a word for a block": (Residual, {"activation": "relu"}, "activation"),
    "one number for a list": (Encoder, {"channels": 4}, "channels"),
    "nothing for a part": (UNet, {"encoder": None}, "encoder"),
    "words in a list": (Encoder, {"channels": ["a", "b"]}, "channels"),
}


@pytest.mark.parametrize(("cls", "options", "named"), ARGUMENTS.values(), ids=ARGUMENTS.keys())
def test_arguments_are_of_the_kind_that_a_class_declares(cls, options, named: str) -> None:
    with pytest.raises(ConfigError, match=rf"^place.*{named}"):
        construct(cls, options, key="place")


TRIED = {
    "a loss that is no number": ("loss.reduction", "none"),
    "a loss of nothing": ("loss.lambda_dice", -1.0),
    "a rate below 0": ("optimizer.lr", -1.0),
    "a rate in words": ("optimizer.lr", "abc"),
    "betas out of range": ("optimizer.betas", [2.0, 2.0]),
    "one beta": ("optimizer.betas", 0.9),
    "a schedule without length": ("scheduler", {"_target_": "torch.optim.lr_scheduler.StepLR"}),
    "a network beyond memory": ("model.encoder.channels", [10**6, 10**6]),
    "a number of channels beyond counting": ("model.encoder.channels", [10**18, 10**18]),
}


@pytest.mark.parametrize(("key", "value"), TRIED.values(), ids=TRIED.keys())
def test_a_part_is_tried_before_data_are_read(key: str, value: Any, tmp_path: Path) -> None:
    config = changed(key, value)
    config["data"] = config["data"] | {"root": str(tmp_path)}
    with pytest.raises(ConfigError, match=key.partition(".")[0]):
        make_plan(config)
    assert not list(tmp_path.iterdir())
