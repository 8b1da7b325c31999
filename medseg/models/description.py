"""A network as plain data, and back.

A description holds names and numbers only: `{"name": "blocks.conv.Dilated", "dilation": 2}`.
A name is looked up in the packages `blocks` and `models` and among MONAI's networks; nothing else
can be built from it, whatever file it came with.
"""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Mapping
from typing import Any, Protocol

from torch import nn

import medseg.blocks
import medseg.models
from medseg.arguments import construct
from medseg.errors import ConfigError
from medseg.models.size_limit import at_most
from medseg.resources import available_memory_bytes

Description = Mapping[str, Any]

_NAME = "name"
_TARGET = "_target_"
_MONAI_NETWORKS = "monai.networks.nets"
# Those that map an image to logits of its own size. Other classes there load weights or code.
_SEGMENTING = (
    "AHNet",
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DAF3D",
    "DynUNet",
    "FlexibleUNet",
    "HighResNet",
    "MedNeXt",
    "Quicknat",
    "SegResNet",
    "SegResNetDS",
    "SegResNetVAE",
    "SwinUNETR",
    "UNETR",
    "UNet",
    "VNet",
)
_BYTES_PER_WEIGHT = 4
_DOWNLOADING = ("pretrained", "progress")  # options that fetch weights of another network


def describe(config: Any) -> Any:
    """Replaces every Hydra `_target_` of a network's configuration by a name.

    Raises:
        ConfigError: a target that no network may be built from.
    """
    match config:
        case Mapping():
            plain = {key: describe(value) for key, value in config.items() if key != _TARGET}
            if _TARGET not in config:
                return plain
            return {_NAME: _name_of(config[_TARGET])} | plain
        case list() | tuple():
            return [describe(item) for item in config]
        case _:
            return config


def build(description: Any, key: str = "") -> Any:
    """Builds what is described: a network, or one of its blocks.

    Args:
        description: Plain data.
        key: Where it stands in the configuration, for messages.

    Raises:
        ConfigError: an unknown name or option, or an impossible combination; the message holds
            the value, the rule and the remedy.
    """
    match description:
        case Mapping() if _NAME in description:
            name = description[_NAME]
            options = {k: build(v, _below(key, k)) for k, v in description.items() if k != _NAME}
            return construct(_class_of(name), options, key=key or name, hidden=_DOWNLOADING)
        case Mapping():
            return {name: build(value, _below(key, name)) for name, value in description.items()}
        case list() | tuple():
            return [build(item, key) for item in description]
        case _:
            return description


def build_network(description: Description, key: str = "") -> nn.Module:
    """Builds a network; see `build`.

    Raises:
        ConfigError: as `build`, what is described is a block and not a network, or its weights
            exceed the memory that is free.
    """
    with at_most(available_memory_bytes() // _BYTES_PER_WEIGHT):
        network = build(description, key)
    if not isinstance(network, nn.Module):
        name = description.get(_NAME) if isinstance(description, Mapping) else description
        raise ConfigError(f"{name!r} is not a network; choose models.unet.UNet")
    return network


def block_texts(description: Description) -> dict[str, str]:
    """Slot → block with its parameters, for tables: `{"encoder.conv": "Dilated(dilation=2)"}`."""
    texts: dict[str, str] = {}

    def visit(part: Any, path: tuple[str, ...]) -> None:
        if not isinstance(part, Mapping):
            return
        if str(part.get(_NAME, "")).startswith("blocks."):
            texts[".".join(path)] = repr(build(part))
            return
        for key, value in part.items():
            visit(value, (*path, key))

    visit(description, ())
    return texts


def _below(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)


def _modules() -> dict[str, str]:
    modules = {"monai": _MONAI_NETWORKS}
    for package in (medseg.blocks, medseg.models):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            modules[module.name.removeprefix("medseg.")] = module.name
    return modules


def _name_of(target: Any) -> str:
    module, _, cls = str(target).rpartition(".")
    for short, path in _modules().items():
        if path == module:
            return f"{short}.{cls}"
    raise ConfigError(
        f"_target_={target!r} is not a part of a network; "
        f"use a class of medseg.blocks, medseg.models or {_MONAI_NETWORKS}"
    )


def _class_of(name: Any) -> type:
    short, _, cls = str(name).rpartition(".")
    path = _modules().get(short)
    if path is None:
        raise ConfigError(
            f"name={name!r} is not a part of a network; use a class of blocks, models or monai"
        )
    module = importlib.import_module(path)
    options = {
        key: value
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and not key.startswith("_")
        and Protocol not in value.__bases__
        and not inspect.isabstract(value)
        and (value.__name__ in _SEGMENTING if short == "monai" else value.__module__ == path)
    }
    if cls not in options:
        close = (
            difflib.get_close_matches(cls, options, n=3, cutoff=0) if short == "monai" else options
        )
        raise ConfigError(f"name={name!r}: {short} has no {cls!r}; choose from {', '.join(close)}")
    return options[cls]
