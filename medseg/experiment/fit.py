"""The training of a plan's network, as each of a run's processes does it."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from medseg.data.datamodule import loader_faults
from medseg.experiment.plan import Plan
from medseg.labelling import Labelling
from medseg.training.callbacks import History
from medseg.training.head import last_layers, start_from_shares
from medseg.training.loggers import make_loggers
from medseg.training.module import SegmentationModule
from medseg.training.ranks import Rank
from medseg.training.trainer import LAST, make_trainer

log = logging.getLogger(__name__)


def module_of(plan: Plan, description: Mapping[str, Any] | None = None) -> SegmentationModule:
    """The optimisation of a plan's network, whose data are set up.

    With `trainer.class_prior` a last layer that was not trained starts from the classes' shares.

    Args:
        plan: The plan.
        description: Plain data that checkpoints keep.
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
    """Trains from the last checkpoint in a run's folder, if there is one."""
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
    )
    last = folder / LAST
    checkpoint = last if last.is_file() else None
    with loader_faults():
        trainer.fit(module, datamodule=plan.data, ckpt_path=checkpoint, weights_only=True)
    return trainer
