"""A configuration turned into objects, before any data is read."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.loss import _Loss

from medseg.analysis.cost import training_call
from medseg.analysis.input_sizes import check_patch
from medseg.analysis.memory import predicted_memory
from medseg.build import build
from medseg.data.config import DataConfig
from medseg.data.datamodule import SegmentationDataModule
from medseg.data.splits import Split
from medseg.errors import ConfigError
from medseg.experiment.transfer import start_from
from medseg.hardware import choose_precision, keep_freed_memory, limit_threads
from medseg.models.description import build_network, describe
from medseg.models.unet import MultiscaleNetwork
from medseg.record import data_digest
from medseg.training.loss import make_loss
from medseg.training.trainer import TrainingPlan

log = logging.getLogger(__name__)


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

    def predicted_memory_bytes(self) -> int | None:
        """Peak of a training step, weights not included; None if a layer is not known."""
        data = self.data.config
        try:
            return predicted_memory(
                self.network,
                data.in_channels,
                data.patch_size,
                batch=data.batch_size,
                training=True,
                bf16=self.precision == "bf16",
                run=training_call(self.network, deep_supervision=self.deep_supervision),
            ).peak
        except (ConfigError, RuntimeError, NotImplementedError) as error:
            log.debug("memory was not predicted: %s", error)
            return None


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
    except (TypeError, ValueError, KeyError) as error:
        # a word where a number is meant, say: wherever it is noticed, it is the configuration's
        log.debug("refused", exc_info=True)
        raise ConfigError(f"the configuration cannot be used: {error}") from error


def make_data(config: dict[str, Any], split: Split | None = None) -> SegmentationDataModule:
    """The data module that a resolved configuration describes, not set up yet.

    Args:
        config: Resolved.
        split: To be used instead of the one that the configuration describes.

    Raises:
        ConfigError: something in it is unknown or impossible.
    """
    augmentation = config["augmentation"]
    return SegmentationDataModule(
        DataConfig.of(config["data"]),
        augmentation=build(augmentation) if augmentation else None,
        seed=config["seed"],
        split=split,
    )


def data_digests(configs: Mapping[str, dict[str, Any]]) -> dict[str, str]:
    """Prepares the data of many runs, of each dataset once.

    Args:
        configs: Resolved configurations, by a name.

    Returns:
        Name → digest of the files that the run is trained on.

    Raises:
        DataError: data that cannot be used.
    """
    known: list[tuple[dict[str, Any], str]] = []
    found = {}
    for name, config in configs.items():
        section = {key: value for key, value in config["data"].items() if key != "fold"}
        own = next((files for data, files in known if data == section), None)
        if own is None:
            data = make_data(config)
            data.setup()
            by_file = data.config.split_file is not None
            held_out = data.split.validation if by_file and data.split else ()
            own = data_digest(data.case_digests(), held_out)
            known.append((section, own))
        found[name] = own
    return found


def _make_plan(config: dict[str, Any], split: Split | None) -> Plan:
    _check_numbers(config)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    training = TrainingPlan(**config["trainer"])
    description = describe(config["model"])
    network = build_network(description)
    # refuses a patch of other dimensions before the network sees it
    data = make_data(config, split)
    deep_supervision = bool(config["model"].get("deep_supervision", False))
    if deep_supervision and not isinstance(network, MultiscaleNetwork):
        raise ConfigError(
            f"deep_supervision=true, but {type(network).__name__} has no logits on coarser "
            "grids; use model=unet or set deep_supervision=false"
        )
    patch_size = list(data.config.patch_size)
    check_patch(network, data.config.in_channels, patch_size, deep_supervision=deep_supervision)
    optimizer, scheduler = build(config["optimizer"]), build(config["scheduler"])
    scheduler(optimizer(network.parameters()))  # both check their numbers when they are made
    begins = split is None and config.get("init") is not None
    return Plan(
        config=config,
        description=description,
        network=network,
        data=data,
        loss=make_loss(config["loss"], data.config.num_classes),
        optimizer=optimizer,
        scheduler=scheduler,
        training=training,
        precision=choose_precision(training.precision, network, training.hardware),
        deep_supervision=deep_supervision,
        init=start_from(config, network, data.config) if begins else {},
    )


def _check_numbers(config: dict[str, Any]) -> None:
    """Checks the numbers that belong to no part which checks its own."""
    pictures, artifacts = config["pictures"], config["artifacts"]
    tolerance, cases = config["surface_tolerance_mm"], artifacts["cases"]
    least = {
        "seed": (config["seed"], 0),
        "pictures.cases": (pictures["cases"], 0),
        "pictures.every_epochs": (pictures["every_epochs"], 1),
        "artifacts.shifts": (artifacts["shifts"], 2),
        "artifacts.cases": (0 if cases is None else cases, 0),
    }
    for key, (value, lowest) in least.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
            raise ConfigError(f"{key}={value!r} must be a whole number of at least {lowest}")
    if isinstance(tolerance, bool) or not isinstance(tolerance, int | float) or tolerance <= 0:
        raise ConfigError(f"surface_tolerance_mm={tolerance!r} must be a positive number of mm")
