"""An audit: everything that follows from a network alone, before it is trained."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
from torch import nn

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
from medseg.checkerboard import upsampling_rows
from medseg.errors import ConfigError

_LONGEST_TEXT = 80
_NUMBERS = ["parameters", "macs", "other", "bytes_moved"]
_COLUMNS = ["layer", "operator", "output", *_NUMBERS, "extent", "unknown"]


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
class Audit:
    """What a network costs, which images it accepts and what it depends on.

    Args:
        subject: What was audited; costs are those of one image.
        logits: Shape of the logits, without the batch.
        parameters: Trainable parameters.
        layers: A row per layer, with what it does itself and not through layers inside it: its
            path, operator, output shape (empty if it has several), `Cost` (bytes are those in
            fp32) and the largest extent of the receptive field along each axis (None where that
            is the whole image or not known).
        memory: `inference` and `training`, each in `fp32` and `bf16`.
        valid_sizes: Valid input sizes along each axis.
        field: Receptive field along each axis, far from every border.
        gridding: Stages whose dilated convolutions skip voxels, in words.
        upsamplings: A row per upsampling layer, see `upsampling_rows_of`.
    """

    subject: Subject
    logits: tuple[int, ...]
    parameters: int
    layers: pd.DataFrame
    memory: dict[str, dict[str, Memory]]
    valid_sizes: tuple[SizeRule | None, ...]
    field: tuple[AxisField | None, ...]
    gridding: list[str]
    upsamplings: list[dict[str, Any]]

    @property
    def total(self) -> Cost:
        """Cost of one image; bytes are those in fp32."""
        sums: dict[str, Any] = {name: sum(self.layers[name].to_list()) for name in _NUMBERS}
        return Cost(**sums)

    @property
    def unknown(self) -> list[tuple[str, str]]:
        """Layer and operation of whatever is in none of the numbers."""
        rows = self.layers.to_dict("records")
        return [(row["layer"], name) for row in rows for name in row["unknown"]]

    def plain(self) -> dict[str, Any]:
        """As a plain dict."""
        subject = {
            name: getattr(self.subject, name)
            for name in ("name", "in_channels", "patch_size", "batch", "spacing")
        }
        total = self.total
        return subject | {
            "logits": self.logits,
            "parameters": self.parameters,
            "totals": {"macs": total.macs, "other": total.other, "bytes_moved": total.bytes_moved},
            "layers": self.layers.to_dict("records"),
            "memory": {
                use: {precision: asdict(memory) for precision, memory in found.items()}
                for use, found in self.memory.items()
            },
            "valid_sizes": [rule and asdict(rule) for rule in self.valid_sizes],
            "field": [field and asdict(field) for field in self.field],
            "gridding": self.gridding,
            "upsamplings": self.upsamplings,
            "unknown": self.unknown,
        }


def audit(subject: Subject) -> Audit:
    """Audits a network without running it; see `Audit`.

    Raises:
        ConfigError: the patch does not pass; the message names the layer and a valid size.
    """
    network, channels, size = subject.network, subject.in_channels, subject.patch_size
    traced = _traced(subject)
    roomy = [roomy_trace(network, channels, size, axis) for axis in range(len(size))]
    return Audit(
        subject=subject,
        logits=traced.logits.shape[1:],
        parameters=count_parameters(network),
        layers=layer_table(network, traced, roomy),
        memory=memory_of(subject),
        valid_sizes=valid_sizes(network, channels, size),
        field=tuple(field_along(long, axis) for axis, long in enumerate(roomy)),
        gridding=gridding_warnings(network),
        upsamplings=upsampling_rows_of(network, traced),
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


def memory_of(subject: Subject) -> dict[str, dict[str, Memory]]:
    """Predicted memory of `inference` and `training`, each in `fp32` and `bf16`."""
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


def layer_table(network: nn.Module, traced: Trace, roomy: Sequence[Trace]) -> pd.DataFrame:
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
        row: dict[str, Any] = {"layer": layer, "operator": _text(module)}
        row["output"] = made[0].shape[1:] if len(made) == 1 else ()
        extent = tuple(_extent(long, axis, layer) for axis, long in enumerate(roomy))
        rows.append(row | asdict(cost) | {"extent": extent})
    return pd.DataFrame(rows, columns=_COLUMNS)


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


def upsampling_rows_of(network: nn.Module, traced: Trace) -> list[dict[str, Any]]:
    """Layer, operator and DC-gain imbalance (0 flat, 1 worst) of every upsampling.

    First those whose DC gains can be read, then others that make a finer grid, with None.
    """
    measured = {
        row.layer: (row.operator, row.values["dc_gain"])
        for row in upsampling_rows(network, only=["dc_gain"])
        if row.values["dc_gain"] is not None
    }
    finer = {call.layer: call.module for call in traced.calls if _refines(call)}
    others = {
        layer: (type(module).__name__, None)
        for layer, module in finer.items()
        if not any(_is_inside(layer, known) or _is_inside(known, layer) for known in measured)
        and not any(other != layer and _is_inside(other, layer) for other in finer)
    }
    return [
        {"layer": layer, "operator": operator, "imbalance": imbalance}
        for layer, (operator, imbalance) in (measured | others).items()
    ]


def _refines(call: Call) -> bool:
    if not call.layer or len(call.inputs) == 0 or len(call.outputs) != 1:
        return False
    coarse, fine = call.inputs[0].shape, call.outputs[0].shape
    if len(coarse) != len(fine) or len(coarse) < 3:
        return False
    return fine[2:] != coarse[2:] and all(
        n % m == 0 for n, m in zip(fine[2:], coarse[2:], strict=True)
    )


def _is_inside(layer: str, whole: str) -> bool:
    return layer == whole or layer.startswith(f"{whole}.")
