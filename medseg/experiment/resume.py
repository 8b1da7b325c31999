"""A run that goes on: it stays the run that it was, wherever its folder and its data lie.

A folder that is continued may come from anywhere. What it says chooses classes of an explicit list
and numbers; it runs no code, fetches nothing from the network and chooses no place outside itself
to write to.
"""

import copy
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from medseg.data.splits import Split
from medseg.errors import ConfigError, DataError
from medseg.experiment.folder import CONFIG, SPLIT, former_record, require_own_results
from medseg.experiment.plan import Plan, make_plan
from medseg.models.weights import network_state, read_checkpoint
from medseg.record import PLAN_FILE, added_keys, content, is_place, leaves
from medseg.training.callbacks import History, is_time_over
from medseg.training.trainer import LAST

_FREE = ("trainer", "surface_tolerance_mm")
"""What may change besides places and pictures: how long and on what is trained, how is scored."""
_FIXED = ("trainer.class_prior", "trainer.ema")
_FOLLOWS = "scheduler"
_OF_EVALUATION = ("trainer.device", "trainer.precision", _WEIGHTS := "trainer.weights")
_SHOWN = 5
_FORMER_AUGMENTATION = "medseg.data.patches.Augmentation"
log = logging.getLogger(__name__)


def stored_config(folder: Path) -> dict[str, Any]:
    """The configuration that a run left in its folder.

    Raises:
        ConfigError: there is no run, or its configuration is damaged or was changed by hand.
        DataError: a link leads out of the folder.
    """
    path = folder / CONFIG
    if (folder / PLAN_FILE).is_file():
        raise ConfigError(f"resume={folder}: holds several runs; go on by repeating their command")
    if not path.is_file():
        raise ConfigError(f"resume={folder}: no {CONFIG} is there; name the folder of a run")
    _require_no_way_out(folder)
    try:
        config: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        config["data"]["source"].get("root")
        is_older = "weights" not in dict(config["trainer"])
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: not the configuration of a run ({reason})") from error
    former = former_record(folder)
    if former and former.config and content(former.config) != content(config):
        raise ConfigError(
            f"{path}: was changed since the run wrote it; put back what it was, as `config` of "
            "record.json says, and give what shall change beside resume="
        )
    if is_older:
        log.info(
            "%s: begun by a version that kept the weights of the best epoch by the cases that are "
            "reported, and so does this run; %s=last keeps those of the last",
            folder, _WEIGHTS,
        )  # fmt: skip
    added = {section: added_keys(section) | config[section] for section in ("data", "trainer")}
    if (logger := added["trainer"]["logger"]) not in (None, "tensorboard"):
        # what a folder says, which may be a stranger's, sends nothing anywhere
        log.info("trainer.logger=%s is taken when it is given beside resume=", logger)
        added["trainer"]["logger"] = "tensorboard"
    return config | added | {"augmentation": _with_gamma(config.get("augmentation"), folder)}


def _with_gamma(augmentation: Any, folder: Path) -> Any:
    """A run's augmentation as it is described now: up to 0.1.0 `contrast` was a gamma curve."""
    if not isinstance(augmentation, dict) or augmentation.get("_target_") != _FORMER_AUGMENTATION:
        return augmentation
    log.warning("%s: begun by a version that drew patches otherwise than they are now", folder)
    gamma = {"gamma": augmentation.get("contrast", 0.15), "contrast": 0.0}
    return augmentation | gamma | {"_target_": "medseg.data.augmentation.Augmentation"}


def changed_values(
    stored: Mapping[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    asked: Mapping[str, str],
) -> dict[str, Any]:
    """What new overrides change in a run, the values that depend on them included.

    Args:
        stored: The run's configuration.
        before: As its own overrides compose it here.
        after: As they and the new ones compose it.
        asked: Key of each new override → the override.

    Returns:
        Dotted key → new value.

    Raises:
        ConfigError: a change that would make it another run.
    """
    kept, own, new = (dict(leaves(config)) for config in (stored, before, after))
    changed = {key for key in own.keys() | new.keys() if own.get(key) != new.get(key)}
    changed |= {key for key in new if _below(key, asked) and kept.get(key) != new[key]}
    for key in sorted(changed):
        follows = _below(key, [_FOLLOWS]) and not _below(key, asked)
        if not (follows or _may_change(key)):
            raise _another_run(asked.get(_below(key, asked), key))
    if _WEIGHTS in changed and new.get(_WEIGHTS) == "best":
        raise ConfigError(
            f"{_WEIGHTS}=best: of the epochs that are trained the best was not kept; leave it out, "
            "or start a new run with it"
        )
    return {key: new.get(key) for key in changed}


def require_may_change(asked: Mapping[str, str]) -> None:
    """Refuses new overrides by their keys alone, where they cannot be composed.

    Args:
        asked: Key of each → the override.

    Raises:
        ConfigError: a key that makes it another run.
    """
    if other := next((line for key, line in asked.items() if not _may_change(key)), None):
        raise _another_run(other)


def _may_change(key: str) -> bool:
    return is_place(key) or bool(_below(key, _FREE) and not _below(key, _FIXED))


def _another_run(what: str) -> ConfigError:
    return ConfigError(
        f"{what}: a run that is continued keeps its network, data, loss, rates, average and seeds; "
        "start a new run from its weights with init=FOLDER instead of resume=FOLDER"
    )


def continued_config(
    config: Mapping[str, Any], changes: Mapping[str, Any], *, cache: str
) -> dict[str, Any]:
    """The configuration of a run that is continued.

    Args:
        config: As it was stored.
        changes: Dotted key → new value.
        cache: Where prepared cases go on this machine, unless `changes` says another place.

    Raises:
        ConfigError: a key that the run does not have.
    """
    found = copy.deepcopy(dict(config))
    data, source = found["data"], found["data"]["source"]
    data["cache"], data["download"] = cache, False
    former = content(found)
    for key, value in changes.items():
        _set(found, key, value)
    new = content(found)
    if changed := {key: former.get(key) for key in new if former.get(key) != new[key]}:
        found["continued"] = [*found.get("continued", []), changed]
    if "root" in source:
        source["root"] = changes.get("data.root", source["root"])
    if "download" in source:
        source["download"] = data["download"]
    return found


def plan_of_continuation(
    config: dict[str, Any],
    folder: Path,
    *,
    changes: Iterable[str] = (),
    builds_data: bool = True,
) -> Plan:
    """The plan of a run, its data set up, with what already lies in its folder.

    Args:
        config: The resolved configuration.
        folder: Of the run; without a checkpoint it starts from the beginning.
        changes: Keys of the configuration that were other before.
        builds_data: Whether a dataset that is not there may be built or downloaded.

    Raises:
        ConfigError: something in the configuration is impossible, or fewer epochs than are done.
        DataError: a checkpoint that is damaged or of another network; data that are gone or that
            have changed.
    """
    last = folder / LAST
    goes_on = last.is_file()
    plan = make_plan(config, split=_stored_split(folder) if goes_on else None)
    if goes_on:
        _require_fitting(read_checkpoint(last), plan, folder, changes)
    plan.data.config.source.prepare(may_write=builds_data)
    plan.data.setup()
    if goes_on:
        _require_same_cases(plan, folder)
    if plan.data.split is not None:
        require_own_results(folder, plan.data)
    return plan


def _stored_split(folder: Path) -> Split:
    """The split that a run was trained with, which its record tells as well."""
    split, former = Split.read(folder / SPLIT), former_record(folder)
    known = former.split if former else {}
    if known and {side: set(cases) for side, cases in known.items()} != {
        "train": set(split.train),
        "validation": set(split.validation),
    }:
        raise DataError(
            f"{folder / SPLIT}: was changed since the run began to train; put back what it was, "
            "as `split` of record.json says"
        )
    return split


def _require_fitting(
    checkpoint: Mapping[str, Any], plan: Plan, folder: Path, changes: Iterable[str]
) -> None:
    """Refuses a checkpoint of another network or of too many epochs, and values without effect."""
    epoch, epochs = checkpoint.get("epoch"), plan.training.epochs
    fits = _shapes(network_state(checkpoint)) == _shapes(plan.network.state_dict())
    if not fits or not isinstance(epoch, int):
        raise DataError(
            f"{folder / LAST}: not a checkpoint of the network that {folder / CONFIG} describes; "
            "use the files of one run"
        )
    done = epoch + 1
    if plan.training.max_seconds is None and epochs < done:
        raise ConfigError(
            f"trainer.epochs={epochs} is fewer than the {done} that {folder} has trained; "
            f"give at least {done}"
        )
    seconds, more, is_over = plan.training.max_seconds, "trainer.epochs", epochs == done
    if seconds is not None:
        more, passed = "trainer.max_seconds", _seconds_of_steps(checkpoint)
        is_over = is_time_over(passed, done, seconds)
    # an interrupted run may be ended where it is: it is evaluated, and no epoch is trained
    ends_here = "trainer.epochs" if seconds is None else ""
    idle = [
        key
        for key in changes
        if key.startswith("trainer.") and key not in (*_OF_EVALUATION, ends_here)
    ]
    if is_over and idle:
        raise ConfigError(
            f"{idle[0]} has no effect: the {done} epochs of {folder} are all that {more} allows; "
            f"give more {more}"
        )


def _seconds_of_steps(checkpoint: Mapping[str, Any]) -> float:
    """What training steps have taken so far; 0 if the checkpoint does not say."""
    state = checkpoint.get("callbacks", {}).get(History.__qualname__, {})
    return sum(state.get("step_seconds", []))


def _require_same_cases(plan: Plan, folder: Path) -> None:
    """Refuses cases whose files are others than those that the run began with."""
    former = former_record(folder)
    known = former.cases_sha256 if former else {}
    classes = plan.data.dataset.classes if plan.data.dataset else ()
    if former and former.classes and tuple(former.classes) != tuple(classes):
        raise DataError(
            f"the classes are {', '.join(classes)}, but {folder} was trained on "
            f"{', '.join(former.classes)}; restore dataset.json, or start a new run"
        )
    now = plan.data.case_digests()
    changed = sorted(case for case, digits in known.items() if now.get(case, digits) != digits)
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise DataError(
            f"{', '.join(changed[:_SHOWN])}{more}: changed since {folder} began to train on them; "
            f"restore the files, or start a new run from its weights with init={folder}"
        )


def _shapes(state: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def _below(key: str, names: Iterable[str]) -> str:
    """Which of the names is a dotted key or stands above it; empty if none does."""
    return next((name for name in names if f"{key}.".startswith(f"{name}.")), "")


def _set(config: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, dict) or isinstance(node.get(last), dict):
        raise ConfigError(f"{key}={value}: the run has no such value; see its {CONFIG}")
    node[last] = value


def _require_no_way_out(folder: Path) -> None:
    root = folder.resolve()
    for path in root.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            raise DataError(
                f"{path}: is a link that leads out of the run's folder, which is written to; "
                "put what it leads to in its place"
            )
