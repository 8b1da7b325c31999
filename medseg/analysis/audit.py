"""An audit: everything that follows from a network alone, before it is trained."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from medseg import checkerboard
from medseg.analysis.cost import Cost, cost_of, count_parameters, training_call
from medseg.analysis.input_sizes import SizeRule, next_valid_size, valid_sizes
from medseg.analysis.memory import Memory, predicted_memory
from medseg.analysis.receptive_field import (
    AxisField,
    field_along,
    gridding_warnings,
    roomy_trace,
)
from medseg.analysis.trace import Call, Trace, trace
from medseg.errors import ConfigError

_LONGEST_TEXT = 80


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

    def call(self, *, training: bool) -> Callable[[nn.Module, Any], Any]:
        """What is called on network and image; training may ask for coarser logits too."""
        return training_call(self.network, deep_supervision=training and self.deep_supervision)


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer, with what it does itself and not through layers inside it.

    Args:
        layer: Path in the network; empty for what the network does itself.
        operator: Class and options.
        output: Shape of its output, without the batch; empty if it has several.
        cost: Of the layer; its parameters are the trainable ones, bytes are those in fp32.
        extent: Voxels of the receptive field of its outputs along each axis, of the phase where
            it is largest; None along an axis where it is the whole image or not known.
    """

    layer: str
    operator: str
    output: tuple[int, ...]
    cost: Cost
    extent: tuple[int | None, ...]

    def plain(self) -> dict[str, Any]:
        """As one flat dict."""
        cost = dataclasses.asdict(self.cost)
        unknown = cost.pop("unknown")
        own = {"layer": self.layer, "operator": self.operator, "output": self.output}
        return own | cost | {"extent": self.extent, "unknown": unknown}


@dataclass(frozen=True, kw_only=True)
class UpsamplingRow:
    """One upsampling layer.

    Args:
        layer: Path in the network.
        operator: Class and options.
        imbalance: DC-gain imbalance (0 flat, 1 worst); None where it is not measured.
    """

    layer: str
    operator: str
    imbalance: float | None


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What a network costs, which images it accepts and what it depends on.

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
        valid_sizes: Valid input sizes along each axis.
        field: Receptive field along each axis, far from every border.
        gridding: Stages whose dilated convolutions skip voxels, in words.
        upsamplings: DC-gain imbalance of every upsampling layer.
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
    valid_sizes: tuple[SizeRule | None, ...]
    field: tuple[AxisField | None, ...]
    gridding: list[str]
    upsamplings: list[UpsamplingRow]

    @property
    def total(self) -> Cost:
        """Cost of one image; bytes are those in fp32."""
        return sum((row.cost for row in self.layers), Cost())

    @property
    def unknown(self) -> list[tuple[str, str]]:
        """Layer and operation of whatever is in none of the numbers."""
        return [(row.layer, operation) for row in self.layers for operation in row.cost.unknown]

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        total = self.total
        totals = {"macs": total.macs, "other": total.other, "bytes_moved": total.bytes_moved}
        layers = [row.plain() for row in self.layers]
        own = dataclasses.asdict(self) | {"layers": layers}
        return own | {"totals": totals, "unknown": self.unknown}


def audit(subject: Subject) -> Audit:
    """Audits a network without running it; see `Audit`.

    Raises:
        ConfigError: the patch does not pass; the message names the layer and a valid size.
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
        parameters=count_parameters(network),
        layers=layer_rows(network, traced, roomy),
        memory=_memory(subject),
        valid_sizes=valid_sizes(network, channels, size),
        field=tuple(field_along(long, axis) for axis, long in enumerate(roomy)),
        gridding=gridding_warnings(network),
        upsamplings=upsampling_rows(network, traced),
    )


def _traced(subject: Subject) -> Trace:
    network, channels, size = subject.network, subject.in_channels, subject.patch_size
    try:
        return trace(network, channels, size)
    except ConfigError as error:
        fitting = next_valid_size(network, channels, size)
        if fitting is None or fitting == tuple(size):
            raise
        raise ConfigError(f"{error}; choose for instance {list(fitting)}") from error


def _memory(subject: Subject) -> dict[str, dict[str, Memory]]:
    return {
        use: {
            precision: predicted_memory(
                subject.network,
                subject.in_channels,
                subject.patch_size,
                batch=subject.batch,
                training=use == "training",
                bf16=precision == "bf16",
                run=subject.call(training=use == "training"),
            )
            for precision in ("fp32", "bf16")
        }
        for use in ("inference", "training")
    }


def layer_rows(network: nn.Module, traced: Trace, roomy: Sequence[Trace]) -> list[LayerRow]:
    """A row for every layer that calculates something or has weights, in the order of the trace.

    Args:
        network: That was traced.
        traced: At the size whose cost is asked for.
        roomy: For each axis, at a size beyond the receptive field along it.
    """
    costs: dict[str, Cost] = {}
    for step in traced.steps:
        costs[step.layer] = costs.get(step.layer, Cost()) + cost_of(step)
    outputs = {call.layer: call.outputs for call in traced.calls}
    counted: set[int] = set()
    rows = []
    for layer, steps_cost in costs.items():
        module = network.get_submodule(layer)
        cost = steps_cost + Cost(parameters=_own_parameters(module, counted))
        if cost == Cost():
            continue
        made = outputs.get(layer, ())
        rows.append(
            LayerRow(
                layer=layer,
                operator=_text(module),
                output=made[0].shape[1:] if len(made) == 1 else (),
                cost=cost,
                extent=tuple(_extent(long, axis, layer) for axis, long in enumerate(roomy)),
            )
        )
    return rows


def _own_parameters(module: nn.Module, counted: set[int]) -> int:
    """Those that no layer before has, since a network may use a tensor twice."""
    own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in counted]
    counted.update(id(p) for p in own)
    return sum(p.numel() for p in own)


def _text(module: nn.Module) -> str:
    name, options = type(module).__name__, module.extra_repr()
    text = f"{name}({options})" if options and not list(module.children()) else name
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


def _extent(traced: Trace, axis: int, layer: str) -> int | None:
    outputs = next((c.outputs for c in reversed(traced.calls) if c.layer == layer), ())
    if len(outputs) != 1 or len(outputs[0].shape) != len(traced.image.shape):
        return None
    field = field_along(traced, axis, outputs[0])
    return field.largest if field else None


def upsampling_rows(network: nn.Module, traced: Trace) -> list[UpsamplingRow]:
    """A row for every layer whose DC gains can be read, and for every other that upsamples."""
    known = [
        UpsamplingRow(layer=row.layer, operator=row.operator, imbalance=row.values["dc_gain"])
        for row in checkerboard.upsampling_rows(network, only=["dc_gain"])
        if row.values["dc_gain"] is not None
    ]
    measured = [row.layer for row in known]
    finer = [call for call in traced.calls if _refines(call)]
    others = [
        UpsamplingRow(layer=call.layer, operator=type(call.module).__name__, imbalance=None)
        for call in finer
        if not _is_part_or_whole(call.layer, measured)
        and not any(other.layer.startswith(f"{call.layer}.") for other in finer)
    ]
    return known + others


def _refines(call: Call) -> bool:
    if not call.layer or len(call.inputs) == 0 or len(call.outputs) != 1:
        return False
    coarse, fine = call.inputs[0].shape, call.outputs[0].shape
    if len(coarse) != len(fine) or len(coarse) < 3:
        return False
    return fine[2:] != coarse[2:] and all(
        n % m == 0 for n, m in zip(fine[2:], coarse[2:], strict=True)
    )


def _is_part_or_whole(layer: str, measured: list[str]) -> bool:
    return any(
        layer == known or layer.startswith(f"{known}.") or known.startswith(f"{layer}.")
        for known in measured
    )
