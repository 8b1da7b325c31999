"""The sweeper behind `--multirun`: a grid whose runs are known by content and never made twice.

Hydra's own sweeper numbers its jobs and cannot continue (hydra#3328). This one gives every run a
folder named by the digest of its configuration, writes the whole grid to `ablation.json`, starts
what is not completed through whatever launcher is chosen, and starts once more what was killed.
Repeating the command is how an ablation is continued.
"""

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from medseg.cli.factors import grid_of
from medseg.errors import ConfigError, MedsegError
from medseg.experiment.grid import Grid
from medseg.record import AblationPlan

if TYPE_CHECKING:
    from medseg.experiment.ablation import Resolve

log = logging.getLogger(__name__)

# Hydra takes sweepers from this name space only, which is not ours to put a package in.
_HYDRA_PLUGINS = "hydra_plugins.medseg"
_FOLDS = ("data.fold", "data.folds")


class ArmFailedError(MedsegError):
    """Runs of an ablation failed; their records say why."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple:
        return ArmFailedError, (str(self), self.exit_code)


class AblationSweeper(Sweeper):
    """Plans a grid and launches its unfinished runs."""

    __module__ = _HYDRA_PLUGINS

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None = None):
        self.max_batch_size = max_batch_size
        self.params = dict(params or {})
        self._config: DictConfig
        self._context: HydraContext
        self._launcher: Launcher

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Keeps what a sweep needs; called by Hydra."""
        self._config, self._context = config, hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Carries out an ablation; called by Hydra with the overrides of the command line.

        Raises:
            ConfigError: the grid means nothing, or an arm cannot be made equal.
            ArmFailedError: runs failed, all others having been carried out.
        """
        presets = [f"{key}={value}" for key, value in self.params.items()]
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        given = parser.parse_overrides([*presets, *arguments])
        grid = grid_of(self._config.ablation, given, parser, seed=self._config.seed)
        folder = Path(self._config.hydra.sweep.dir)
        self._plan(grid, _fixed(given, grid), folder).write(folder)
        self._carry_out(folder)

    def _plan(self, grid: Grid, fixed: list[str], folder: Path) -> AblationPlan:
        from medseg.experiment.ablation import Planner
        from medseg.experiment.carry_out import former_plan  # heavy: torch, MONAI, Lightning

        ablation, former = self._config.ablation, former_plan(folder)
        planner = Planner(
            grid=grid,
            compose=self._compose,
            fixed=fixed,
            equal=ablation.equal,
            known=former.widths if former else {},
            device=_device(self._config) if ablation.equal == "latency" else None,
        )
        return planner.plan(
            name=self._config.name,
            budget="iterations" if self._config.trainer.max_seconds is None else "seconds",
            margin=_margin(ablation.margin),
            command=sys.argv,
        )

    def _carry_out(self, folder: Path) -> None:
        from medseg.experiment.carry_out import carry_out

        ledger = carry_out(
            folder,
            launch=self._launch,
            configs=lambda entry: self._compose(entry.cell.overrides)({}),
            retries=int(self._config.ablation.retries),
        )
        failed = [entry for entry in ledger.entries if entry.state not in ("completed", "running")]
        for entry in failed:
            log.error("%s: %s: %s", entry.state, entry.cell.folder, entry.error or "no reason")
        if failed:
            raise ArmFailedError(
                f"{len(failed)} of {len(ledger.entries)} runs in {folder} have no result; "
                "repeat the command to try them again",
                max(entry.exit_code or 1 for entry in failed),
            )
        if going := ledger.count("running"):
            log.info("%d runs are still going in other processes: medseg ablate status", going)
        else:
            log.info("done; next: medseg report %s -o report.html", folder)

    def _compose(self, overrides: Sequence[str]) -> "Resolve":
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        OmegaConf.set_struct(config, False)
        del config["hydra"]

        def resolve(changes: Mapping[str, Any]) -> dict[str, Any]:
            for key, value in changes.items():
                OmegaConf.update(config, key, value)
            plain: Any = OmegaConf.to_container(config, resolve=True)
            return plain

        return resolve

    def _launch(self, jobs: Sequence[Sequence[str]]) -> None:
        """Starts jobs; what becomes of them stands in their folders, whatever a launcher says."""
        size = self.max_batch_size or max(1, len(jobs))
        for first in range(0, len(jobs), size):
            former = self._submitted()
            try:
                self._launcher.launch(jobs[first : first + size], initial_job_idx=first)
            except MedsegError:
                raise
            except Exception as error:
                log.warning("the launcher says: %s", " ".join(str(error).split())[:500])
                _wait_for(self._submitted() - former)

    def _submitted(self) -> set[Path]:
        """The folders of SLURM jobs; submitit keeps in each what the job is asked to do."""
        if not self._config.hydra.launcher._target_.endswith("SlurmLauncher"):
            return set()
        folder = Path(self._config.hydra.sweep.dir)
        return {path.parent for path in folder.glob(".submitit/*/*_submitted.pkl")}


def _wait_for(places: set[Path]) -> None:
    """Waits for SLURM jobs: the launcher leaves at the first that ends without a result."""
    from submitit import SlurmJob

    for place in places:
        SlurmJob(folder=place.with_name("%j"), job_id=place.name).wait()


def register_sweeper() -> None:
    """Makes the sweeper known to Hydra; may be called more than once."""
    module = ModuleType(_HYDRA_PLUGINS)
    vars(module)[AblationSweeper.__name__] = AblationSweeper
    sys.modules[_HYDRA_PLUGINS] = module
    Plugins.instance().register(AblationSweeper)


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
        if override.is_sweep_override() or key in varied or key == "seed":
            continue
        text = override.input_line
        if text is None:
            raise ConfigError(f"{key}: an override without text; write {key}=value")
        fixed.append(text)
    return fixed


def _margin(margin: Any) -> float:
    if isinstance(margin, bool) or not isinstance(margin, int | float) or not 0 < margin < 1:
        raise ConfigError(f"ablation.margin={margin!r} must be a Dice between 0 and 1, as 0.01")
    return float(margin)


def _device(config: DictConfig) -> Any:
    from medseg.hardware import choose_device

    return choose_device(config.trainer.device, key="trainer.device")
