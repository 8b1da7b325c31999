"""What an ablation varies → its runs, each known by what it does."""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from medseg.analysis.cost import LATENCY, QUANTITIES, Load
from medseg.analysis.match import match
from medseg.errors import ConfigError
from medseg.models.description import describe
from medseg.record import AblationPlan, Cell, Matched, digest

Compose = Callable[[Sequence[str]], DictConfig]
"""Overrides → the configuration that they compose."""
Config = dict[str, Any]

_LONGEST_NAME = 100  # of 255 bytes that a file system allows
_DIGITS = 8
_SEED, _FOLD, _FOLDS = "seed", "data.fold", "data.folds"
_FORM = '"key=level,level", or {level: [override, ...]}'


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of levels, trained with every seed on every fold.

    Args:
        factors: Factor → level → the overrides that choose it.
        seeds: Of the trainings.
        folds: Of a cross-validation, all of which are trained; None: one split.
        reference: Factor → level of the arm that the others are compared with; the first level
            of a factor where it is not given.
        fixed: Overrides of every run.

    Raises:
        ConfigError: a seed or a level of the reference that means nothing.
    """

    factors: dict[str, dict[str, list[str]]]
    seeds: list[int]
    folds: int | None = None
    reference: Mapping[str, str]
    fixed: Sequence[str] = ()

    def __post_init__(self) -> None:
        seeds = self.seeds
        if not isinstance(seeds, list) or not all(type(s) is int and s >= 0 for s in seeds):
            raise ConfigError(
                f"ablation.seeds={seeds!r} must be a list of whole numbers, as in [0,1]"
            )
        if not seeds or len(set(seeds)) < len(seeds):
            raise ConfigError(f"ablation.seeds={seeds}; give at least one, each once")
        for name, level in self.reference.items():
            if level not in self.factors.get(name, {}):
                known = ", ".join(f"{factor}: {list(own)}" for factor, own in self.factors.items())
                raise ConfigError(
                    f"ablation.reference.{name}={level} is no level of this grid; it has {known}"
                )
        first = {name: next(iter(levels)) for name, levels in self.factors.items()}
        object.__setattr__(self, "reference", first | dict(self.reference))

    def arms(self) -> Iterator[tuple[dict[str, str], list[str]]]:
        """Factor → level, and all overrides, of every arm."""
        for levels in itertools.product(*self.factors.values()):
            named = dict(zip(self.factors, levels, strict=True))
            own = [text for name, level in named.items() for text in self.factors[name][level]]
            yield named, [*self.fixed, *own]

    def repetitions(self) -> list[dict[str, int]]:
        """What every run of an arm sets: all arms get their first before a second begins."""
        seeds = [{_SEED: seed} for seed in self.seeds]
        if self.folds is None:
            return seeds
        folds = [{_FOLDS: self.folds, _FOLD: fold} for fold in range(self.folds)]
        return [seed | fold for seed, fold in itertools.product(seeds, folds)]


def grid_of(config: DictConfig, given: Sequence[Override], parser: OverridesParser) -> Grid:
    """The grid of `ablation` in a configuration, as the command line narrows and widens it.

    A key with several values on the command line is a factor of its own, or replaces the levels of
    the factor with that key; `seed` and `data.fold` are repetitions, not factors.

    Raises:
        ConfigError: a factor in no known form, or levels that mean nothing.
    """
    section: Any = OmegaConf.to_container(config.ablation, resolve=True)
    factors = {name: _levels(name, what, parser) for name, what in section["factors"].items()}
    by_key = {key: name for name, levels in factors.items() if (key := _only_key(levels))}
    seeds: Any = section["seeds"]
    folds = section["folds"]
    others: list[tuple[str, str]] = []  # key and override
    for override in given:
        key, line = override.get_key_element().lstrip("+~"), str(override.input_line)
        is_swept = override.is_sweep_override()
        if key == _SEED:
            seeds = [int(value) if value.isdigit() else value for value in _values(override)]
        elif (key == _FOLD and is_swept) or (key in (_FOLD, _FOLDS) and folds is not None):
            raise ConfigError(
                f"{line}: ablation.folds={folds or 5} trains all folds, data.fold is one for all "
                "runs; give one of the two"
            )
        elif is_swept or key in by_key:
            name = by_key.get(key) or key.replace("@", ".").rpartition("model.")[2]
            factors[name], by_key[key] = _levels_of_key(name, override), name
        else:
            others.append((key, line))
    varied = {_key(text) for levels in factors.values() for own in levels.values() for text in own}
    return Grid(
        factors=factors,
        seeds=[config.seed] if seeds is None else seeds,
        folds=folds,
        reference=section["reference"],
        fixed=[line for key, line in others if key not in varied],
    )


def plan_ablation(
    grid: Grid,
    compose: Compose,
    *,
    equal: str | None = None,
    known: Mapping[str, Any] | None = None,
    device: torch.device | None = None,
    **about: Any,
) -> tuple[AblationPlan, dict[str, Config]]:
    """Plans the runs of a grid: composed, matched in cost, and named by what they do.

    Args:
        grid: What is asked for.
        compose: What turns overrides into configurations.
        equal: The cost that arms are matched in by their widths; None: in nothing.
        known: Widths that were found before, see `AblationPlan.widths`.
        device: Where latency is measured, if it is.
        about: Name, budget, margin and command of the plan.

    Returns:
        The plan, and the resolved configuration of every run by its digest.

    Raises:
        ConfigError: an arm that cannot be matched, or two arms that do the same.
    """
    if equal is not None and equal not in (*QUANTITIES, LATENCY):
        raise ConfigError(
            f"ablation.equal={equal!r} must be null or one of {', '.join([*QUANTITIES, LATENCY])}"
        )
    arms = {tuple(levels.values()): (levels, own, compose(own)) for levels, own in grid.arms()}
    widths: dict[str, Any] = {}
    matched: dict[tuple[str, ...], Matched] = {}
    reference = tuple(grid.reference[name] for name in grid.factors)
    for arm, (levels, own, config) in arms.items():
        if equal is None or arm == reference:
            continue
        pair = [_resolved(arms[reference][2]), _resolved(config)]
        key = f"{equal} {digest(pair[0])} {digest(pair[1])}"
        try:
            found = (known or {}).get(key) or _equal_widths(pair[0], pair[1], equal, device)
        except ConfigError as error:
            named = ", ".join(f"{factor} {level}" for factor, level in levels.items())
            raise ConfigError(f"{named}: {error}") from error
        widths[key] = found
        matched[arm] = Matched(quantity=equal, value=found["value"], wanted=found["wanted"])
        arms[arm] = levels, [*own, *found["overrides"]], compose([*own, *found["overrides"]])
    cells: list[Cell] = []
    configs: dict[str, Config] = {}
    for repetition, (arm, (levels, own, config)) in itertools.product(
        grid.repetitions(), arms.items()
    ):
        whole = _resolved(config, repetition)
        own_digest = digest(whole)
        if own_digest in configs:
            same = next(cell for cell in cells if cell.digest == own_digest)
            raise ConfigError(
                f"{same.levels} and {levels} are the same configuration; "
                "remove one level, or correct its overrides"
            )
        configs[own_digest] = whole
        seed, fold = repetition[_SEED], repetition.get(_FOLD)
        cells.append(
            Cell(
                folder=folder_name(levels, seed, fold, own_digest),
                levels=levels,
                seed=seed,
                fold=fold,
                digest=own_digest,
                overrides=[*own, *(f"{key}={value}" for key, value in repetition.items())],
                matched=matched.get(arm),
            )
        )
    plan = AblationPlan(
        factors={name: list(levels) for name, levels in grid.factors.items()},
        reference=dict(grid.reference),
        cells=cells,
        equal=equal,
        widths=widths,
        **about,
    )
    return plan, configs


def folder_name(levels: Mapping[str, str], seed: int, fold: int | None, digest: str) -> str:
    """A name that tells people what a run is, and that only this configuration has.

    >>> folder_name({"conv": "dilated", "conv.groups": "2"}, 0, None, "0123456789ab")
    'dilated-groups_2-seed0-01234567'
    """
    shown = [
        level if level[:1].isalpha() else f"{factor.rpartition('.')[2]}_{level}"
        for factor, level in levels.items()
    ]
    words = [re.sub(r"[^A-Za-z0-9._]+", "_", text).strip("_.") for text in shown]
    place = f"seed{seed}" if fold is None else f"seed{seed}-fold{fold}"
    text = "-".join(filter(None, words))[:_LONGEST_NAME]
    return "-".join(filter(None, [text, place, digest[:_DIGITS]]))


def width_overrides(widths: Mapping[tuple[str, ...], Sequence[int]]) -> list[str]:
    """Widths by their place in a network's description, as overrides.

    >>> width_overrides({("encoder", "channels"): [8, 16], ("decoder", "width"): [8]})
    ['model.encoder.channels=[8,16]', 'model.decoder.width=8']
    """
    return [f"model.{'.'.join(path)}={width_text(own)}" for path, own in widths.items()]


def width_text(widths: Sequence[int]) -> str:
    """Widths as the value of an override."""
    return str(widths[0]) if len(widths) == 1 else f"[{','.join(map(str, widths))}]"


def _equal_widths(
    reference: Config, config: Config, quantity: str, device: torch.device | None
) -> dict[str, Any]:
    """The overrides that give an arm the cost of the reference, and the cost that they reach."""
    data = config["data"]
    load = Load(
        in_channels=data["in_channels"],
        patch_size=tuple(data["patch_size"]),
        batch=data["batch_size"],
    )
    options = {"device": device} if quantity == LATENCY else {}
    networks = (describe(reference["model"]), describe(config["model"]))
    found = match(*networks, quantity, load, **options)
    overrides = width_overrides(found.widths)
    return {"overrides": overrides, "value": float(found.value), "wanted": float(found.wanted)}


def _resolved(config: DictConfig, changes: Mapping[str, Any] | None = None) -> Config:
    """A configuration as plain values, dotted keys changed."""
    for key, value in (changes or {}).items():
        OmegaConf.update(config, key, value)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


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
