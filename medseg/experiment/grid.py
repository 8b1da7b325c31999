"""What an ablation varies → its runs, each known by what it does."""

import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from medseg.analysis.cost import LATENCY, Load
from medseg.analysis.match import match
from medseg.errors import ConfigError, DataError
from medseg.experiment.effects import holds_out
from medseg.experiment.folder import former_record
from medseg.experiment.ledger import entry_of
from medseg.experiment.schema import RULES, broken
from medseg.models.description import describe
from medseg.record import AblationPlan, Cell, Matched, RunStatus, digest, leaves

Config = dict[str, Any]
Compose = Callable[[Sequence[str], Mapping[str, Any]], Config]
"""Overrides, and dotted keys that are set afterwards → the configuration, resolved."""

_LONGEST_NAME = 100  # of 255 bytes that a file system allows
_DIGITS = 8
_MEASURED = ("artifacts.", "pictures.")  # no part of what a run is known by
SEED, FOLD, FOLDS = "seed", "data.fold", "data.folds"
"""Keys that a repetition sets."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Every combination of levels, trained with every seed on every fold.

    Args:
        factors: Factor → level → the overrides that choose it.
        seeds: Of the trainings.
        folds: Of a cross-validation, all of which are trained; None: one split.
        folds_in_file: Whether they are those of `data.split_file`, which knows how many.
        reference: Factor → level of the arm that the others are compared with; the first level
            of a factor where it is not given.
        fixed: Overrides of every run.

    Raises:
        ConfigError: a seed or a level of the reference that means nothing.
    """

    factors: dict[str, dict[str, list[str]]]
    seeds: list[int]
    folds: int | None = None
    folds_in_file: bool = False
    reference: Mapping[str, str]
    fixed: Sequence[str] = ()

    def __post_init__(self) -> None:
        rule = RULES["ablation.seeds"]
        if not rule.holds(self.seeds):
            raise ConfigError(broken("ablation.seeds", self.seeds, rule))
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
        seeds = [{SEED: seed} for seed in self.seeds]
        if self.folds is None:
            return seeds
        count = {} if self.folds_in_file else {FOLDS: self.folds}
        folds = [count | {FOLD: fold} for fold in range(self.folds)]
        return [seed | fold for seed, fold in itertools.product(seeds, folds)]


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
        compose: What turns overrides and values of a repetition into configurations.
        equal: The cost that arms are matched in by their widths; None: in nothing.
        known: Widths that were found before, see `AblationPlan.widths`.
        device: Where latency is measured, if it is.
        about: Name, budget, margin and command of the plan.

    Returns:
        The plan, and the resolved configuration of every run by its digest.

    Raises:
        ConfigError: an arm that cannot be matched, or two arms that do the same.
    """
    arms = {tuple(levels.values()): (levels, own) for levels, own in grid.arms()}
    widths: dict[str, Any] = {}
    matched: dict[tuple[str, ...], Matched] = {}
    reference = tuple(grid.reference[name] for name in grid.factors)
    for arm, (levels, own) in arms.items():
        if equal is None or arm == reference:
            continue
        pair = [compose(arms[reference][1], {}), compose(own, {})]
        key = f"{equal} {digest(pair[0])} {digest(pair[1])}"
        try:
            found = (known or {}).get(key) or _equal_widths(pair[0], pair[1], equal, device)
        except ConfigError as error:
            named = ", ".join(f"{factor} {level}" for factor, level in levels.items())
            raise ConfigError(f"{named}: {error}") from error
        widths[key] = found
        matched[arm] = Matched(quantity=equal, value=found["value"], wanted=found["wanted"])
        arms[arm] = levels, [*own, *found["overrides"]]
    cells: list[Cell] = []
    configs: dict[str, Config] = {}
    for repetition, (arm, (levels, own)) in itertools.product(grid.repetitions(), arms.items()):
        whole = compose(own, repetition)
        if len(arms) > 1 and not holds_out(whole):
            raise ConfigError(
                "data.validation_fraction=0 holds no case out, by which arms could be compared; "
                "choose data.validation_fraction=0.2 or data.folds=5"
            )
        own_digest = digest(whole)
        if own_digest in configs:
            same = next(cell for cell in cells if cell.digest == own_digest)
            raise ConfigError(
                f"{same.levels} and {levels} are the same configuration; "
                "remove one level, or correct its overrides"
            )
        configs[own_digest] = whole
        seed, fold = repetition[SEED], repetition.get(FOLD)
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


def placed(plan: AblationPlan, folder: Path, data: Mapping[str, str]) -> tuple[AblationPlan, int]:
    """A plan that knows its dataset's files, and leaves runs on former ones where they are.

    Args:
        plan: As planned.
        folder: Where it is, or will be.
        data: Digest of a cell's configuration → of the files that it is trained on.

    Returns:
        The plan, and how many runs are there that were trained on other files.
    """
    cells, others = [], 0
    for cell in plan.cells:
        own, former = data.get(cell.digest, ""), RunStatus.read(folder / cell.folder)
        is_other = former is not None and "" not in (own, former.data) and former.data != own
        others += is_other
        name = f"{cell.folder}-{own[:_DIGITS]}" if is_other else cell.folder
        cells.append(replace(cell, data=own, folder=name))
    return replace(plan, cells=cells), others


def require_same_options(
    plan: AblationPlan,
    folder: Path,
    configs: Mapping[str, Mapping[str, Any]],
    classes: Mapping[str, Sequence[str]],
) -> None:
    """Checks that runs that are not made again were measured, drawn and named as is asked now.

    Configurations, and the names of classes where they are known, are by a cell's digest.

    Raises:
        ConfigError: `artifacts` or `pictures` has another value.
        DataError: classes have other names.
    """
    for cell in plan.cells:
        former = former_record(folder / cell.folder)
        if former is None or entry_of(cell, folder).is_unfinished:
            continue
        now = dict(leaves(configs[cell.digest]))
        for key, was in leaves(former.config):
            if key.startswith(_MEASURED) and now.get(key, was) != was:
                told = json.dumps(was)
                raise ConfigError(
                    f"{key}={json.dumps(now[key])}: {folder / cell.folder} has {told} and is not "
                    f"made again; give {key}={told}, or the ablation another name="
                )
        names = list(classes.get(cell.digest, former.classes))
        if former.classes and former.classes != names:
            raise DataError(
                f"the classes are {', '.join(names)}, but {folder / cell.folder} was trained on "
                f"{', '.join(former.classes)}; restore the names, or give the ablation another "
                "name="
            )


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
