"""The factors of an ablation, as its configuration and the command line give them."""

from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medseg.data.splits import read_folds
from medseg.errors import ConfigError
from medseg.experiment.grid import FOLD, FOLDS, SEED, Grid
from medseg.experiment.schema import ALL_FOLDS, check_values

_FORM = '"key=level,level", or {level: [override, ...]}'


def grid_of(config: DictConfig, given: Sequence[Override], parser: OverridesParser) -> Grid:
    """The grid of `ablation` in a configuration, as the command line narrows and widens it.

    A key with several values on the command line is a factor of its own, or replaces the levels of
    the factor with that key; `seed` and `data.fold` are repetitions, not factors. `data.fold=all`
    is `ablation.folds` for folds that `data` describes.

    Raises:
        ConfigError: a factor in no known form, or levels that mean nothing.
    """
    keys = ("factors", "seeds", "folds", "reference")
    asked = OmegaConf.create({key: config.ablation[key] for key in keys})  # each must be there
    section: Any = OmegaConf.to_container(asked, resolve=True)
    check_values({"ablation": section})
    factors = {name: _levels(name, what, parser) for name, what in section["factors"].items()}
    by_key = {key: name for name, levels in factors.items() if (key := _only_key(levels))}
    seeds: Any = section["seeds"]
    folds, all_folds = section["folds"], config.data.fold == ALL_FOLDS
    others: list[tuple[str, str]] = []  # key and override
    for override in given:
        key, line = override.get_key_element().lstrip("+~"), str(override.input_line)
        is_swept = override.is_sweep_override()
        if key == SEED:
            seeds = [int(value) if value.isdigit() else value for value in _values(override)]
        elif (key == FOLD and is_swept) or (key in (FOLD, FOLDS) and folds is not None):
            raise ConfigError(
                f"{line}: ablation.folds={folds or 5} or data.fold=all trains all folds, another "
                "data.fold is one for all runs; give one of them"
            )
        elif key in (FOLD, FOLDS) and all_folds:
            continue
        elif is_swept or key in by_key:
            name = by_key.get(key) or key.replace("@", ".").rpartition("model.")[2]
            factors[name], by_key[key] = _levels_of_key(name, override), name
        else:
            others.append((key, line))
    varied = {_key(text) for levels in factors.values() for own in levels.values() for text in own}
    return Grid(
        factors=factors,
        seeds=[config.seed] if seeds is None else seeds,
        folds=_count_of_folds(config.data) if folds is None and all_folds else folds,
        folds_in_file=folds is None and config.data.split_file is not None,
        reference=section["reference"],
        fixed=[line for key, line in others if key not in varied],
    )


def _count_of_folds(data: DictConfig) -> int:
    if data.split_file is None:
        if data.folds is None:
            raise ConfigError("data.fold=all: needs data.folds, as 5, or a data.split_file")
        return data.folds
    count = len(read_folds(data.split_file))
    if count < 2:
        raise ConfigError(
            f"data.fold=all: {data.split_file} holds one split; leave data.fold out, or give a "
            "list of splits"
        )
    return count


def _levels(name: str, what: Any, parser: OverridesParser) -> dict[str, list[str]]:
    """Level → overrides of a factor as `ablation.factors` gives it."""
    if isinstance(what, str) and "=" in what:
        try:
            return _levels_of_key(name, parser.parse_override(what))
        except HydraException as error:
            raise ConfigError(f"ablation.factors.{name}={what!r} must be {_FORM}") from error
    if not isinstance(what, dict) or not what:
        raise ConfigError(f"ablation.factors.{name}={what!r} must be {_FORM}")
    levels = {}
    for level, texts in what.items():
        own = [] if texts is None else [texts] if isinstance(texts, str) else texts
        if not isinstance(own, list) or not all(isinstance(text, str) for text in own):
            raise ConfigError(f"ablation.factors.{name}: {texts!r} must be a list of overrides")
        levels[str(level)] = own
    return levels


def _levels_of_key(name: str, override: Override) -> dict[str, list[str]]:
    key, values = override.get_key_element(), _values(override)
    levels = {value.strip("'\""): [f"{key}={value}"] for value in values}
    if len(levels) < len(values):
        raise ConfigError(f"factor {name} has the levels {values}; give each once")
    return levels


def _values(override: Override) -> list[str]:
    if not override.is_sweep_override():
        return [override.get_value_element_as_str()]
    if not override.is_discrete_sweep():
        raise ConfigError(f"{override.input_line}: a grid needs values; list them as a,b,c")
    return [str(value) for value in override.sweep_string_iterator()]


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+")


def _only_key(levels: Mapping[str, Sequence[str]]) -> str | None:
    """The one key that all levels of a factor set; None if they set several."""
    keys = {_key(text) for own in levels.values() for text in own}
    alone = all(len(own) == 1 for own in levels.values())
    return keys.pop() if alone and len(keys) == 1 else None
