"""The folder of a run: new and unused, or continued; used by one process alone.

A folder that is continued may come from anywhere. What it says chooses classes of an explicit list
and numbers; it runs no code, fetches nothing from the network and chooses no place outside itself
to write to.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from medseg.errors import ConfigError, DataError, ResourceError
from medseg.experiment.plan import Plan
from medseg.files import require_writable
from medseg.models.weights import MODEL_FOLDER, network_state, read_checkpoint
from medseg.record import FILE_NAME, STATUS_FILE, RunRecord
from medseg.training.trainer import LAST

CONFIG = "config.yaml"
SPLIT = "split.json"
PREDICTIONS = "validation"
PICTURES = "pictures"
_LOGS = ("metrics.csv", "train.log")


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a run's folder and keeps other processes out of it.

    Raises:
        ResourceError: another process is at work there, or the folder cannot be written.
    """
    require_writable(folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ResourceError(
            f"{folder}: another process is at work there; wait for it, or start a new run"
        ) from error


def require_unused(folder: Path) -> None:
    """Checks that a new run finds no other's files, and none of the user's, under its names.

    Raises:
        ConfigError: one is there.
    """
    names = (CONFIG, FILE_NAME, STATUS_FILE, SPLIT, PREDICTIONS, PICTURES, MODEL_FOLDER, LAST)
    for path in (folder / name for name in (*names, *_LOGS)):
        if path.exists():
            raise ConfigError(
                f"{path} exists, and a new run starts in a folder without one; choose another "
                f"hydra.run.dir, or continue the run that is there with resume={folder}"
            )


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


def require_continuable(folder: Path, plan: Plan, *, builds_data: bool) -> None:
    """Checks a run's last checkpoint and its data against what is to go on from them.

    Args:
        folder: Of the run; without a checkpoint it starts from the beginning.
        plan: Of its continuation; its data are set up.
        builds_data: Whether a dataset that is not there may be built or downloaded.

    Raises:
        DataError: a checkpoint that is damaged or of another network, or data that are gone.
        ConfigError: fewer epochs than are done.
    """
    last = folder / LAST
    if last.is_file():
        checkpoint = read_checkpoint(last)
        if _shapes(network_state(checkpoint)) != _shapes(plan.network.state_dict()):
            raise DataError(
                f"{last}: not a checkpoint of the network that {folder / CONFIG} describes; "
                "use the files of one run"
            )
        done, epochs = checkpoint["epoch"] + 1, plan.training.epochs
        if plan.training.max_seconds is None and epochs < done:
            raise ConfigError(
                f"trainer.epochs={epochs} is fewer than the {done} that {folder} has trained; "
                f"give at least {done}"
            )
    plan.data.config.source.prepare(may_write=builds_data)
    plan.data.setup()


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


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


def _require_no_way_out(folder: Path) -> None:
    root = folder.resolve()
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise DataError(
                f"{path}: is a link that leads out of the run's folder, which is written to; "
                "put what it leads to in its place"
            )
