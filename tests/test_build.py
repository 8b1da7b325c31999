"""Configuration → objects: everything the house configures, and nothing else."""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from medseg.build import instantiate_allowed
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
    return whole.part


def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(3))]


class TestTheHouse:
    @pytest.mark.parametrize("path", options("loss"))
    def test_losses(self, path) -> None:
        loss = instantiate_allowed(node(path))
        logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
        value = loss(logits, torch.ones(1, 1, 4, 4))
        value.backward()
        assert value > 0
        assert logits.grad.isfinite().all()

    @pytest.mark.parametrize("path", options("optimizer"))
    def test_optimisers(self, path) -> None:
        make = instantiate_allowed(node(path))
        assert isinstance(make, partial)
        assert isinstance(make(parameters()), torch.optim.Optimizer)

    @pytest.mark.parametrize("path", options("scheduler"))
    def test_schedulers(self, path) -> None:
        optimizer = torch.optim.SGD(parameters(), lr=0.5)
        scheduler = instantiate_allowed(node(path))(optimizer)
        assert scheduler.get_last_lr() == [0.5]
        rates = []
        for _ in range(7):
            optimizer.step()
            scheduler.step()
            rates += scheduler.get_last_lr()
        assert rates == sorted(rates, reverse=True)
        assert rates[-1] == pytest.approx(0.5 if path.stem == "constant" else 0, abs=1e-9)

    def test_data(self) -> None:
        config = {"_target_": "medseg.data.phantom.Phantom", "root": "x", "cases": 3}
        made = instantiate_allowed(config)
        assert isinstance(made, Phantom)
        assert made.cases == 3


def test_what_names_no_class_stays_plain_data() -> None:
    config = OmegaConf.create({"a": [1, {"b": None}], "c": "${a}", "d": 2.5})
    assert instantiate_allowed(config) == {"a": [1, {"b": None}], "c": [1, {"b": None}], "d": 2.5}


FOREIGN = [
    "os.system",
    "os.getpid",
    "posix.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "subprocess.run",
    "shutil.rmtree",
    "pickle.loads",
    "torch.load",
    "torch.hub.load",
    "torch.nn.Conv2d",
    "torch.optimist.Adam",
    "numpy.load",
    "monai.bundle.run",
    "monai.networks.nets.UNet",
    "medseg.files.write_text",
    "medseg.models.weights.load_model",
    "medseg.build.instantiate_allowed",
    "medseg.database.X",
    "hydra.utils.instantiate",
    "",
    "Adam",
]
DETOURS = [  # allowed rooms that expose what they import
    "medseg.data.cache.hashlib.sha256",
    "medseg.data.cache.Path",
    "medseg.data.cache.json.JSONDecoder",
    "medseg.data.patches.torch.load",
    "medseg.data.dataset.DataError",
    "monai.losses.dice.torch.nn.Linear",
    "monai.losses.dice.torch.load",
    "monai.losses.dice.warnings.catch_warnings",
    "torch.optim.adamw.torch.hub.load",
    "torch.optim.lr_scheduler.partial",
    "torch.optim.lr_scheduler.Counter",
    "torch.optim.optimizer.OrderedDict",
]
NOT_THERE = [
    "medseg.data.nothing.X",
    "medseg.data.phantom.Nothing",
    "medseg.data.phantom",
    "medseg.data.cache.sha256",
    "medseg.data..phantom.Phantom",
    "torch.optim.",
    "monai.losses.dice.np.load",
]


class TestRefuses:
    @pytest.mark.parametrize("target", FOREIGN)
    def test_a_target_outside_the_list(self, target) -> None:
        message = rf"_target_={re.escape(repr(target))} is not allowed; use a class of medseg\.data"
        with pytest.raises(ConfigError, match=message):
            instantiate_allowed({"_target_": target})

    @pytest.mark.parametrize("target", [*DETOURS, *NOT_THERE])
    def test_a_detour_through_an_allowed_module(self, target) -> None:
        message = rf"_target_={re.escape(repr(target))} (is not allowed|cannot be found)"
        with pytest.raises(ConfigError, match=message) as caught:
            instantiate_allowed({"_target_": target})
        assert caught.value.exit_code == 2

    @pytest.mark.parametrize(
        "wrap",
        [
            lambda evil: {"_target_": "monai.losses.DiceLoss", "other_act": evil},
            lambda evil: {"a": {"b": evil}},
            lambda evil: [evil],
            lambda evil: {"a": (evil,)},
            lambda evil: {"a": [1, [evil]]},
            lambda evil: {"_target_": "torch.optim.SGD", "_partial_": True, "params": [evil]},
        ],
    )
    def test_it_wherever_it_stands(self, wrap, tmp_path) -> None:
        mark = tmp_path / "ran"
        evil = {
            "_target_": "pathlib.Path.touch",
            "self": {"_target_": "pathlib.Path", "_args_": [str(mark)]},
        }
        for config in (wrap(evil), OmegaConf.create(wrap(evil))):
            with pytest.raises(ConfigError, match=r"_target_='pathlib\.Path"):
                instantiate_allowed(config)
        assert not mark.exists()

    @pytest.mark.parametrize("escape", ["", "\\"])
    def test_a_target_that_hides_in_an_interpolation(self, escape) -> None:
        hidden = escape + '${oc.create:"{_target_: os.getpid}"}'
        plain = {"_target_": "monai.losses.DiceLoss", "other_act": hidden}
        for config in (plain, OmegaConf.create(plain)):
            with pytest.raises(ConfigError, match=r"is an interpolation|_target_='os\.getpid'"):
                instantiate_allowed(config)

    def test_an_interpolated_target(self) -> None:
        config = OmegaConf.create({"x": "os.getpid", "a": {"_target_": "${x}"}})
        with pytest.raises(ConfigError, match=r"_target_='os\.getpid' is not allowed"):
            instantiate_allowed(config)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"_target_": "torch.optim.SGD", "params": [1]}, "torch.optim.SGD: "),
            (
                {"_target_": "monai.losses.DiceLoss", "nonsense": 1},
                "monai.losses.DiceLoss: .*nonsense",
            ),
            (
                {"_target_": "monai.losses.DiceLoss", "sigmoid": True, "softmax": True},
                "Incompatible",
            ),
        ],
    )
    def test_arguments_that_the_class_refuses(self, config, message) -> None:
        with pytest.raises(ConfigError, match=message):
            instantiate_allowed(config)
