"""Builds objects from a configuration: only classes of an explicit list, and medseg's own datasets.

A `_target_` is code that runs, and a configuration may come from anywhere. Networks are built from
names as well (`medseg.models.description`).
"""

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any

from medseg.arguments import check_arguments, construct
from medseg.errors import ConfigError

# Classes that compute on tensors. None of them loads code, and no value of a configuration can be
# a callable.
ALLOWED = {
    "medseg.data": ("MinMax", "PerChannel", "Unchanged", "Window", "ZScore"),
    "medseg.data.augmentation": ("Augmentation",),
    "medseg.data.preprocess": ("MinMax", "PerChannel", "Unchanged", "Window", "ZScore"),
    "medseg.training.loss": ("BinaryCrossEntropy", "TopKCrossEntropy", "WeightedSum"),
    "monai.losses": (
        "AsymmetricUnifiedFocalLoss",
        "BoundaryLoss",
        "DiceCELoss",
        "DiceFocalLoss",
        "DiceLoss",
        "FocalLoss",
        "GeneralizedDiceFocalLoss",
        "GeneralizedDiceLoss",
        "HausdorffDTLoss",
        "LogHausdorffDTLoss",
        "MCCLoss",
        "NACLLoss",
        "SoftDiceclDiceLoss",
        "SoftclDiceLoss",
        "TverskyLoss",
    ),
    "monai.optimizers": ("WarmupCosineSchedule",),
    "torch.optim": (
        "ASGD",
        "Adadelta",
        "Adafactor",
        "Adagrad",
        "Adam",
        "AdamW",
        "Adamax",
        "LBFGS",
        "NAdam",
        "RAdam",
        "RMSprop",
        "Rprop",
        "SGD",
    ),
    "torch.optim.lr_scheduler": (
        "ConstantLR",
        "CosineAnnealingLR",
        "CosineAnnealingWarmRestarts",
        "CyclicLR",
        "ExponentialLR",
        "LinearLR",
        "MultiStepLR",
        "OneCycleLR",
        "PolynomialLR",
        "StepLR",
    ),
}
"""Module → the classes in it that a configuration may name as a `_target_`.

Datasets are allowed as well: dataclasses of the package `medseg.data` that have `prepare`. They
read files where the user says.
"""

_DATASETS = "medseg.data"

_TARGET, _PARTIAL = "_target_", "_partial_"


def build(config: Any, key: str = "") -> Any:
    """Builds what a resolved configuration describes, its parts first.

    A mapping with `_target_` becomes an object of that class, made with the other entries as
    arguments; with `_partial_: true`, a function that takes the remaining arguments. Everything
    else stays plain data.

    >>> build({"_target_": "medseg.data.Window", "low": -100, "high": 240})
    Window(low=-100, high=240)

    Args:
        config: What is described.
        key: Where it stands in the whole configuration, for messages.

    Raises:
        ConfigError: a `_target_` outside the list, or arguments that its class refuses.
    """
    match config:
        case Mapping():
            place = f"{key}." if key else ""
            options = {name: build(value, f"{place}{name}") for name, value in config.items()}
            return _construct(options, key) if _TARGET in options else options
        case list() | tuple():
            return [build(value, key) for value in config]
        case _:
            return config


def _construct(options: dict[str, Any], key: str) -> Any:
    target = options.pop(_TARGET)
    is_partial = options.pop(_PARTIAL, False)
    constructor = _class_of(target)
    key = key or target
    if not is_partial:
        return construct(constructor, options, key=key)
    later = next(iter(inspect.signature(constructor).parameters))
    check_arguments(constructor, options, key=key, hidden=[later])
    return partial(constructor, **options)


def _class_of(target: Any) -> Any:
    module, _, name = str(target).rpartition(".")
    if name in ALLOWED.get(module, ()):
        return getattr(importlib.import_module(module), name)
    if f"{module}.".startswith(f"{_DATASETS}.") and (own := _dataset(module, name)):
        return own
    known = ALLOWED.get(module) or ALLOWED
    raise ConfigError(
        f"_target_={target!r} is not on the list of classes that a configuration may name; "
        f"choose from {', '.join(known)}"
    )


def _dataset(module: str, name: str) -> type | None:
    """The dataset of that name if a module of `medseg.data` defines it."""
    if not all(part.isidentifier() for part in module.split(".")):
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError:
        return None
    is_own = isinstance(found, type) and found.__module__.startswith(f"{_DATASETS}.")
    if is_own and is_dataclass(found) and hasattr(found, "prepare"):
        return found  # type: ignore[return-value]
    return None
