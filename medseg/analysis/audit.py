"""Know what you train before you train it: everything that follows from a network alone."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from medseg.analysis.audit_layers import LayerRow, layer_rows
from medseg.analysis.cost import training_call
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.legal_sizes import SizeRule, legal_sizes, nearest_legal_size
from medseg.analysis.memory import Memory, predicted_memory
from medseg.analysis.receptive_field import AxisField, field_along, roomy_trace
from medseg.analysis.trace import Trace, trace
from medseg.analysis.upsamplings import UpsamplingRow, upsampling_rows
from medseg.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is audited.

    Args:
        name: Of the network, for the reader.
        network: Image → logits.
        in_channels: Channels of the image.
        patch_size: Of the image, in voxels.
        spacing: mm per voxel along each axis; None if it is not known.
        batch: Images at once.
        deep_supervision: Whether training asks for logits on coarser grids too.
    """

    name: str
    network: nn.Module
    in_channels: int
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    batch: int = 1
    deep_supervision: bool = False


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a network costs, needs and sees.

    Args:
        name: Of the network.
        in_channels: Channels of the image.
        patch_size: Of the image, in voxels; costs are those of one such image.
        logits: Shape of the logits, without the batch.
        batch: Images at once, for memory.
        spacing: mm per voxel along each axis, or None.
        parameters: Trainable parameters.
        layers: Row by row.
        memory: `inference` and `training`, each in `fp32` and `bf16`.
        legal: Legal sizes along each axis.
        field: Receptive field along each axis, far from every border.
        gridding: Stages whose dilated convolutions skip voxels, in words.
        upsamplings: What every upsampling layer makes of a constant.
    """

    name: str
    in_channels: int
    patch_size: tuple[int, ...]
    logits: tuple[int, ...]
    batch: int
    spacing: tuple[float, ...] | None
    parameters: int
    layers: list[LayerRow]
    memory: dict[str, dict[str, Memory]]
    legal: tuple[SizeRule | None, ...]
    field: tuple[AxisField | None, ...]
    gridding: list[str]
    upsamplings: list[UpsamplingRow]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(row.macs for row in self.layers)

    @property
    def other(self) -> int:
        """Other operations of one image."""
        return sum(row.other for row in self.layers)

    @property
    def bytes_moved(self) -> int:
        """Bytes read and written for one image in fp32."""
        return sum(row.bytes_moved for row in self.layers)

    @property
    def unknown(self) -> list[tuple[str, str]]:
        """Layer and operation of whatever is in none of the numbers."""
        return [(row.layer, operation) for row in self.layers for operation in row.unknown]

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        totals = {"macs": self.macs, "other": self.other, "bytes_moved": self.bytes_moved}
        return dataclasses.asdict(self) | {"totals": totals, "unknown": self.unknown}


def audit(subject: Subject) -> Audit:
    """Audits a network without running it; see `Audit`.

    Raises:
        ConfigError: the patch does not pass; the message names the layer and a size that would.
    """
    network, channels, size = subject.network, subject.in_channels, subject.patch_size
    traced = _traced(subject)
    roomy = [roomy_trace(network, channels, size, axis) for axis in range(len(size))]
    return Audit(
        name=subject.name,
        in_channels=channels,
        patch_size=size,
        logits=traced.logits.shape[1:],
        batch=subject.batch,
        spacing=subject.spacing,
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        layers=layer_rows(network, traced, roomy),
        memory=_memory(subject),
        legal=legal_sizes(network, channels, size),
        field=tuple(field_along(long, axis) for axis, long in enumerate(roomy)),
        gridding=gridding_warnings(network),
        upsamplings=upsampling_rows(network, traced),
    )


def _traced(subject: Subject) -> Trace:
    network, channels, size = subject.network, subject.in_channels, subject.patch_size
    try:
        return trace(network, channels, size)
    except ConfigError as error:
        fitting = nearest_legal_size(network, channels, size)
        if fitting is None or fitting == tuple(size):
            raise
        raise ConfigError(f"{error}; choose for instance {list(fitting)}") from error


def _memory(subject: Subject) -> dict[str, dict[str, Memory]]:
    return {
        use: {
            precision: _memory_of(subject, training=use == "training", bf16=precision == "bf16")
            for precision in ("fp32", "bf16")
        }
        for use in ("inference", "training")
    }


def _memory_of(subject: Subject, *, training: bool, bf16: bool) -> Memory:
    return predicted_memory(
        subject.network,
        subject.in_channels,
        subject.patch_size,
        batch=subject.batch,
        training=training,
        bf16=bf16,
        run=what_runs(subject, training=training),
    )


def what_runs(subject: Subject, *, training: bool) -> Callable[[nn.Module, Any], Any]:
    """What is called on network and image: with deep supervision, training asks for more."""
    several = training and subject.deep_supervision
    return training_call(subject.network, deep_supervision=several)
