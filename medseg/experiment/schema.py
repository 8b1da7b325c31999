"""What every key of a configuration must be: known, of its kind, in its range, and of some effect.

Classes that a configuration names (`_target_`) are checked by their own signature when they are
built, see `medseg.arguments`. Nothing here reads data or imports torch.
"""

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medseg.arguments import is_number
from medseg.errors import ConfigError
from medseg.hardware import DEVICES
from medseg.suggestion import suggestion


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Args:
        must: In words that follow "must be".
        holds: Whether a value is.
        words: The values that there are, if they can be listed.
        is_literal: Whether it is a text that means what is typed, a path or a pattern.
    """

    must: str
    holds: Callable[[Any], bool]
    words: tuple[str, ...] = ()
    is_literal: bool = False


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number of a range."""
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(
        f"a whole number {span}",
        lambda value: type(value) is int and least <= value <= (math.inf if most is None else most),
    )


def number(text: str, holds: Callable[[float], bool]) -> Rule:
    """A finite number for which a condition holds."""
    return Rule(
        text,
        lambda value: is_number(value) and holds(value),
    )


def one_of(*values: Any) -> Rule:
    """One of some words or numbers."""
    words = tuple(str(value) for value in values)
    return Rule(
        f"one of {', '.join(words)}",
        lambda value: any(value == own and type(value) is type(own) for own in values),
        words,
    )


def either(one: Rule, other: Rule) -> Rule:
    """What one of two rules asks for."""
    return Rule(
        f"{one.must.removeprefix('one of ')} or {other.must}",
        lambda value: one.holds(value) or other.holds(value),
        one.words,
    )


def distinct(rule: Rule) -> Rule:
    """A list that another rule asks for, without repetitions."""
    return replace(
        rule, must=f"{rule.must}, once", holds=lambda v: rule.holds(v) and len(set(v)) == len(v)
    )


def or_null(rule: Rule) -> Rule:
    """What another rule asks for, or null."""
    return replace(rule, must=f"{rule.must}, or null", holds=lambda v: v is None or rule.holds(v))


def each(rule: Rule, count: int | None = None) -> Rule:
    """A list whose entries all keep a rule."""
    what = "a list" if count is None else f"a list of {count}"
    return Rule(
        f"{what}, each {rule.must}",
        lambda value: (
            isinstance(value, list | tuple)
            and (len(value) > 0 if count is None else len(value) == count)
            and all(map(rule.holds, value))
        ),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value).groups > 0
    except re.error:
        return False


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _maps_labels(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        (_is_text(old) or (type(old) is int and old >= 0)) and (new == "ignore" or type(new) is int)
        for old, new in value.items()
    )


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(own) is int for own in value)


def _names_regions(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and (type(own) is int or _are_labels(own)) for name, own in value.items()
    )


def _names_files(value: Any) -> bool:
    return isinstance(value, Mapping) and {*value} == {"image", "label"}


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a text that is not empty", _is_text, is_literal=True)
PATTERN = Rule(r"a regular expression with a group, as (p\d+)_", _is_pattern, is_literal=True)
SECTION = Rule("a section of names and values", lambda value: isinstance(value, Mapping))
POSITIVE = number("a number above 0", lambda value: value > 0)
SEED = whole(0, 2**31 - 1)
_BETWEEN = number("a number between 0 and 1", lambda value: 0 < value < 1)
_SHARE = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
_MM = number("a length from 0.001 to 1000 mm", lambda value: 0.001 <= value <= 1000)
_DEVICE = Rule(
    f"one of {DEVICES}",
    lambda value: (
        isinstance(value, str) and bool(re.fullmatch("auto|cpu|gpu|cuda(:[0-9]+)?", value))
    ),
    ("auto", "cpu", "cuda"),
)

ALL_FOLDS = "all"
"""The value of `data.fold` that trains each fold once."""

RULES: dict[str, Rule] = {
    "name": TEXT,
    "seed": SEED,
    "surface_tolerance_mm": POSITIVE,
    "pictures.cases": whole(0),
    "pictures.every_epochs": whole(1),
    "artifacts.follow": FLAG,
    "artifacts.shifts": whole(2),
    "artifacts.cases": or_null(whole(0)),
    "ablation.factors": SECTION,
    "ablation.seeds": or_null(distinct(each(SEED))),
    "ablation.folds": or_null(whole(2)),
    "ablation.reference": SECTION,
    "ablation.equal": or_null(
        one_of("parameters", "macs", "memory", "inference_memory", "latency")
    ),
    "ablation.margin": number("a Dice between 0 and 1, as 0.01", lambda value: 0 < value < 1),
    "ablation.retries": whole(0),
    "init": or_null(TEXT),
    "init_sha256": or_null(Rule("64 hexadecimal digits", _is_sha256)),
    "continued": Rule(
        "a list of sections",
        lambda value: isinstance(value, list) and all(isinstance(own, Mapping) for own in value),
    ),
    "planned": or_null(SECTION),
    "runs": TEXT,
    "resume": or_null(TEXT),
    "data.name": TEXT,
    "data.root": TEXT,
    "data.download": FLAG,
    "data.spatial_dims": one_of(2, 3),
    "data.slice_axis": one_of(0, 1, 2),
    "data.in_channels": whole(1, 1024),
    "data.num_classes": whole(2, 2**16),
    "data.regions": or_null(Rule("regions and their label values", _names_regions)),
    "data.regions_class_order": or_null(Rule("label values, one of each region", _are_labels)),
    "data.labels": or_null(Rule("label values → label values or ignore", _maps_labels)),
    "data.form": or_null(TEXT),
    "data.files": or_null(Rule("patterns of files by image and label", _names_files)),
    "data.spacing": or_null(each(or_null(_MM), 3)),
    "data.interpolation": one_of("cubic", "linear"),
    "data.crop": or_null(one_of("nonzero")),
    "data.patch_size": each(whole(1)),
    "data.batch_size": whole(1),
    "data.batches_per_epoch": whole(1),
    "data.foreground_fraction": _SHARE,
    "data.validation_fraction": _BETWEEN,
    "data.patient": or_null(PATTERN),
    "data.split_file": or_null(TEXT),
    "data.splits": one_of("random", "nnunet"),
    "data.split_seed": SEED,
    "data.folds": or_null(whole(2)),
    "data.fold": either(one_of(ALL_FOLDS), whole(0)),
    "data.cache": TEXT,
    "data.num_workers": either(one_of("auto"), whole(0, 256)),
    "trainer.epochs": whole(1),
    "trainer.max_seconds": or_null(POSITIVE),
    "trainer.validate_every": whole(1),
    "trainer.weights": one_of("last", "best"),
    "trainer.ema": or_null(_BETWEEN),
    "trainer.class_prior": FLAG,
    "trainer.patience": or_null(whole(1)),
    "trainer.gradient_clip": or_null(POSITIVE),
    "trainer.devices": whole(1, 1024),
    "trainer.nodes": whole(1, 1024),
    "trainer.device": _DEVICE,
    "trainer.precision": one_of("auto", "bf16", "fp16", "tf32", "fp32"),
    "trainer.execution": one_of("auto", "plain", "channels_last", "compiled", "cuda_graphs"),
    "trainer.deterministic": FLAG,
    "trainer.logger": or_null(one_of("tensorboard", "mlflow", "wandb")),
    "optimizer.lr": number("a number above 0, at most 10", lambda value: 0 < value <= 10),
    "optimizer.weight_decay": _SHARE,
    "optimizer.eps": number("a number above 0, at most 1", lambda value: 0 < value <= 1),
}
"""Key → what it must be. Of `PARTS`, only what their classes leave open."""

PARTS = ("model", "augmentation", "loss", "optimizer", "scheduler", "data.source", "data.intensity")
"""Sections that name a class, whose arguments are checked when it is built."""

OPTIONAL = (
    *("ablation.", "trainer.", "optimizer.", "runs", "resume"),
    *("init", "init_sha256", "continued"),  # as the next, of no run from before they were there
    *("data.labels", "data.regions", "data.splits"),
)
"""Beginnings of keys without which a configuration is whole."""

TEXTS = (
    *(key for key, rule in RULES.items() if rule.is_literal),
    *("data.source.root", "data.source.task", "hydra.run.dir", "hydra.sweep.dir"),
)
"""Keys whose values are words, paths or patterns, and never numbers."""


def check_config(config: Mapping[str, Any]) -> None:
    """Checks every value of a resolved configuration that can be checked by itself.

    Raises:
        ConfigError: one line for each key that is unknown or whose value breaks its rule.
    """
    check_values(config)
    if problems := list(_missing(config)) or list(_contradictions(config)):
        raise ConfigError(*problems)


def check_values(section: Mapping[str, Any]) -> None:
    """Checks the values of a part of a configuration, which stand under their whole keys.

    Raises:
        ConfigError: one line for each key that is unknown or whose value breaks its rule.
    """
    if problems := list(_problems(section, "")):
        raise ConfigError(*problems)


def _missing(config: Mapping[str, Any]) -> Iterator[str]:
    for key in (*RULES, *PARTS):
        node: Any = config
        for part in key.split("."):
            node = node.get(part, ...) if isinstance(node, Mapping) else ...
        if node is ... and not key.startswith(OPTIONAL):
            yield f"{key}: is missing; leave it where it is, or set it to another value"


def _problems(section: Mapping[str, Any], path: str) -> Iterator[str]:
    for name, value in section.items():
        key = f"{path}{name}"
        inner = [known for known in RULES if known.startswith(f"{key}.")]
        if key in RULES:
            if not RULES[key].holds(value):
                yield broken(key, value, RULES[key])
        elif key in PARTS:
            if isinstance(value, Mapping) and "_target_" in value:
                own = {name: v for name, v in value.items() if f"{key}.{name}" in RULES}
                yield from _problems(own, f"{key}.")
            elif value is not None or key != "augmentation":
                yield f"{key}={value!r} must be an option of its group; {_LISTED}"
        elif not inner:
            ends = [f"{key}.{end}" for end in value] if isinstance(value, Mapping) else [key]
            yield from (unknown_key(own, RULES) for own in ends)
        elif not isinstance(value, Mapping):
            yield f"{key}={value!r} must hold {', '.join(k.rpartition('.')[2] for k in inner)}"
        else:
            yield from _problems(value, f"{key}.")


def broken(key: str, value: Any, rule: Rule) -> str:
    """Says that a value breaks its rule, and which word was probably meant."""
    meant = suggestion(str(value), rule.words)
    return f"{key}={value!r} must be {rule.must}{meant and f'; {meant}'}"


def unknown_key(key: str, known: Collection[str]) -> str:
    """Says that there is no such key, and which was probably meant."""
    return f"{key}: there is no such key; {suggestion(key, known) or _LISTED}"


_LISTED = "`medseg train --cfg job` lists them"


def _contradictions(config: Mapping[str, Any]) -> Iterator[str]:
    """What single values allow and together they do not."""
    data, model = config["data"], config["model"]
    dims, patch_size = data["spatial_dims"], data["patch_size"]
    if len(patch_size) != dims:
        yield (
            f"data.patch_size={list(patch_size)} must hold {dims} numbers of voxels, one per "
            f"dimension of the network (data.spatial_dims={dims})"
        )
    folds, fold = data["folds"], data["fold"]
    if folds is not None and data["split_file"] is None and fold != ALL_FOLDS and fold >= folds:
        yield f"data.fold={fold} must be one of 0 to {folds - 1}, as data.folds={folds}"
    for network in (model, model.get("network")):
        for key in {"num_classes", "out_channels"} & set(network or {}):
            if network[key] != data["num_classes"]:
                yield (
                    f"{key}={network[key]!r} of the model must be data.num_classes="
                    f"{data['num_classes']}; leave it out and set data.num_classes"
                )
    made = {"classes": ("num_classes", 1), "channels": ("in_channels", 0)}  # background is no class
    if data.get("regions") is not None:
        del made["classes"]  # outputs are regions, whose values the dataset is asked for
    for key, (whole, more) in made.items():
        count = data["source"].get(key)  # what is no number, the source refuses itself
        if type(count) is int and count + more != data[whole]:
            yield f"data.source.{key}={count} needs data.{whole}={count + more}; set both"
    root = Path(data["root"]).expanduser()
    target = str(data["source"].get("_target_"))
    if not target.endswith(".Folder") and (root / "dataset.json").is_file():
        yield (
            f"data.root={data['root']} is a dataset itself, and data={data['name']} keeps its "
            "own below data.root; train on yours with data=folder, or name the folder above it"
        )


_Config = Mapping[str, Any]


def _folds_are_drawn(config: _Config) -> bool:
    return config["data"]["split_file"] is None


def _has_folds(config: _Config) -> bool:
    return config["data"]["folds"] is not None or not _folds_are_drawn(config)


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
