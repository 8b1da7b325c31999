"""A grid whose runs are known by content and never made twice, launched through Hydra.

Hydra's own sweeper numbers its jobs and cannot continue (hydra#3328). Here every run has a folder
named by the digest of its configuration; the whole grid is written to `ablation.json`; what is not
completed is started through whatever launcher is chosen, and once more what was killed. Repeating
the command is how an ablation is continued.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from medseg.cli.command import report_error
from medseg.cli.compose import register_resolvers
from medseg.cli.train import CONFIG_NAME, request_of
from medseg.errors import ConfigError, MedsegError, SignalError
from medseg.experiment.ablation import carry_out, former_plan
from medseg.experiment.grid import Factor, Grid, Level, Resolve, plan_ablation
from medseg.experiment.ledger import Ledger, is_completed
from medseg.experiment.run import alone_in, run
from medseg.hardware import choose_device
from medseg.record import PLAN_FILE, AblationPlan

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

log = logging.getLogger(__name__)

register_resolvers()  # here, so that another process that a launcher starts knows them as well

_FOLDS = ("data.fold", "data.folds")
_SEED, _FOLD = "seed", "data.fold"
_FORM = '"key=level,level", or {level: [override, ...]}'


def sweep(hydra: "Hydra", overrides: Sequence[str], command_line: list[str]) -> int:
    """Carries out an ablation; returns the exit code.

    Args:
        hydra: Composes the configurations.
        overrides: Of the command line, those with several values included.
        command_line: Kept in the plan.

    Raises:
        ConfigError: the grid means nothing, or an arm cannot be matched in cost.
    """
    overrides = [*overrides, "hydra.mode=MULTIRUN"]
    config = hydra.compose_config(
        CONFIG_NAME, overrides, RunMode.MULTIRUN, with_log_configuration=True
    )
    HydraConfig.instance().set_config(config)
    if config.resume is not None:
        raise ConfigError(
            f"resume={config.resume}: continues a single run; "
            "an ablation is continued by repeating its command"
        )
    folder = Path(config.hydra.sweep.dir)

    def compose(changed: Sequence[str]) -> Resolve:
        return _resolver(hydra.config_loader.load_sweep_config(config, list(changed)))

    _plan(hydra, config, compose, command_line).write(folder)
    ledger = carry_out(
        folder,
        launch=_Launcher(hydra, config),
        configs=lambda entry: compose(entry.cell.overrides)({}),
        retries=int(config.ablation.retries),
    )
    return _report_end(ledger, folder)


def train_cell(config: DictConfig) -> int:
    """Trains one run of an ablation, as Hydra's launchers call it; returns the exit code.

    What became of the run stands in its folder, whatever a launcher makes of the code.
    """
    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    try:
        plan = AblationPlan.read(folder.parent / PLAN_FILE)
        cell = plan.cell(folder.name)
        if cell and is_completed(folder, cell.digest):
            log.info("%s is completed already", folder)
            return 0
        whole = OmegaConf.merge({"hydra": settings}, config)
        request = request_of(whole, folder, plan.command, cell=cell)  # type: ignore[arg-type]
        log.info("the run goes to %s", folder)
        with alone_in(folder):
            run(request)
    except MedsegError as error:
        code = report_error(error)
        if isinstance(error, SignalError) and _ends_the_process(settings):
            raise SystemExit(code) from error
        return code
    return 0


class _Launcher:
    """Starts jobs through Hydra's launcher and waits for them."""

    def __init__(self, hydra: "Hydra", config: DictConfig):
        self._config = config
        self._size: int | None = config.hydra.sweeper.get("max_batch_size")
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(hydra.config_loader, Callbacks(config)),
            task_function=train_cell,
            config=config,
        )

    def __call__(self, jobs: Sequence[Sequence[str]]) -> None:
        size = self._size or max(1, len(jobs))
        for first in range(0, len(jobs), size):
            former = self._submitted()
            try:
                self._launcher.launch(jobs[first : first + size], initial_job_idx=first)
            except MedsegError:
                raise
            except Exception as error:  # what became of the runs stands in their folders
                log.warning("the launcher stopped: %s", " ".join(str(error).split())[:500])
                _wait_for(self._submitted() - former)

    def _submitted(self) -> set[Path]:
        """The folders of SLURM jobs; submitit keeps in each what the job is asked to do."""
        if not self._config.hydra.launcher._target_.endswith("SlurmLauncher"):
            return set()
        folder = Path(self._config.hydra.sweep.dir)
        return {path.parent for path in folder.glob(".submitit/*/*_submitted.pkl")}


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


def _plan(
    hydra: "Hydra", config: DictConfig, compose: Any, command_line: list[str]
) -> AblationPlan:
    presets = [
        f"{key}={value}" for key, value in (config.hydra.sweeper.get("params") or {}).items()
    ]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    given = parser.parse_overrides([*presets, *config.hydra.overrides.task])
    ablation, device = config.ablation, config.trainer.device
    grid = grid_of(ablation, given, parser, seed=config.seed)
    former = former_plan(Path(config.hydra.sweep.dir))
    return plan_ablation(
        grid,
        compose,
        fixed=_fixed(given, grid),
        equal=ablation.equal,
        known=former.widths if former else {},
        device=choose_device(device, key="trainer.device") if ablation.equal == "latency" else None,
        name=config.name,
        budget="iterations" if config.trainer.max_seconds is None else "seconds",
        margin=_margin(ablation.margin),
        command=command_line,
    )


def _resolver(config: DictConfig) -> Resolve:
    OmegaConf.set_struct(config, False)
    del config["hydra"]

    def resolve(changes: Mapping[str, Any]) -> dict[str, Any]:
        for key, value in changes.items():
            OmegaConf.update(config, key, value)
        plain: Any = OmegaConf.to_container(config, resolve=True)
        return plain

    return resolve


def _report_end(ledger: Ledger, folder: Path) -> int:
    failed = [entry for entry in ledger.entries if entry.state not in ("completed", "running")]
    for entry in failed:
        log.error("%s: %s: %s", entry.state, entry.cell.folder, entry.error or "no reason")
    if failed:
        report_error(
            MedsegError(
                f"{len(failed)} of {len(ledger.entries)} runs in {folder} have no result; "
                "repeat the command to try them again"
            )
        )
        return max(entry.exit_code or MedsegError.exit_code for entry in failed)
    if going := ledger.count("running"):
        log.info("%d runs are still going in other processes: medseg ablate status", going)
    else:
        log.info("done; next: medseg report %s -o report.html", folder)
    return 0


def _ends_the_process(settings: Any) -> bool:
    """Whether a signal to a run ends its process, and not the run alone.

    One process for all runs: a signal means all of them. A job of SLURM, which will be queued
    again: a result would tell whoever waits for it that the job is over.
    """
    return settings.launcher._target_.endswith(("BasicLauncher", "SlurmLauncher"))


def _wait_for(places: set[Path]) -> None:
    """Waits for SLURM jobs: the launcher leaves at the first that ends without a result."""
    from submitit import SlurmJob

    for place in places:
        SlurmJob(folder=place.with_name("%j"), job_id=place.name).wait()


def _fixed(given: Sequence[Override], grid: Grid) -> list[str]:
    """The overrides that hold for every run: neither swept, nor the key of a factor."""
    varied = {
        override.partition("=")[0].lstrip("+")
        for factor in grid.factors
        for level in factor.levels
        for override in level.overrides
    }
    fixed = []
    for override in given:
        key = override.get_key_element().lstrip("+~")
        if key in _FOLDS and grid.folds is not None:
            raise ConfigError(
                f"{override.input_line}: ablation.folds={grid.folds} trains all folds; "
                "give one of the two"
            )
        if override.is_sweep_override() or key in varied or key == _SEED:
            continue
        fixed.append(str(override.input_line))
    return fixed


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


def _margin(margin: Any) -> float:
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise ConfigError(f"ablation.margin={margin!r} must be a Dice between 0 and 1, as 0.01")
    return float(margin)
