"""The training of a plan's network, as each of a run's processes does it."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch._dynamo.exc import TorchDynamoException

from medseg.analysis.cost import training_call
from medseg.data.loading import loader_faults
from medseg.errors import ConfigError, ResourceError
from medseg.experiment.plan import Plan
from medseg.hardware import allow_tf32
from medseg.labelling import Labelling
from medseg.training.callbacks import History
from medseg.training.execution import Step, choose_execution
from medseg.training.head import last_layers, start_from_shares
from medseg.training.loggers import make_loggers
from medseg.training.module import SegmentationModule
from medseg.training.ranks import Rank
from medseg.training.trainer import LAST, make_trainer

log = logging.getLogger(__name__)


def execution_of(plan: Plan) -> str:
    """The way in which a plan's training step is carried out; on a GPU it may be measured.

    Raises:
        ResourceError: the GPU's memory does not suffice, or CUDA graphs need one.
    """
    config, training = plan.data.config, plan.training
    each = config.batch_size // training.processes
    step = Step(
        network=plan.network,
        call=training_call(plan.network, deep_supervision=plan.deep_supervision),
        shape=(each, config.in_channels, *config.patch_size),
        precision=plan.precision,
        device=training.hardware,
        steps=training.epochs * config.batches_per_epoch,
        max_seconds=training.max_seconds,
    )
    allow_tf32(plan.precision)
    if training.hardware.type == "cuda":
        torch.backends.cudnn.benchmark = not training.deterministic  # as training will
    with _device_faults(plan):
        return choose_execution(
            training.execution,
            step,
            (plan.description, plan.deep_supervision),
            cache=Path(config.cache),
            deterministic=training.deterministic,
        )


def module_of(
    plan: Plan, description: Mapping[str, Any] | None = None, *, way: str = "plain"
) -> SegmentationModule:
    """The optimisation of a plan's network, whose data are set up.

    With `trainer.class_prior` a last layer that was not trained starts from the classes' shares.

    Args:
        plan: The plan.
        description: Plain data that checkpoints keep.
        way: In which a step is carried out.
    """
    dataset, config = plan.data.dataset, plan.data.config
    assert dataset is not None
    if plan.training.class_prior:
        _start_from_shares(plan, dataset.labelling)
    return SegmentationModule(
        network=plan.network,
        loss=plan.loss,
        optimizer=plan.optimizer,
        scheduler=plan.scheduler,
        labelling=dataset.labelling,
        patch_size=config.patch_size,
        deep_supervision=plan.deep_supervision,
        ignores=plan.data.ignores,
        way=way,
        description=dict(description or {}),
    )


def _start_from_shares(plan: Plan, labelling: Labelling) -> None:
    """Sets the biases of last layers that do not begin with trained weights."""
    layers = last_layers(plan.network, labelling.outputs)
    if not layers:
        log.warning(
            "trainer.class_prior changes nothing: no convolution with %d outputs gives the scores "
            "of %s", labelling.outputs, type(plan.network).__name__,
        )  # fmt: skip
    if plan.init:
        new = {id(p) for name, p in plan.network.named_parameters() if name in plan.init["new"]}
        layers = [layer for layer in layers if new & {id(p) for p in layer.parameters()}]
        if not layers:
            log.info("the last layer begins with trained weights: trainer.class_prior is not used")
    if layers:
        start_from_shares(layers, plan.data.label_counts(), labelling)


def fit(
    plan: Plan,
    folder: Path,
    module: SegmentationModule,
    *,
    rank: Rank,
    history: History,
    callbacks: Sequence[pl.Callback] = (),
) -> pl.Trainer:
    """Trains from the last checkpoint in a run's folder, if there is one.

    Raises:
        ConfigError: `trainer.deterministic` with a layer that no deterministic kernel is for.
        ResourceError: the GPU's memory does not suffice.
    """
    allow_tf32(plan.precision)
    kind, name = plan.training.logger, plan.config["name"]
    trainer = make_trainer(
        plan.training,
        folder=folder,
        precision=plan.precision,
        seed=plan.config["seed"],
        history=history,
        callbacks=callbacks,
        loggers=[] if rank.number else make_loggers(kind, folder, name, plan.config),
        rank=rank,
        validates=plan.data.config.holds_out,
    )
    last = folder / LAST
    checkpoint = last if last.is_file() else None
    with loader_faults(), _device_faults(plan):
        trainer.fit(module, datamodule=plan.data, ckpt_path=checkpoint, weights_only=True)
    return trainer


@contextmanager
def _device_faults(plan: Plan) -> Iterator[None]:
    """Says in words what a device cannot do."""
    data = plan.data.config
    try:
        yield
    except torch.OutOfMemoryError as error:
        patch = "×".join(map(str, data.patch_size))
        raise ResourceError(
            f"the memory of {plan.training.hardware} does not suffice for data.batch_size="
            f"{data.batch_size} patches of {patch}: take fewer, or a smaller data.patch_size; "
            "`medseg plan DATASET --memory GB` finds what fits"
        ) from error
    except TorchDynamoException as error:
        raise ResourceError(
            f"trainer.execution={plan.training.execution}: the network cannot be compiled here "
            f"({' '.join(str(error).split())[:200]}); take trainer.execution=auto"
        ) from error
    except RuntimeError as error:
        if not plan.training.deterministic or "deterministic implementation" not in str(error):
            raise
        what = str(error).partition(" does not")[0]
        raise ConfigError(
            f"trainer.deterministic=true: {what} has no deterministic kernel on "
            f"{plan.training.hardware}; take other blocks, or trainer.deterministic=false"
        ) from error
