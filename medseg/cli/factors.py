"""What a configuration and a command line say of an ablation → its grid."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medseg.errors import ConfigError
from medseg.experiment.grid import Factor, Grid, Level

_FORM = '"key=level,level", or {level: [override, ...]}'
_SEED, _FOLD = "seed", "data.fold"


def grid_of(
    ablation: DictConfig, given: Sequence[Override], parser: OverridesParser, *, seed: int
) -> Grid:
    """The grid of `ablation`, as the command line narrows and widens it.

    A key that is swept on the command line is a factor of its own, or replaces the levels of the
    factor with that key; `seed` and `data.fold` are repetitions, not factors.

    Raises:
        ConfigError: a factor in no known form, or levels that mean nothing.
    """
    plain: Any = OmegaConf.to_container(ablation, resolve=True)
    factors = {name: _factor(name, what, parser) for name, what in plain["factors"].items()}
    seeds, folds = plain["seeds"], plain["folds"]
    for override in given:
        key = override.get_key_element().lstrip("+~")
        named = next((n for n, factor in factors.items() if _key(factor) == key), None)
        if key == _SEED:
            seeds = [int(value) for value in _values(override)]
        elif key == _FOLD and override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: sweep all folds with ablation.folds=5")
        elif named or override.is_sweep_override():
            name = named or key.replace("@", ".").rpartition("model.")[2]
            factors[name] = _by_key(name, override)
    return Grid(
        factors=tuple(factors.values()),
        seeds=tuple([seed] if seeds is None else _whole_numbers(seeds)),
        folds=folds,
        reference=plain["reference"],
    )


def _factor(name: str, what: Any, parser: OverridesParser) -> Factor:
    if isinstance(what, str) and "=" in what:
        try:
            return _by_key(name, parser.parse_override(what))
        except HydraException as error:
            raise ConfigError(f"ablation.factors.{name}={what!r} must be {_FORM}") from error
    if isinstance(what, dict) and what:
        levels = [Level(str(level), _overrides(name, texts)) for level, texts in what.items()]
        return Factor(name, tuple(levels))
    raise ConfigError(f"ablation.factors.{name}={what!r} must be {_FORM}")


def _overrides(name: str, texts: Any) -> tuple[str, ...]:
    listed = [] if texts is None else [texts] if isinstance(texts, str) else texts
    if not isinstance(listed, list) or not all(isinstance(text, str) for text in listed):
        raise ConfigError(f"ablation.factors.{name}: {texts!r} must be a list of overrides")
    return tuple(listed)


def _by_key(name: str, override: Override) -> Factor:
    key = override.get_key_element()
    levels = [Level(value.strip("'\""), (f"{key}={value}",)) for value in _values(override)]
    return Factor(name, tuple(levels))


def _values(override: Override) -> list[str]:
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: a grid needs values; list them as a,b,c")
        return [str(value) for value in override.sweep_string_iterator()]
    return [override.get_value_element_as_str()]


def _key(factor: Factor) -> str | None:
    """The one key that all levels of a factor set; None if they set several."""
    keys = {o.partition("=")[0].lstrip("+") for level in factor.levels for o in level.overrides}
    alone = all(len(level.overrides) == 1 for level in factor.levels)
    return keys.pop() if alone and len(keys) == 1 else None


def _whole_numbers(seeds: Any) -> list[int]:
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"ablation.seeds={seeds!r} must be a list of whole numbers, as in [0,1]")
    return seeds
