"""Configurations composed by Hydra, and the networks and data that they describe."""

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.cli.hydra_settings import CONFIG_NAME, hydra_config, open_hydra, require_same_trust
from medseg.cli.overrides import no_key, readable, require_options, values_of
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.experiment.effects import require_effect
from medseg.experiment.schema import RULES, check_config

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from medseg.analysis.cost import Load
    from medseg.models.description import Description


@contextmanager
def hydra_session() -> Iterator["Hydra"]:
    """Yields a Hydra that knows medseg's configurations.

    Raises:
        ConfigError: whatever Hydra answers to overrides that it cannot use.
        DataError: what is wrong with a dataset that a configuration refers to.
    """
    register_resolvers()
    try:
        with open_hydra() as hydra:
            yield hydra
    except (HydraException, OmegaConfBaseException) as error:
        raise _answer(error) from error


def register_resolvers() -> None:
    """Makes `${dataset:FIELD}` and `${weights_sha256:RUN}` known."""
    OmegaConf.register_new_resolver("dataset", _dataset, replace=True)
    # as a user's file may have it from before: `${dataset_json:ROOT,FIELD,LABELS}`
    OmegaConf.register_new_resolver("dataset_json", _dataset_json, replace=True)
    OmegaConf.register_new_resolver("weights_sha256", _weights_sha256, replace=True)


def option_names(group: str) -> list[str]:
    """The options of a group, in alphabetical order."""
    return dict(groups())[group]


def groups(*folders: Path | None) -> list[tuple[str, list[str]]]:
    """The groups of medseg's configurations and of further folders, each with its options.

    Hydra lists them too, but takes seconds for it.
    """
    found: dict[str, set[str]] = {}
    for root in (Path(str(files("medseg.configs"))), *filter(None, folders)):
        for path in root.glob("**/*.yaml"):
            group = path.parent.relative_to(root).as_posix()
            if group != "." and not group.startswith("hydra") and path.parent.name != "base":
                found.setdefault(group, set()).add(path.stem)
    return sorted((group, sorted(names)) for group, names in found.items())


def composed(config: str, *overrides: str) -> dict[str, Any]:
    """The plain values of a composed configuration.

    Raises:
        ConfigError: an override that does not fit.
    """
    from medseg.cli.planned import with_plans  # it composes, too

    words = readable(with_plans(overrides))
    with hydra_session():
        given = parsed(words)
        plain: Any = OmegaConf.to_container(compose(config, words), resolve=True)
        if config == CONFIG_NAME:
            check_config(plain)
            require_effect(values_of(given), [plain])
        return plain


def described(config: str, key: str, *overrides: str) -> Any:
    """The description of the network or block below a key of a composed configuration.

    Raises:
        ConfigError: an override that does not fit.
    """
    from medseg.models.description import describe

    return describe(composed(config, *overrides)[key])


def compose_network(
    overrides: Sequence[str], patch_size: Sequence[int] | None = None
) -> tuple["Description", "Load", tuple[float, ...] | None]:
    """The network that overrides of the training configuration choose, and what it is given.

    Args:
        overrides: Of the training configuration.
        patch_size: In voxels, instead of `data.patch_size`.

    Returns:
        Its description; channels, patch and batch; the spacing in mm along the network's axes,
        None where each case keeps its own.

    Raises:
        ConfigError: an override that does not fit.
    """
    from medseg.analysis.cost import Load
    from medseg.cli.planned import words_to_price  # it composes, too
    from medseg.models.description import describe

    patch = [] if patch_size is None else [f"data.patch_size={list(patch_size)}"]
    config = composed(CONFIG_NAME, *words_to_price(overrides), *patch)
    data, spacing = config["data"], config["data"]["spacing"]
    if spacing is not None:
        across = data["slice_axis"] if data["spatial_dims"] == 2 else None
        spacing = tuple(mm for axis, mm in enumerate(spacing) if axis != across)
    load = Load(
        in_channels=data["in_channels"],
        patch_size=tuple(data["patch_size"]),
        batch=data["batch_size"],
    )
    return describe(config["model"]), load, spacing


def parsed(words: Sequence[str]) -> list[Override]:
    """Overrides of `readable` taken apart, the options that they choose checked.

    Raises:
        ConfigError: an option that there is not, inside `hydra_session`.
    """
    own = [word.partition("=")[2] for word in words if word.startswith("hydra.searchpath=")]
    folders = [Path(path.strip("[]'\"").removeprefix("file://")) for path in own]
    given = OverridesParser.create().parse_overrides(list(words))
    require_options(given, dict(groups(*folders)))
    return given


def print_configuration(
    hydra: "Hydra", arguments: argparse.Namespace, parser: argparse.ArgumentParser
) -> bool:
    """Prints Hydra's help or a configuration where that is asked for; returns whether it was."""
    words = arguments.overrides
    if arguments.hydra_help:
        hydra_config(hydra, words, RunMode.RUN)  # it sets up Hydra's log as the files say
        hydra.hydra_help(CONFIG_NAME, parser, arguments)
    elif arguments.cfg:
        package, resolve = arguments.package, arguments.resolve
        hydra.show_cfg(CONFIG_NAME, words, arguments.cfg, package, resolve)
    elif arguments.info:
        hydra.show_info(arguments.info, CONFIG_NAME, words)
    else:
        return False
    return True


def job_config(hydra: "Hydra", overrides: Sequence[str]) -> DictConfig:
    """The configuration of one run with Hydra's own part, which Hydra's resolvers read from now on.

    Raises:
        ConfigError: an override that does not fit, inside `hydra_session`.
    """
    config = hydra_config(hydra, overrides, RunMode.RUN)
    HydraConfig.instance().set_config(config)
    return config


def task_of(config: DictConfig) -> DictConfig:
    """A copy of a composed configuration without Hydra's own part, open for further keys."""
    task = config.copy()
    OmegaConf.set_struct(task, False)
    task.pop("hydra", None)
    return task


def arm_composer(
    hydra: "Hydra", config: DictConfig
) -> Callable[[Sequence[str], Mapping[str, Any]], dict[str, Any]]:
    """What turns an arm's overrides, and dotted keys set afterwards, into plain values.

    Hydra composes an arm once; its repetitions differ in values alone.
    """

    @cache
    def composed_arm(overrides: tuple[str, ...]) -> DictConfig:
        arm = hydra.config_loader.load_sweep_config(config, list(overrides))
        require_same_trust(config, arm)
        return task_of(arm)

    def compose_arm(overrides: Sequence[str], values: Mapping[str, Any]) -> dict[str, Any]:
        own = composed_arm(tuple(overrides)).copy()
        for key, value in values.items():
            OmegaConf.update(own, key, value)
        return _checked(own)

    return compose_arm


def plain_task(config: DictConfig) -> dict[str, Any]:
    """The plain values of a composed configuration, without Hydra's own part."""
    return _checked(task_of(config))


def asked_by(config: DictConfig) -> dict[str, Any]:
    """What the record of a run says was asked for: the choices by name and the overrides."""
    choices = choices_of(config, config.hydra.runtime.choices)
    return {"choices": choices, "overrides": overrides_of(config.hydra)}


def overrides_of(settings: Any) -> list[str]:
    """What Hydra's settings say was given for the task, as typed: `${...}` in it is the task's."""
    return cast(list[str], OmegaConf.to_container(settings.overrides.task, resolve=False))


def choices_of(config: DictConfig, chosen: Mapping[str, Any]) -> dict[str, str]:
    """Slot → option: `conv@model.encoder.conv` becomes `encoder.conv`, `data` stays `data`.

    A slot that the configuration points at another (`${..encoder.conv}`) has that one's option.
    """
    options = {
        key.rpartition("@")[2]: option
        for key, option in chosen.items()
        if option is not None and not key.startswith("hydra/")
    }
    for path in options:
        parent, _, key = path.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if isinstance(node, DictConfig) and key in node and OmegaConf.is_interpolation(node, key):
            options[path] = options.get(node[key]._get_full_key(None), options[path])
    return {path.removeprefix("model."): option for path, option in options.items()}


_FIRST_PATCH = 64


def _dataset_json(root: str, field: str, labels: Mapping[Any, Any] | None = None) -> Any:
    """What a dataset says of its channels and classes; `_dataset` knows more."""
    return _dataset(field, _parent_={"root": root, "labels": labels})


def _dataset(field: str, *, _parent_: Mapping[str, Any]) -> Any:
    """What the dataset of a `data` section says of itself.

    Args:
        field: `in_channels`, `num_classes` or `spatial_dims` of its images; `regions` and
            `regions_class_order` (None: classes exclude each other); `folds`, how many it brings
            along (None: none); `patch_size`, a start.
        _parent_: The section.
    """
    from medseg.data.forms import read_dataset

    fields = ("in_channels", "num_classes", "spatial_dims", "regions", "regions_class_order",
              "folds", "patch_size")  # fmt: skip
    if field not in fields:
        raise ConfigError(f"a dataset has no {field!r}; use {', '.join(fields)}")
    dataset = read_dataset(
        Path(_parent_["root"]),
        _parent_.get("labels"),
        form=_parent_.get("form"),
        files=_parent_.get("files"),
    )
    if field == "num_classes" and (regions := _parent_.get("regions")):
        return len(regions)
    if field == "regions":
        pairs = zip(dataset.classes, dataset.regions, strict=True)
        return {name: list(values) for name, values in pairs} if dataset.regions else None
    if field == "regions_class_order":
        return list(dataset.regions_class_order) or None
    if field == "patch_size":
        return [_FIRST_PATCH] * (_parent_.get("spatial_dims") or dataset.spatial_dims)
    return len(dataset.folds) or None if field == "folds" else getattr(dataset, field)


def _weights_sha256(run: str | None) -> str | None:
    """SHA-256 of the weights of a run or a model, by which they are known wherever they lie.

    None where there are none: whoever loads them says so.
    """
    if run is None:
        return None
    from medseg.models.weights import weights_sha256  # heavy: torch

    try:
        return weights_sha256(Path(run).expanduser())
    except DataError:
        return None


def _checked(config: DictConfig) -> dict[str, Any]:
    """The plain values of a configuration, each checked."""
    plain: Any = OmegaConf.to_container(config, resolve=True)
    check_config(plain)
    return plain


def _answer(error: BaseException) -> MedsegError:
    """What the user is told of an error of Hydra: a fault of ours or a dataset's as it is."""
    if (cause := own_error(error)) is not None:
        return cause
    if key := re.search(r"Could not (?:override|delete) '([^']+)'", str(error)):
        config = _default()
        places = list(config.hydra.runtime.choices)
        groups = [place for place in places if "@" not in place]
        keys = dict.fromkeys([*_leaves(task_of(config), ""), *RULES, *groups])
        return ConfigError(no_key(key[1], keys, places))
    return ConfigError(_one_line(error))


def own_error(error: BaseException) -> MedsegError | None:
    """The error of medseg's that is behind one of Hydra's; None if there is none."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, MedsegError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _default() -> DictConfig:
    with open_hydra() as hydra:
        return hydra.compose_config(CONFIG_NAME, [], RunMode.RUN)


def _leaves(config: DictConfig, path: str) -> Iterator[str]:
    for name in config:
        key = f"{path}{name}"
        node = config._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
            yield from _leaves(node, f"{key}.")
        else:
            yield key


def _one_line(error: BaseException) -> str:
    """Hydra's message on one line; some of its errors leave it to their cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
    if not text and error.__cause__ is not None:
        return _one_line(error.__cause__)
    return text or type(error).__name__
