"""What every key of a configuration must be: known, of its kind, in its range.

Classes that a configuration names (`_target_`) are checked by their own signature when they are
built, see `medseg.arguments`; that a key is of some effect, `medseg.experiment.effects`. Nothing
here reads data or imports torch.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from medseg.errors import ConfigError
from medseg.experiment.rules import (
    BETWEEN,
    DEVICE,
    FILES,
    FLAG,
    LABEL_MAP,
    LABELS,
    MILLIMETRES,
    PATTERN,
    POSITIVE,
    REGIONS,
    SECTION,
    SEED,
    SHA256,
    SHARE,
    TEXT,
    Rule,
    distinct,
    each,
    either,
    number,
    one_of,
    or_null,
    whole,
)
from medseg.suggestion import suggestion

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
    "init_sha256": or_null(SHA256),
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
    "data.regions": or_null(REGIONS),
    "data.regions_class_order": or_null(LABELS),
    "data.labels": or_null(LABEL_MAP),
    "data.form": or_null(TEXT),
    "data.files": or_null(FILES),
    "data.spacing": or_null(each(or_null(MILLIMETRES), 3)),
    "data.interpolation": one_of("cubic", "linear"),
    "data.crop": or_null(one_of("nonzero")),
    "data.patch_size": each(whole(1)),
    "data.batch_size": whole(1),
    "data.batches_per_epoch": whole(1),
    "data.foreground_fraction": SHARE,
    "data.validation_fraction": number(
        "a share, 0 or more and below 1", lambda value: 0 <= value < 1
    ),
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
    "trainer.ema": or_null(BETWEEN),
    "trainer.class_prior": FLAG,
    "trainer.patience": or_null(whole(1)),
    "trainer.gradient_clip": or_null(POSITIVE),
    "trainer.devices": whole(1, 1024),
    "trainer.nodes": whole(1, 1024),
    "trainer.device": DEVICE,
    "trainer.precision": one_of("auto", "bf16", "fp16", "tf32", "fp32"),
    "trainer.execution": one_of("auto", "plain", "channels_last", "compiled", "cuda_graphs"),
    "trainer.deterministic": FLAG,
    "trainer.logger": or_null(one_of("tensorboard", "mlflow", "wandb")),
    "optimizer.lr": number("a number above 0, at most 10", lambda value: 0 < value <= 10),
    "optimizer.weight_decay": SHARE,
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
    for key, (total, more) in made.items():
        count = data["source"].get(key)  # what is no number, the source refuses itself
        if type(count) is int and count + more != data[total]:
            yield f"data.source.{key}={count} needs data.{total}={count + more}; set both"
    root = Path(data["root"]).expanduser()
    target = str(data["source"].get("_target_"))
    if not target.endswith(".Folder") and (root / "dataset.json").is_file():
        yield (
            f"data.root={data['root']} is a dataset itself, and data={data['name']} keeps its "
            "own below data.root; train on yours with data=folder, or name the folder above it"
        )
