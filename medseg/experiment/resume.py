"""The folder of a run that is continued: read as plain data, checked before anything is written.

The folder may come from anywhere. What it says chooses classes of an explicit list and numbers; it
runs no code, fetches nothing from the network and chooses no place outside itself to write to.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from medseg.errors import ConfigError, DataError
from medseg.models.weights import network_state, read_checkpoint
from medseg.record import FILE_NAME, RunRecord
from medseg.training.trainer import LAST

CONFIG = "config.yaml"


def former_record(folder: Path) -> RunRecord | None:
    """The record that a run left in its folder; None if there is none that can be read."""
    try:
        return RunRecord.read(folder / FILE_NAME)
    except DataError:
        return None


def continued_config(folder: Path, changes: Mapping[str, Any], *, cache: str) -> dict[str, Any]:
    """The configuration of a run that is continued.

    Args:
        folder: Of the run.
        changes: Dotted key → new value.
        cache: Where prepared cases go on this machine, unless `changes` says another place.

    Raises:
        ConfigError: there is no run, its configuration is damaged, or a change that is no number
            or word of it.
        DataError: a link leads out of the folder.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise ConfigError(f"resume={folder}: no {CONFIG} is there; name the folder of a run")
    _require_no_way_out(folder)
    try:
        config: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        data, source = config["data"], config["data"]["source"]
        data["cache"], data["download"] = cache, False
        for key, value in changes.items():
            _change(config, key, value)
        source["root"] = changes.get("data.root", source.get("root"))
        if "download" in source:
            source["download"] = data["download"]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not the configuration of a run ({reason})") from error
    return config


def _change(config: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
        raise ConfigError(
            f"{key}={value}: a run that is continued keeps its blocks; "
            "only values such as trainer.epochs can be changed"
        )
    node[last] = value


def require_continuable(folder: Path, network: nn.Module, epochs: int | None) -> None:
    """Checks a run's last checkpoint against what is to go on from it.

    Args:
        folder: Of the run; without a checkpoint it starts from the beginning.
        network: That of its configuration.
        epochs: That training ends after; None where time ends it.

    Raises:
        DataError: a checkpoint that is damaged or of another network.
        ConfigError: fewer epochs than are done.
    """
    last = folder / LAST
    if not last.is_file():
        return
    checkpoint = read_checkpoint(last)
    shapes = {key: tuple(value.shape) for key, value in network_state(checkpoint).items()}
    if shapes != {key: tuple(value.shape) for key, value in network.state_dict().items()}:
        raise DataError(
            f"{last}: not a checkpoint of the network that {folder / CONFIG} describes; "
            "use the files of one run"
        )
    done = checkpoint["epoch"] + 1
    if epochs is not None and epochs < done:
        raise ConfigError(
            f"trainer.epochs={epochs} is fewer than the {done} that {folder} has trained; "
            f"give at least {done}"
        )


def _require_no_way_out(folder: Path) -> None:
    root = folder.resolve()
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise DataError(
                f"{path}: is a link that leads out of the run's folder, which is written to; "
                "put what it leads to in its place"
            )
