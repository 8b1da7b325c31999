"""The runs of an ablation as jobs of Hydra's launchers: one after another, joblib or SLURM."""

import logging
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from medseg.cli.command import report_error
from medseg.cli.compose import choices_of, overrides_of, register_resolvers
from medseg.errors import MedsegError, SignalError
from medseg.record import PLAN_FILE, AblationPlan

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

log = logging.getLogger(__name__)

_SECONDS = 10.0  # between two looks at SLURM's queue

register_resolvers()  # here, so that another process that a launcher starts knows them as well


def launch(hydra: "Hydra", config: DictConfig, jobs: Sequence[Sequence[str]]) -> None:
    """Starts jobs, each given by its overrides, and waits for them."""
    launcher = Plugins.instance().instantiate_launcher(
        hydra_context=HydraContext(hydra.config_loader, Callbacks(config)),
        task_function=train_cell,
        config=config,
    )
    size = config.hydra.sweeper.get("max_batch_size") or len(jobs)
    for first in range(0, len(jobs), size):
        former = _submitted(config)
        try:
            launcher.launch(jobs[first : first + size], initial_job_idx=first)
        except MedsegError:
            raise
        except Exception as error:  # what became of the runs stands in their folders
            log.warning("the launcher stopped: %s", " ".join(str(error).split())[:500])
            _wait_for(_submitted(config) - former)


def train_cell(config: DictConfig) -> int:
    """Trains one run of an ablation, as Hydra's launchers call it; returns the exit code.

    What became of the run stands in its folder, whatever a launcher makes of the code.
    """
    from medseg.experiment.ledger import is_completed, require_own
    from medseg.experiment.run import run
    from medseg.record.lock import alone_in

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    try:
        plan = AblationPlan.read(folder.parent / PLAN_FILE)
        cell = next((cell for cell in plan.cells if cell.folder == folder.name), None)
        log.info("the run goes to %s", folder)
        task: Any = OmegaConf.to_container(config, resolve=True)
        with alone_in(folder):
            if cell and is_completed(folder, cell.digest):  # by another process, by now
                log.info("%s is completed already", folder)
                return 0
            require_own(folder, task)
            run(
                task,
                folder,
                command=plan.command,
                choices=choices_of(config, settings.runtime.choices),
                overrides=overrides_of(settings),
                levels=cell.levels if cell else {},
                matched=cell.matched if cell else None,
            )
    except MedsegError as error:
        code = report_error(error)
        if isinstance(error, SignalError) and _ends_the_process(settings):
            raise SystemExit(code) from error
        return code
    except Exception:  # which launchers keep to themselves
        log.exception("the run in %s ends on an error of medseg's own", folder)
        raise
    return 0


def _ends_the_process(settings: Any) -> bool:
    """Whether a signal to a run ends its process, and not the run alone.

    One process for all runs: a signal means all of them. A job of SLURM, which will be queued
    again: a result would tell whoever waits for it that the job is over.
    """
    return settings.launcher._target_.endswith(("BasicLauncher", "SlurmLauncher"))


def _submitted(config: DictConfig) -> set[Path]:
    """The folders of SLURM jobs; submitit keeps in each what the job is asked to do."""
    if not config.hydra.launcher._target_.endswith("SlurmLauncher"):
        return set()
    folder = Path(config.hydra.sweep.dir)
    return {path.parent for path in folder.glob(".submitit/*/*_submitted.pkl")}


def _wait_for(places: set[Path]) -> None:
    """Waits for SLURM jobs: the launcher leaves at the first that ends without a result.

    To submitit a job whose node was lost has ended, though SLURM queues it again.
    """
    if places:
        from submitit import SlurmJob

        for place in places:
            job = SlurmJob(folder=place.with_name("%j"), job_id=place.name)
            job.wait()
            while not job.paths.result_pickle.exists() and _is_queued(place.name):
                time.sleep(_SECONDS)


def _is_queued(job: str) -> bool:
    asked = ("squeue", "--noheader", "--jobs", job)
    return bool(subprocess.run(asked, capture_output=True, check=False).stdout.strip())
