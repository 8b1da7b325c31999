"""Configuration → objects: every option of the configuration, and nothing else."""

import inspect
from functools import partial
from importlib import import_module
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from medseg.build import ALLOWED, build
from medseg.data.phantom import Phantom
from medseg.errors import ConfigError

CONFIGS = Path(__file__).parents[1] / "configs"


def options(group: str) -> list:
    paths = sorted((CONFIGS / group).glob("*.yaml"))
    assert paths
    return [pytest.param(path, id=path.stem) for path in paths]


def node(path: Path):
    """A group's option inside a whole configuration, to which it refers."""
    whole = OmegaConf.create({"trainer": {"epochs": 7}, "part": OmegaConf.load(path)})
    return OmegaConf.to_container(whole, resolve=True)["part"]  # type: ignore[index, call-overload]


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


@pytest.mark.parametrize("path", options("loss"))
def test_losses_are_differentiable(path) -> None:
    loss = build(node(path))
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    value = loss(logits, torch.ones(1, 1, 4, 4))
    value.backward()
    assert value > 0
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("path", options("optimizer"))
def test_optimisers_wait_for_their_parameters(path) -> None:
    make = build(node(path))
    assert isinstance(make, partial)
    assert isinstance(make(parameters()), torch.optim.Optimizer)


@pytest.mark.parametrize("path", options("scheduler"))
def test_schedules_fall_to_zero_or_stay(path) -> None:
    optimizer = torch.optim.SGD(parameters(), lr=0.5)
    scheduler = build(node(path))(optimizer)
    rates = scheduler.get_last_lr()
    for _ in range(7):
        optimizer.step()
        scheduler.step()
        rates += scheduler.get_last_lr()
    top = rates.index(max(rates))  # the first, but for a warm-up
    assert rates == sorted(rates[:top]) + sorted(rates[top:], reverse=True)
    assert rates[top] == 0.5
    assert top == 0 or path.stem == "warmup_cosine"
    assert rates[-1] == pytest.approx(0.5 if path.stem == "constant" else 0, abs=1e-9)


def test_a_source_of_data() -> None:
    config = {"_target_": "medseg.data.phantom.Phantom", "root": "x", "cases": 3}
    assert build(config) == Phantom(root="x", cases=3)


def test_what_names_no_class_stays_plain_data() -> None:
    plain = {"a": [1, {"b": None}], "c": "${a}", "d": 2.5}
    assert build(plain) == plain


@pytest.mark.parametrize("module", ALLOWED)
def test_no_class_on_the_list_takes_a_place_to_load_code_or_weights_from(module: str) -> None:
    own = module.startswith("medseg.")
    for name in ALLOWED[module]:
        cls = getattr(import_module(module), name)
        assert inspect.isclass(cls)
        for option in inspect.signature(cls).parameters:
            assert own or not any(w in option for w in ("path", "dir", "url", "pretrained"))


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "torch.hub.load",
        "torch.load",
        "torch.nn.Conv2d",
        "torch.optim.lr_scheduler.LambdaLR",
        "torch.optim.adamw.torch.hub.load",
        "monai.losses.PerceptualLoss",  # runs hubconf.py of `cache_dir`
        "monai.losses.dice.warnings.catch_warnings",
        "monai.bundle.run",
        "medseg.files.write_text",
        "medseg.data.cache.Path",
        "medseg.data.phantom.Nothing",
        "medseg.data.config.DataConfig",  # a dataclass, but no dataset
        "medseg.data.splits.Split",
        "medseg.data..phantom.Phantom",
        "torch.optim.",
        "Adam",
        "",
        None,
        3,
    ],
)
@pytest.mark.parametrize(
    "wrap",
    [
        lambda evil: evil,
        lambda evil: {"a": [1, ({"b": evil},)]},
        lambda evil: {"_target_": "torch.optim.SGD", "_partial_": True, "params": [evil]},
    ],
    ids=["itself", "nested", "an argument"],
)
def test_no_other_target_is_built_wherever_it_stands(target, wrap) -> None:
    with pytest.raises(ConfigError, match="is not on the list") as caught:
        build(wrap({"_target_": target}))
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"_target_": "torch.optim.SGD", "params": [1]}, "torch.optim.SGD: "),
        ({"_target_": "monai.losses.DiceLoss", "nonsense": 1}, "nonsense"),
        ({"_target_": "monai.losses.DiceLoss", "_args_": [1]}, "_args_"),
        ({"_target_": "monai.losses.DiceLoss", "other_act": "os.system"}, "other_act"),
        ({"_target_": "monai.losses.DiceLoss", "sigmoid": True, "softmax": True}, "Incompatible"),
    ],
)
def test_arguments_that_the_class_refuses(config, message) -> None:
    with pytest.raises(ConfigError, match=message):
        build(config)
