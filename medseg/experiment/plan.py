"""A configuration turned into objects, before any data is read."""

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.loss import _Loss

from medseg.analysis.cost import training_call
from medseg.analysis.input_sizes import check_patch
from medseg.analysis.memory import Memory, foreseen_memory, window_bytes
from medseg.build import build
from medseg.data.config import DataConfig
from medseg.data.datamodule import SegmentationDataModule
from medseg.data.splits import Split
from medseg.errors import ConfigError, ResourceError
from medseg.experiment.nodes import node_names
from medseg.experiment.schema import check_config
from medseg.experiment.transfer import start_from
from medseg.formatting import memory
from medseg.hardware import choose_precision, require_precision
from medseg.inference.memory import Shapes, ViewShapes
from medseg.inference.sliding_window import VALIDATION_OVERLAP, band_axis
from medseg.models.description import build_network, describe
from medseg.models.size_limit import TooLargeError, at_most
from medseg.models.unet import MultiscaleNetwork
from medseg.record import data_digest
from medseg.resources import available_memory_bytes, keep_freed_memory, limit_threads
from medseg.training.loggers import require_logger
from medseg.training.loss import make_loss
from medseg.training.ranks import require_shares
from medseg.training.schedule import after_epochs
from medseg.training.trainer import TrainingPlan

log = logging.getLogger(__name__)

_TRIED_EPOCHS = 1000
_BYTES_PER_WEIGHT = 16  # itself, its gradient and an optimiser's two averages
_STATES = 3  # the same without itself
_HEAP = 2.2  # what a process takes of the tensors' sum: freed blocks lie between others (glibc)
_LIBRARIES = 64 << 20  # what they take when a step is first made; both measured in fp32


_MEMORY: dict[str, Memory | None] = {}  # predicted in this process, by what it depends on


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The objects of a run; making them proves that it can be carried out.

    Args:
        config: The resolved configuration that they are made from.
        description: The network as plain data.
        network: The network, with its first weights.
        data: Data module, not set up yet.
        loss: Logits and labels → scalar.
        optimizer: Parameters → optimiser.
        scheduler: Optimiser → schedule.
        training: How long and on what.
        precision: `bf16`, `fp16` or `fp32`.
        deep_supervision: Whether coarser logits are trained as well.
        init: What the record says of the trained weights that it begins with; empty without.
    """

    config: dict[str, Any]
    description: dict[str, Any]
    network: nn.Module
    data: SegmentationDataModule
    loss: _Loss
    optimizer: Any
    scheduler: Any
    training: TrainingPlan
    precision: str
    deep_supervision: bool
    init: dict[str, Any]

    @property
    def predicted_memory_bytes(self) -> int | None:
        """Peak of a training step, weights not included; None if a layer is not known."""
        return self._memory and self._memory.peak

    @property
    def needed_memory_bytes(self) -> int | None:
        """What a training step takes beside the weights: tensors, gradients, loss, averages."""
        if (found := self._memory) is None:
            return None
        labelling = self.data.config.labelling
        described = (self.config["loss"], labelling.regions)
        loss = self._predicted(described, nn.Identity(), labelling.outputs, self._loss_of)
        step = max(found.peak, found.kept + (loss.peak if loss else 0))
        copies = _STATES + (self.training.ema is not None)
        return round(_HEAP * step) + copies * found.gradients + _LIBRARIES

    def require_memory_of_cases(self) -> None:
        """Refuses held-out cases whose scores of all classes do not fit the memory.

        Raises:
            ResourceError: with what is needed and what is free.
        """
        if self.training.hardware.type != "cpu":
            return
        free, data = available_memory_bytes(), self.data.config
        activations = window_bytes(data, bf16=self.precision == "bf16")(self.network)
        for case in self.data.prepared_validation():
            channels, *grid = case.shape
            axis = band_axis(grid, data.patch_size)
            view = ViewShapes(
                grid=grid,
                patch_size=data.patch_size,
                overlap=VALIDATION_OVERLAP,
                channels=channels,
                axis=axis,
            )
            voxels = math.prod(grid)
            shapes = Shapes(
                own=grid,
                across=voxels // grid[axis],
                classes=data.num_classes,
                views=[view],
                images=[voxels],
                maps=1,
            )
            needed = next(shapes.plans([activations])).needed
            if needed > free:
                raise ResourceError(
                    f"{case.case_id}: {data.num_classes} classes on a grid of {grid} need "
                    f"{memory(needed)} when it is scored, {memory(free)} are free; choose a "
                    "coarser data.spacing or a smaller data.patch_size"
                )

    @cached_property
    def _memory(self) -> Memory | None:
        call = training_call(self.network, deep_supervision=self.deep_supervision)
        return self._predicted(self.description, self.network, self.data.config.in_channels, call)

    def _predicted(
        self, described: Any, network: nn.Module, channels: int, call: Any
    ) -> Memory | None:
        data = self.data.config
        depends_on = (described, channels, data.patch_size, data.batch_size, self.precision,
                      self.deep_supervision, torch.get_num_threads())  # fmt: skip
        if (key := repr(depends_on)) not in _MEMORY:
            half, size = self.precision == "bf16", data.patch_size
            options = {"batch": data.batch_size, "training": True, "bf16": half, "run": call}
            _MEMORY[key] = foreseen_memory(network, channels, size, **options)
        return _MEMORY[key]

    def _loss_of(self, _network: nn.Module, logits: Tensor) -> Tensor:
        return self.loss(logits.requires_grad_(), torch.zeros_like(logits[:, :1]))


def make_plan(config: dict[str, Any], *, split: Split | None = None) -> Plan:
    """Seeds the random numbers and builds what a resolved configuration describes.

    Args:
        config: Resolved.
        split: Of a run that goes on from its checkpoint; None: drawn as the configuration says,
            for a run at its beginning.

    Raises:
        ConfigError: something in it is unknown or impossible: value, rule, remedy.
        ResourceError: a device is asked for that is not there.
    """
    keep_freed_memory()
    limit_threads()
    try:
        return _make_plan(config, split)
    except KeyError as error:
        raise ConfigError(
            f"the configuration lacks {error.args[0]}; take the file that a run left as it is"
        ) from error
    except (TypeError, ValueError) as error:
        # a word where a number is meant, say: wherever it is noticed, it is the configuration's
        log.debug("refused", exc_info=True)
        raise ConfigError(f"the configuration cannot be used: {error}") from error


def make_data(config: dict[str, Any], split: Split | None = None) -> SegmentationDataModule:
    """The data module that a resolved configuration describes, not set up yet.

    Raises:
        ConfigError: something in it is unknown or impossible.
    """
    augmentation = config["augmentation"]
    return SegmentationDataModule(
        DataConfig.of(config["data"]),
        augmentation=build(augmentation, "augmentation") if augmentation else None,
        seed=config["seed"],
        split=split,
    )


def data_digests(
    configs: Mapping[str, dict[str, Any]],
) -> tuple[dict[str, str], dict[str, tuple[str, ...]]]:
    """Prepares the data of many runs, given by their resolved configurations, once a dataset.

    Returns:
        Name → digest of the files that the run is trained on, and name → their classes.

    Raises:
        DataError: data that cannot be used.
    """
    known: list[tuple[dict[str, Any], dict[str, str], tuple[str, ...], Sequence[Split]]] = []
    digests, classes = {}, {}
    for name, config in configs.items():
        section = {key: value for key, value in config["data"].items() if key != "fold"}
        own = next((files for files in known if files[0] == section), None)
        if own is None:
            data = make_data(config)
            data.setup()
            names = tuple(data.dataset.classes if data.dataset else ())
            splits: Sequence[Split] = ()
            if data.config.split_file is not None and data.split is not None:
                splits = data.folds or (data.split,)
            own = section, data.case_digests(), names, splits
            known.append(own)
        _, cases, classes[name], splits = own
        fold = config["data"]["fold"] if len(splits) > 1 else 0
        held_out = [case for split in splits[fold : fold + 1] for case in split.validation]
        digests[name] = data_digest(cases, held_out)
    return digests, classes


def _make_plan(config: dict[str, Any], split: Split | None) -> Plan:
    check_config(config)
    description = describe(config["model"])
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    training = TrainingPlan(**config["trainer"])
    require_precision(training.precision, training.hardware)
    require_logger(training.logger)
    _require_devices(training, config["data"]["batch_size"])
    network = _network_with_room(description)
    is_normed = any(isinstance(module, _BatchNorm) for module in network.modules())
    if training.processes > 1 and training.hardware.type == "cpu" and is_normed:
        log.warning("batch norm: on the CPU each process normalises its share of a batch alone")
    # refuses a patch of other dimensions before the network sees it
    data = make_data(config, split)
    if not data.config.holds_out and (training.weights == "best" or training.patience):
        raise ConfigError(
            "trainer.weights=best and trainer.patience choose an epoch by held-out cases, of which "
            "data.validation_fraction=0 leaves none; set trainer.weights=last trainer.patience=null"
        )
    deep_supervision = bool(config["model"].get("deep_supervision", False))
    if deep_supervision and not isinstance(network, MultiscaleNetwork):
        raise ConfigError(
            f"deep_supervision=true, but {type(network).__name__} has no logits on coarser "
            "grids; use model=unet or set deep_supervision=false"
        )
    patch_size = list(data.config.patch_size)
    check_patch(network, data.config.in_channels, patch_size, deep_supervision=deep_supervision)
    loss = make_loss(config["loss"], data.config.labelling)
    optimizer = build(config["optimizer"], "optimizer")
    scheduler = build(config["scheduler"], "scheduler")
    _try_loss(loss, data.config.num_classes, len(patch_size))
    _try_schedule(optimizer, scheduler, training.epochs)
    begins = split is None and config.get("init") is not None
    plan = Plan(
        config=config,
        description=description,
        network=network,
        data=data,
        loss=loss,
        optimizer=optimizer,
        scheduler=scheduler,
        training=training,
        precision=choose_precision(training.precision, network, training.hardware),
        deep_supervision=deep_supervision,
        init=start_from(config, network, data.config) if begins else {},
    )
    _require_memory(plan)
    return plan


def _require_devices(training: TrainingPlan, batch_size: int) -> None:
    """Refuses several processes that cannot share the training."""
    count, hardware = training.devices, training.hardware
    if training.processes == 1:
        return
    require_shares(batch_size, training.processes)
    node_names(training.nodes)
    if training.max_seconds is not None:
        raise ConfigError(
            f"trainer.max_seconds={training.max_seconds} ends the training by the clock of one "
            f"process, and {training.processes} have one each; give trainer.epochs"
        )
    if hardware.type == "cuda" and training.device.startswith("cuda:"):
        raise ConfigError(
            f"trainer.device={training.device} names one GPU of one process, and there are "
            f"{training.processes}; set trainer.device=cuda, and choose with CUDA_VISIBLE_DEVICES"
        )
    if hardware.type == "cuda" and torch.cuda.device_count() < count:
        raise ResourceError(
            f"trainer.devices={count}: {torch.cuda.device_count()} GPUs are here; ask for as many"
        )


def _network_with_room(description: dict[str, Any]) -> nn.Module:
    """Builds a network unless its weights alone exceed the memory."""
    free = available_memory_bytes()
    try:
        with at_most(free // _BYTES_PER_WEIGHT):
            return build_network(description, "model")
    except TooLargeError as error:
        raise ConfigError(f"model: {error}, as {memory(free)} of memory are free") from error


def _require_memory(plan: Plan) -> None:
    """Refuses a training step that cannot fit the memory, where it is the machine's own."""
    needed, free = plan.needed_memory_bytes, available_memory_bytes()
    if plan.training.hardware.type == "cpu" and needed is not None and needed > free:
        data = plan.data.config
        raise ResourceError(
            f"data.patch_size={list(data.patch_size)} and data.batch_size={data.batch_size} need "
            f"{memory(needed)} in training, {memory(free)} are free; choose smaller ones"
        )


def _try_loss(loss: Any, classes: int, dims: int) -> None:
    """Computes the loss of a few voxels: it must be one finite number with a gradient."""
    size = (4,) * dims
    logits = torch.zeros((2, classes, *size), requires_grad=True)
    labels = torch.ones((2, 1, *size))
    try:
        value = loss(logits, labels)
        value.backward()
    except Exception as error:  # whatever MONAI answers
        raise ConfigError(f"loss: {_first_line(error)}; compare configs/loss") from error
    if not bool(value.isfinite()):
        raise ConfigError(f"loss: is {float(value)} on plain logits; correct its numbers")


def _try_schedule(optimizer: Any, scheduler: Any, epochs: int) -> None:
    """Goes through the schedule: both check their numbers when they are made or used."""
    try:
        after_epochs(optimizer, scheduler, min(epochs, _TRIED_EPOCHS))
    except Exception as error:
        text = f"optimizer or scheduler: {_first_line(error)}; compare configs/scheduler"
        raise ConfigError(text) from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
