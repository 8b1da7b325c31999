"""Which keys of a configuration have an effect, and when."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

from medseg.errors import ConfigError

_Config = Mapping[str, Any]


def _folds_are_drawn(config: _Config) -> bool:
    return config["data"]["split_file"] is None


def _has_folds(config: _Config) -> bool:
    return config["data"]["folds"] is not None or not _folds_are_drawn(config)


def holds_out(config: _Config) -> bool:
    """Whether some cases are held out from training, of a resolved configuration."""
    return bool(config["data"]["validation_fraction"]) or _has_folds(config)


def _source_has(key: str) -> Callable[[_Config], bool]:
    """Whether a dataset's source takes a key, and takes it from the data section."""
    return lambda config: config["data"]["source"].get(key) == config["data"][key]


def _mirrors(config: _Config) -> bool:
    return bool((config["augmentation"] or {}).get("flip", 1))


def _varies(config: _Config) -> bool:
    section = config["augmentation"] or {}
    return any(v for k, v in section.items() if k not in _NO_PROBABILITIES)


_NO_PROBABILITIES = (
    *("_target_", "flip_axes", "side_pairs"),
    *("rotation", "scale", "elastic_size", "ramp"),
)  # of an augmentation
EFFECTS: tuple[tuple[tuple[str, ...], Callable[[_Config], bool], str], ...] = (
    (("data.fold",), _has_folds, "data.folds or data.split_file"),
    (("data.folds",), _folds_are_drawn, "data.split_file=null"),
    (
        ("data.splits",),
        lambda c: c["data"]["folds"] is not None and _folds_are_drawn(c),
        "data.folds and data.split_file=null",
    ),
    (
        ("data.split_seed",),
        lambda c: _folds_are_drawn(c) and c["data"].get("splits") != "nnunet",
        "data.split_file=null and data.splits=random",
    ),
    (
        ("data.validation_fraction",),
        lambda c: c["data"]["folds"] is None and _folds_are_drawn(c),
        "data.folds=null and data.split_file=null",
    ),
    (("artifacts.follow",), holds_out, "data.validation_fraction above 0"),
    (
        ("pictures.cases",),
        lambda c: holds_out(c) or not c["pictures"]["cases"],
        "data.validation_fraction above 0",
    ),
    (
        ("artifacts.cases",),
        lambda c: holds_out(c) or not c["artifacts"]["cases"],
        "data.validation_fraction above 0",
    ),
    (("data.slice_axis",), lambda c: c["data"]["spatial_dims"] == 2, "data.spatial_dims=2"),
    (
        ("data.interpolation",),
        lambda c: any(c["data"]["spacing"] or ()),
        "data.spacing",
    ),
    (("data.root",), _source_has("root"), "no other data.source.root"),
    (("data.download",), _source_has("download"), "a dataset that can be downloaded"),
    (("augmentation.flip_axes",), _mirrors, "augmentation.flip above 0"),
    (
        ("augmentation.flip",),
        lambda c: bool((c["augmentation"] or {}).get("flip_axes")),
        "augmentation.flip_axes",
    ),
    (
        ("augmentation.rotation", "augmentation.scale"),
        lambda c: bool((c["augmentation"] or {}).get("affine", 1)),
        "augmentation.affine above 0",
    ),
    (("augmentation.ramp",), _varies, "a kind of variation"),
    (
        ("augmentation.elastic_size",),
        lambda c: bool((c["augmentation"] or {}).get("elastic")),
        "augmentation.elastic above 0",
    ),
    (("data.form",), lambda c: c["data"]["files"] is None, "data.files=null"),
    (
        ("data.regions_class_order",),
        lambda c: c["data"].get("regions") is not None,
        "data.regions",
    ),
    (("pictures.every_epochs",), lambda c: c["pictures"]["cases"] > 0, "pictures.cases above 0"),
    (
        ("artifacts.shifts",),
        lambda c: c["artifacts"]["follow"] or c["artifacts"]["cases"] != 0,
        "artifacts.follow=true or artifacts.cases above 0",
    ),
    (
        ("optimizer.dampening", "optimizer.nesterov"),
        lambda c: c["optimizer"].get("momentum", 0) != 0,
        "optimizer.momentum above 0",
    ),
)
"""Keys, when they have an effect, and what that needs."""


def require_effect(given: Mapping[str, Any], configs: Collection[_Config]) -> None:
    """Refuses a key that was given and changes nothing in any of some configurations.

    A switch that is off, or null, asks for nothing.

    Args:
        given: Key → value, as the user gave them.
        configs: Resolved; one of a run, all arms of an ablation.

    Raises:
        ConfigError: one line for each such key.
    """
    problems = [
        f"{key}={value} has no effect here: it needs {needs}; give both, or leave it out"
        for keys, acts, needs in EFFECTS
        for key in keys
        if (value := given.get(key)) is not None
        and value is not False
        and not any(map(acts, configs))
    ]
    if problems:
        raise ConfigError(*problems)
