"""One run: plan, train, keep the model, evaluate, record; recorded also when it fails."""

import logging
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from filelock import FileLock, Timeout

from medseg.errors import MedsegError, ResourceError, SignalError
from medseg.experiment.checkerboard import study_of, trajectory_of
from medseg.experiment.evaluate import evaluate_cases
from medseg.experiment.plan import Plan, make_plan, predicted_training_memory
from medseg.experiment.progress import Progress, former_attempts
from medseg.files import require_writable, sweep_parts
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
from medseg.models.weights import (
    MODEL_FOLDER,
    ModelCard,
    load_model,
    save_model,
)
from medseg.record import ArtifactRecord, Cell, RunRecord, UpsamplingGain, digest
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
    """

    config: dict[str, Any]
    folder: Path
    command: list[str]
    choices: dict[str, str]
    overrides: list[str]
    cell: Cell | None = None


def run(request: Request) -> RunRecord:
    """Carries out one run and writes its record, whatever happens.

    Raises:
        MedsegError: what the user can act on; the record holds its message.
    """
    require_writable(request.folder)
    try:
        with FileLock(request.folder / ".lock", timeout=0):
            return _run_alone(request)
    except Timeout as error:
        raise ResourceError(
            f"{request.folder}: another process is at work there; wait for it, or start a new run"
        ) from error


def _run_alone(request: Request) -> RunRecord:
    keep_freed_memory()
    limit_threads()
    sweep_parts(request.folder)
    start = time.perf_counter()
    config, cell = request.config, request.cell
    record = RunRecord(
        name=config["name"],
        status="running",
        started=now(),
        command=request.command,
        choices=request.choices,
        overrides=request.overrides,
        config=config,
        digest=digest(config),
        levels=cell.levels if cell else {},
        matched=cell.matched if cell else None,
        versions=package_versions(),
        seed=config["seed"],
        fold=config["data"]["fold"] if config["data"]["folds"] is not None else None,
        restarts=former_attempts(request.folder),
    )
    record.write(request.folder)
    progress = Progress(record, request.folder)
    progress.tell()
    try:
        _carry_out(request, progress)
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
        here = time.perf_counter() - start
        seconds = seconds | {"total": here + seconds.get("former", 0.0)}
        progress.update(seconds=seconds, finished=now())
        progress.record.write(request.folder)
        progress.tell(share=1.0, seconds=seconds["total"])
    return progress.record


def _carry_out(request: Request, progress: Progress) -> None:
    config, folder, start = request.config, request.folder, time.perf_counter()
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    plan = make_plan(config)
    hardware = plan.training.hardware
    progress.update(
        blocks=plan.blocks,
        machine=describe_machine(hardware, plan.precision),
        parameters=plan.parameters,
        macs=plan.macs,
        patch_size=list(plan.data.patch_size),
    )
    log.info(
        "%s parameters, %s multiply-accumulates a patch, %s on %s",
        f"{plan.parameters:,}",
        f"{plan.macs:,}",
        plan.precision,
        hardware,
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
        preprocessing=plan.data.preprocessing.describe(),
        dataset=dataset.name,
        in_channels=dataset.in_channels,
        classes=list(dataset.classes),
        patch_size=list(plan.data.patch_size),
    )
    restart_peak_memory(hardware)
    progress.update(
        predicted_memory_bytes=predicted_training_memory(plan, config),
        memory_before_bytes=peak_memory_bytes(hardware),
        seconds={"setup": time.perf_counter() - start},
    )
    _train(plan, card, config, folder, progress)
    progress.update(peak_memory_bytes=peak_memory_bytes(hardware))
    _evaluate(plan, config, folder, progress)


def _train(
    plan: Plan, card: ModelCard, config: dict[str, Any], folder: Path, progress: Progress
) -> None:
    module = SegmentationModule(
        network=plan.network,
        loss=plan.loss,
        optimizer=plan.optimizer,
        scheduler=plan.scheduler,
        classes=card.classes,
        patch_size=card.patch_size,
        deep_supervision=bool(config["model"].get("deep_supervision", False)),
        description=card.plain(),
    )
    history, stop = History(), StopOnSignal()
    pictures = config["pictures"]
    validation = plan.data.prepared_validation()
    drawn = validation[: pictures["cases"]]
    trajectory = trajectory_of(module, validation[0].image, config["artifacts"])
    trainer = make_trainer(
        plan.training,
        folder=folder,
        precision=plan.precision,
        seed=config["seed"],
        history=history,
        stop=stop,
        callbacks=[
            *_time_budget(plan, history),
            Heartbeat(progress.tell, history, max_seconds=plan.training.max_seconds),
            ValidationPictures(module, drawn, folder / PICTURES, every=pictures["every_epochs"]),
            *([trajectory] if trajectory else []),
        ],
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


def _time_budget(plan: Plan, history: History) -> list[TimeBudget]:
    training = plan.training
    if training.max_seconds is None:
        return []
    return [
        TimeBudget(
            training.max_seconds,
            history,
            plan.scheduler,
            epochs=training.epochs,
            validate_every=training.validate_every,
        )
    ]


def _evaluate(plan: Plan, config: dict[str, Any], folder: Path, progress: Progress) -> None:
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
    artifacts = study.record() if study else None
    progress.update(
        upsampling=_upsampling(artifacts),
        constant_response=artifacts.constant_response if artifacts else None,
        artifacts=artifacts,
        seconds=progress.record.seconds | {"validation": time.perf_counter() - start},
    )


def _upsampling(artifacts: ArtifactRecord | None) -> list[UpsamplingGain]:
    return [
        UpsamplingGain(layer=row.layer, operator=row.operator, imbalance=row.values["dc_gain"])
        for row in (artifacts.layers if artifacts else [])
        if row.values["dc_gain"] is not None
    ]
