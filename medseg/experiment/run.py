"""One run: plan, train, keep the model, evaluate, record; recorded also when it fails."""

import logging
import os
import platform
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import yaml
from filelock import FileLock, Timeout
from torch import Tensor

from medseg.analysis.receptive_field import gridding_warnings
from medseg.checkerboard.layers import stride_grid_of
from medseg.data.patches import central_patch
from medseg.errors import ConfigError, MedsegError, ResourceError, SignalError
from medseg.experiment.evaluate import evaluate_cases, study_of
from medseg.experiment.plan import Plan, make_plan, predicted_training_memory
from medseg.experiment.resume import CONFIG, former_record, require_continuable
from medseg.files import require_writable, sweep_parts, write_text
from medseg.hardware import (
    describe_machine,
    keep_freed_memory,
    limit_threads,
    now,
    package_versions,
    peak_memory_bytes,
    restart_peak_memory,
)
from medseg.inference.predictor import Predictor
from medseg.models.weights import MODEL_FOLDER, ModelCard, load_model, save_model
from medseg.record import FILE_NAME, STATUS_FILE, Cell, RunRecord, RunStatus, digest
from medseg.training.artifact_trajectory import ArtifactTrajectory
from medseg.training.callbacks import (
    Heartbeat,
    History,
    StopOnSignal,
    TimeBudget,
    ValidationPictures,
)
from medseg.training.module import SegmentationModule
from medseg.training.trainer import BEST, LAST, make_trainer

log = logging.getLogger(__name__)

SPLIT = "split.json"
PREDICTIONS = "validation"
PICTURES = "pictures"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for.

    Args:
        config: The resolved configuration.
        folder: Where the run goes.
        command: The command line.
        choices: Slot → option.
        overrides: The overrides given.
        cell: The cell of an ablation that this run is, or None.
        resumes: Whether a run of that folder is continued because its name was given.
        builds_data: Whether a dataset that is not there may be built or downloaded.
    """

    config: dict[str, Any]
    folder: Path
    command: list[str]
    choices: dict[str, str]
    overrides: list[str]
    cell: Cell | None = None
    resumes: bool = False
    builds_data: bool = True


def prepare(request: Request) -> Plan:
    """Seeds the random numbers and checks what can be checked before anything is written.

    The data of a run that is continued are looked at as well: they must lie where the run left
    them, and are neither downloaded nor built unless that is asked for.

    Raises:
        MedsegError: the run cannot be carried out.
    """
    keep_freed_memory()
    limit_threads()
    plan = make_plan(request.config)
    if request.resumes:
        epochs = plan.training.epochs if plan.training.max_seconds is None else None
        require_continuable(request.folder, plan.network, epochs)
        plan.data.config.source.prepare(may_write=request.builds_data)
        plan.data.setup()
    return plan


def require_unused(folder: Path) -> None:
    """Checks that a new run finds no other's files, and none of the user's, under its names.

    Raises:
        ConfigError: one is there.
    """
    logs = ("metrics.csv", "train.log")
    names = (
        CONFIG,
        FILE_NAME,
        STATUS_FILE,
        SPLIT,
        PREDICTIONS,
        PICTURES,
        MODEL_FOLDER,
        LAST,
        *logs,
    )
    for path in (folder / name for name in names):
        if path.exists():
            raise ConfigError(
                f"{path} exists, and a new run starts in a folder without one; choose another "
                f"hydra.run.dir, or continue the run that is there with resume={folder}"
            )


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Makes a run's folder and keeps other processes out of it.

    Raises:
        ResourceError: another process is at work there, or the folder cannot be written.
    """
    require_writable(folder)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout as error:
        raise ResourceError(
            f"{folder}: another process is at work there; wait for it, or start a new run"
        ) from error


def run(request: Request, plan: Plan | None = None) -> RunRecord:
    """Carries out one run and writes its record, whatever happens.

    The record of a completed run that is continued, and its configuration, are replaced when the
    continued run is completed, and not before.

    Args:
        request: What was asked for.
        plan: From `prepare`; None: made here, so that the record also tells why it cannot be made.

    Raises:
        MedsegError: what the user can act on; the record holds its message.
    """
    sweep_parts(request.folder)
    start = time.perf_counter()
    progress = _Progress(request)
    progress.write()
    try:
        _carry_out(request, plan or prepare(request), progress)
        progress.update(status="completed", exit_code=0)
    except SignalError as error:
        progress.update(status="interrupted", error=str(error), exit_code=error.exit_code)
        raise
    except KeyboardInterrupt as error:
        stop = SignalError(2)
        progress.update(
            status="interrupted", error="stopped by the keyboard", exit_code=stop.exit_code
        )
        raise stop from error
    except MedsegError as error:
        progress.update(status="failed", error=str(error), exit_code=error.exit_code)
        raise
    except SystemExit as error:  # a scheduler's way of stopping a run, wherever it is
        code = error.code if isinstance(error.code, int) else MedsegError.exit_code
        progress.update(status="interrupted", error="stopped from outside", exit_code=code)
        raise
    except Exception:
        last_line = traceback.format_exc().strip().splitlines()[-1]
        progress.update(status="failed", error=last_line, exit_code=MedsegError.exit_code)
        raise
    finally:
        seconds = progress.record.seconds
        seconds |= {"total": time.perf_counter() - start + seconds.get("former", 0.0)}
        progress.update(seconds=seconds, finished=now())
        progress.write(share=1.0, seconds=seconds["total"])
    return progress.record


class _Progress:
    """The record so far, and the status beside it that other processes read."""

    def __init__(self, request: Request):
        config, cell, former = request.config, request.cell, former_record(request.folder)
        known = former if request.resumes else None
        matched = cell.matched if cell else known.matched if known else None
        self.record = RunRecord(
            name=config["name"],
            status="running",
            started=now(),
            command=request.command,
            choices=request.choices,
            overrides=request.overrides,
            config=config,
            digest=digest(config),
            levels=cell.levels if cell else known.levels if known else {},
            matched=matched,
            versions=package_versions(),
            seed=config["seed"],
            fold=config["data"]["fold"] if config["data"]["folds"] is not None else None,
            restarts=former.restarts + 1 if former else 0,
        )
        self._folder = request.folder
        self._keeps_former = known is not None and known.status == "completed"

    def update(self, **fields: Any) -> None:
        """Changes fields of the record."""
        self.record = replace(self.record, **fields)

    def write(self, share: float = 0.0, seconds: float = 0.0) -> None:
        """Writes record, configuration and status: share done in [0, 1], seconds spent."""
        if self.record.status == "completed" or not self._keeps_former:
            config = yaml.safe_dump(self.record.config, sort_keys=False)
            write_text(self._folder / CONFIG, config)
            self.record.write(self._folder)
        self.write_status(share, seconds)

    def write_status(self, share: float, seconds: float) -> None:
        """Writes the status: share done in [0, 1], seconds spent."""
        RunStatus(
            status=self.record.status,
            share=share,
            seconds=seconds,
            host=platform.node(),
            process=os.getpid(),
            at=time.time(),
            error=self.record.error,
            exit_code=self.record.exit_code,
        ).write(self._folder)


def _carry_out(request: Request, plan: Plan, progress: _Progress) -> None:
    config, folder, start = request.config, request.folder, time.perf_counter()
    device = plan.training.hardware
    progress.update(
        blocks=plan.blocks,
        machine=describe_machine(device, plan.precision),
        parameters=plan.parameters,
        macs=plan.macs,
        patch_size=list(plan.data.config.patch_size),
    )
    for warning in gridding_warnings(plan.network):
        log.warning("%s", warning)
    log.info(
        "%s parameters, %s multiply-accumulates a patch, %s on %s",
        f"{plan.parameters:,}",
        f"{plan.macs:,}",
        plan.precision,
        device,
    )
    plan.data.setup()
    dataset, split = plan.data.dataset, plan.data.split
    if dataset is None or split is None:
        raise RuntimeError("the data module was not set up")
    split.write(folder / SPLIT)
    progress.update(
        dataset=dataset.name,
        classes=list(dataset.classes),
        split={"train": list(split.train), "validation": list(split.validation)},
    )
    card = ModelCard(
        network=plan.description,
        preprocessing=plan.data.config.preprocessing.describe(),
        dataset=dataset.name,
        in_channels=dataset.in_channels,
        classes=list(dataset.classes),
        patch_size=list(plan.data.config.patch_size),
    )
    restart_peak_memory(device)
    progress.update(
        predicted_memory_bytes=predicted_training_memory(plan),
        memory_before_bytes=peak_memory_bytes(device),
        seconds={"setup": time.perf_counter() - start},
    )
    _train(plan, card, config, folder, progress)
    progress.update(peak_memory_bytes=peak_memory_bytes(device))
    _evaluate(plan, config, folder, progress)


def _train(
    plan: Plan, card: ModelCard, config: dict[str, Any], folder: Path, progress: _Progress
) -> None:
    module = SegmentationModule(
        network=plan.network,
        loss=plan.loss,
        optimizer=plan.optimizer,
        scheduler=plan.scheduler,
        classes=card.classes,
        patch_size=card.patch_size,
        deep_supervision=plan.deep_supervision,
        description=card.plain(),
    )
    history, stop, training = History(), StopOnSignal(), plan.training
    pictures = config["pictures"]
    validation = plan.data.prepared_validation()
    drawn = validation[: pictures["cases"]]
    trajectory = _trajectory(module, validation[0].image, config["artifacts"])
    callbacks: list[pl.Callback] = [
        Heartbeat(progress.write_status, history, max_seconds=training.max_seconds),
        ValidationPictures(module, drawn, folder / PICTURES, every=pictures["every_epochs"]),
    ]
    if training.max_seconds is not None:
        every = {"epochs": training.epochs, "validate_every": training.validate_every}
        callbacks.insert(0, TimeBudget(training.max_seconds, history, plan.scheduler, **every))
    if trajectory:
        callbacks.append(trajectory)
    trainer = make_trainer(
        training,
        folder=folder,
        precision=plan.precision,
        seed=config["seed"],
        history=history,
        stop=stop,
        callbacks=callbacks,
    )
    last = folder / LAST
    start = time.perf_counter()
    try:
        trainer.fit(
            module,
            datamodule=plan.data,
            ckpt_path=last if last.is_file() else None,
            weights_only=True,
        )
        stop.raise_if_received()
    except SystemExit as error:  # Lightning's way of ending on SIGTERM
        stop.raise_if_received()
        raise SignalError(15) from error
    finally:
        stop.teardown()
        step = history.median_step_seconds
        here, epochs = time.perf_counter() - start, sum(r["seconds"] or 0.0 for r in history.rows)
        former = max(0.0, epochs - here)
        seconds = {"train": here + former, "former": former} | ({"step": step} if step else {})
        progress.update(
            history=history.rows,
            artifact_history=trajectory.rows if trajectory else [],
            seconds=progress.record.seconds | seconds,
        )
    best = load_model(folder / BEST)
    save_model(folder / MODEL_FOLDER, best.network, card)


def _trajectory(
    module: SegmentationModule, image: Tensor, options: dict[str, Any]
) -> ArtifactTrajectory | None:
    """Measures the network in training on the middle of an image; None if there is no grid."""
    if not options["follow"]:
        return None
    try:
        grid = stride_grid_of(module.network, len(module.patch_size))
    except ConfigError:
        return None
    window = central_patch(image, module.patch_size)[None]
    return ArtifactTrajectory(module, window, grid, options["shifts"])


def _evaluate(plan: Plan, config: dict[str, Any], folder: Path, progress: _Progress) -> None:
    start = time.perf_counter()
    model = load_model(folder / MODEL_FOLDER)
    predictor = Predictor(
        model, device=str(plan.training.hardware), bf16=True if plan.precision == "bf16" else None
    )
    cases = plan.data.validation_cases()
    study = study_of(model, predictor, config["artifacts"])
    records, pictures = evaluate_cases(
        model,
        predictor,
        cases,
        folder=folder / PREDICTIONS,
        tolerance_mm=config["surface_tolerance_mm"],
        pictures=config["pictures"]["cases"],
        study=study,
    )
    progress.update(cases=records, pictures=pictures)
    progress.update(
        artifacts=study.record() if study else None,
        seconds=progress.record.seconds | {"validation": time.perf_counter() - start},
    )
