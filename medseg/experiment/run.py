"""One run: plan → data → fit → held-out cases → record."""

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from medseg.analysis.cost import count_macs, count_parameters
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.memory import window_bytes
from medseg.data.splits import NNUNET_FOLDS, folds_text
from medseg.errors import DataError, SignalError
from medseg.experiment.evaluate import evaluate_cases, study_of, trajectory_of
from medseg.experiment.evidence import evidence_of
from medseg.experiment.fit import execution_of, fit, module_of
from medseg.experiment.folder import PICTURES, PREDICTIONS, SPLIT
from medseg.experiment.largest import LargestComponents
from medseg.experiment.plan import Plan
from medseg.experiment.processes import processes
from medseg.experiment.recorded import Progress, recorded, score_lines
from medseg.experiment.resume import plan_of_continuation
from medseg.files import write_text
from medseg.hardware import describe_machine
from medseg.inference.predictor import Predictor
from medseg.models.description import block_texts
from medseg.models.weights import (
    MODEL_FOLDER,
    ModelCard,
    load_model,
    read_checkpoint,
    save_model,
    write_card,
)
from medseg.record import RunRecord, digest
from medseg.resources import peak_memory_bytes, restart_peak_memory
from medseg.training.callbacks import (
    Heartbeat,
    History,
    StopOnSignal,
    TimeBudget,
)
from medseg.training.trainer import BEST, LAST, TrainingPlan
from medseg.training.watching import PROGRESS_FILE, Curves, ValidationPictures

log = logging.getLogger(__name__)

_EVIDENCE_CASES = 2  # held-out cases that are segmented in quicker ways as well


def run(
    config: dict[str, Any], folder: Path, *, plan: Plan | None = None, **asked: Any
) -> RunRecord:
    """Carries out one run, or goes on with it, and writes its record, whatever happens.

    Args:
        config: The resolved configuration.
        folder: Where the run goes; a checkpoint that lies there is gone on from.
        plan: Of the configuration; None: made here, so that the record also tells why it cannot
            be made.
        asked: Fields of the record that tell what was asked for: `command`, `choices`,
            `overrides`, and `levels` and `matched` of an ablation's run.

    Raises:
        MedsegError: what the user can act on; the record holds its message.
    """
    with recorded(config, folder, **asked) as progress:
        plan = plan or plan_of_continuation(config, folder)
        _set_up(plan, folder, progress)
        _fit(plan, folder, progress)
        if plan.data.config.holds_out:
            _evaluate(plan, progress)
    for line in score_lines(progress.record):
        log.info("%s", line)
    return progress.record


def _set_up(plan: Plan, folder: Path, progress: Progress) -> None:
    """Prepares the data and notes what is known before training."""
    start = time.perf_counter()
    device, patch_size = plan.training.hardware, list(plan.data.config.patch_size)
    parameters = count_parameters(plan.network)
    macs = count_macs(plan.network, plan.data.config.in_channels, patch_size)
    progress.update(
        blocks=block_texts(plan.description),
        machine=describe_machine(device, plan.precision) | {"processes": plan.training.processes},
        parameters=parameters,
        macs=macs,
        patch_size=patch_size,
    )
    for warning in gridding_warnings(plan.network):
        log.warning("%s", warning)
    counts = f"{parameters:,} parameters, {macs:,} multiply-accumulates a patch"
    log.info("%s, %s on %s", counts, plan.precision, device)
    plan.data.setup()
    dataset, split = plan.data.dataset, plan.data.split
    assert dataset is not None
    assert split is not None
    split.write(folder / SPLIT)
    if folds := plan.data.folds:
        write_text(folder / NNUNET_FOLDS, folds_text(folds))
        held_out = digest({"folds": [fold.validation for fold in folds]})
        progress.update(fold=plan.data.config.fold, folds=held_out)
    plan.require_memory_of_cases()
    way = execution_of(plan)
    restart_peak_memory(device)
    progress.update(
        machine=progress.record.machine | {"execution": way},
        dataset=dataset.name,
        classes=list(dataset.classes),
        **dataset.labelling.plain(),
        label_values=dataset.label_values
        and {str(k): to for k, to in dataset.label_values.items()},
        split={"train": list(split.train), "validation": list(split.validation)},
        cases_sha256=plan.data.case_digests(),
        init=plan.init or progress.record.init,
        predicted_memory_bytes=plan.predicted_memory_bytes,
        memory_before_bytes=peak_memory_bytes(device),
        seconds={"setup": time.perf_counter() - start},
    )
    progress.write()  # a run that is killed has said what it trains on


def _fit(plan: Plan, folder: Path, progress: Progress) -> None:
    """Trains from the last checkpoint, if there is one, and keeps the network."""
    training, pictures = plan.training, plan.config["pictures"]
    card = ModelCard(
        network=plan.description,
        preprocessing=plan.data.preprocessing.describe(),
        dataset=progress.record.dataset,
        in_channels=plan.data.config.in_channels,
        classes=progress.record.classes,
        regions=progress.record.regions,
        regions_class_order=progress.record.regions_class_order,
        patch_size=list(plan.data.config.patch_size),
        channels=plan.data.channel_names,
        mirrored=plan.data.mirrored,
        side_pairs=plan.data.side_pairs,
        trained_on=plan.data.training_range(),
    )
    way = str(progress.record.machine["execution"])
    module = module_of(plan, card.plain(), way=way)
    history, stop = History(), StopOnSignal()
    validation = plan.data.prepared_validation()
    drawn, every = validation[: pictures["cases"]], pictures["every_epochs"]
    trajectory = (
        trajectory_of(module, validation[0].image, plan.config["artifacts"]) if validation else None
    )
    callbacks: list[pl.Callback] = [
        stop,
        Heartbeat(progress.write_status, history, max_seconds=training.max_seconds),
        ValidationPictures(module, drawn, folder / PICTURES, every=every),
        *([Curves(history, folder / PROGRESS_FILE)] if pictures["cases"] else []),
    ]
    if training.max_seconds is not None:
        shape = {"epochs": training.epochs, "validate_every": training.validate_every}
        callbacks.insert(0, TimeBudget(training.max_seconds, history, plan.scheduler, **shape))
    if trajectory:
        callbacks.append(trajectory)
    start = time.perf_counter()
    try:
        with processes(plan, folder, way) as rank:
            trainer = fit(plan, folder, module, rank=rank, history=history, callbacks=callbacks)
        stop.raise_if_received()
    except SystemExit as error:  # Lightning's way of ending on SIGTERM
        stop.raise_if_received()
        raise SignalError(15) from error
    finally:
        stop.teardown()
        here, step = time.perf_counter() - start, history.median_step_seconds
        former = max(0.0, sum(row["seconds"] or 0.0 for row in history.rows) - here)
        seconds = {"train": here + former, "former": former} | ({"step": step} if step else {})
        progress.update(
            history=history.rows,
            artifact_history=trajectory.rows if trajectory else [],
            seconds=progress.record.seconds | seconds,
        )
    kept = folder / (BEST if training.weights == "best" else LAST)
    progress.update(weights=_weights(training, trainer, read_checkpoint(kept)["epoch"] + 1))
    card = replace(card, weights=progress.record.weights)
    save_model(progress.results / MODEL_FOLDER, load_model(kept).network, card)
    if not progress.keeps_former:
        progress.place_results()
    progress.update(peak_memory_bytes=peak_memory_bytes(training.hardware))


def _weights(training: TrainingPlan, trainer: pl.Trainer, epoch: int) -> dict[str, Any]:
    """What the record says of the weights that are kept."""
    early: Any = trainer.early_stopping_callback
    is_chosen = training.weights == "best" or (early and early.wait_count >= early.patience)
    by = "validation Dice" if is_chosen else None
    told = {"kept": training.weights, "epoch": epoch, "ema": training.ema, "chosen_by": by}
    average = "" if training.ema is None else f", averaged (trainer.ema={training.ema})"
    log.info("kept: the %s weights (epoch %d)%s", training.weights, epoch, average)
    if by:
        log.warning("they were chosen by the %s of the very cases that are reported", by)
    return told


def _evaluate(plan: Plan, progress: Progress) -> None:
    """Segments the held-out cases with the network that was kept, as prediction does."""
    start = time.perf_counter()
    trained_in = progress.results if progress.keeps_former else progress.folder
    model = load_model(trained_in / MODEL_FOLDER)
    bf16 = plan.precision == "bf16"
    predictor = Predictor(
        model,
        device=str(plan.training.hardware),
        precision="bf16" if bf16 else "fp32",
        window_bytes=window_bytes(model.card, bf16=bf16),
    )
    study = study_of(model, predictor, plan.config["artifacts"])
    largest = LargestComponents(model.card.labelling)
    held_out = plan.data.validation_cases()
    cases, pictures, failures = evaluate_cases(
        model,
        predictor,
        held_out,
        folder=progress.results / PREDICTIONS,
        tolerance_mm=plan.config["surface_tolerance_mm"],
        pictures=plan.config["pictures"]["cases"],
        study=study,
        largest=largest,
    )
    tried = [] if failures else held_out[:_EVIDENCE_CASES]
    card = replace(
        model.card,
        largest_component=largest.found(),
        evidence=evidence_of(model, tried, plan.training.hardware),
    )
    write_card(progress.results / MODEL_FOLDER, card, model.sha256)
    progress.update(
        cases=cases,
        pictures=pictures,
        artifacts=study.record() if study else None,
        seconds=progress.record.seconds | {"validation": time.perf_counter() - start},
    )
    if not (failures and progress.keeps_former):
        progress.place_results()
    if failures:
        raise DataError(
            f"{len(failures)} of {len(held_out)} held-out cases could not be scored, the others "
            f"are in the record; mend them and resume the run: {next(iter(failures.values()))}"
        )
