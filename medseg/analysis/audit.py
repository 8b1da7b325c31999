"""An audit: everything that follows from a network alone, before it is trained.

Any `torch.nn.Module` from an image to logits can be audited:

    from medseg.analysis.audit import audit
    from medseg.analysis.audit_document import markdown

    print(markdown(audit(module, (1, 1, 96, 96, 96))))

What cannot be known is named with the reason, and takes nothing else with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

import pandas as pd
from torch import nn

from medseg.analysis.cost import Cost, count_parameters, training_call
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.input_sizes import SizeRule, next_valid_size, valid_sizes
from medseg.analysis.layer_table import COLUMNS, NUMBERS, layer_table, upsampling_rows_of
from medseg.analysis.memory import Memory, predicted_memory
from medseg.analysis.receptive_field import (
    AxisField,
    Ends,
    ends_here,
    far_field,
    field_along,
    is_clipped,
    largest_extents,
    stride,
    unfollowed,
)
from medseg.analysis.trace import Trace, first_line, time_limit, trace
from medseg.errors import ConfigError

_SECONDS = 60.0
_LONGEST_SPAN = 1024  # voxels of an image's middle where it is not known what repeats
VALID_SIZES = "valid input sizes"
OTHER_IMAGES = "what it does with other images"
THROUGH = "receptive field through "
INSIDE = "memory inside "
_LOWER_BOUND = "what this operation takes while it computes is not counted; peaks are lower bounds"
_NOT_FOLLOWED = (
    "it is not known which values this operation reads; each counts as reading all of them, and a "
    "receptive field through it is an upper bound"
)

Found = TypeVar("Found")


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
        memory: `inference` and `training`, each in `fp32` and `bf16`, where they are known.
        valid_sizes: Valid input sizes along each axis.
        field: Receptive field along each axis, far from every border; None where it is the whole
            image at any size, or not known.
        field_here: The smallest and the largest extent of an output voxel's receptive field along
            each axis, in this image, whose borders cut it.
        gridding: Stages whose dilated convolutions skip voxels, in words.
        upsamplings: A row per upsampling layer, see `upsampling_rows_of`.
        not_known: What could not be known → why.
    """

    subject: Subject
    logits: tuple[int, ...]
    parameters: int
    layers: pd.DataFrame
    memory: dict[str, dict[str, Memory]]
    valid_sizes: tuple[SizeRule | None, ...]
    field: tuple[AxisField | None, ...]
    field_here: tuple[tuple[int, int] | None, ...]
    gridding: list[str]
    upsamplings: list[dict[str, Any]]
    not_known: dict[str, str]

    @property
    def total(self) -> Cost:
        """Cost of one image; bytes are those in fp32."""
        sums: dict[str, Any] = {name: sum(self.layers[name].to_list()) for name in NUMBERS}
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
            "field_here": self.field_here,
            "gridding": self.gridding,
            "upsamplings": self.upsamplings,
            "unknown": self.unknown,
            "not_known": self.not_known,
        }


@dataclass(frozen=True)
class _Parts:
    """Finds one part after another, each within a time; a failure is noted and ends no other."""

    seconds: float
    not_known: dict[str, str] = field(default_factory=dict)

    def find(self, name: str, part: Callable[[], Found]) -> Found | None:
        """The part; None if it cannot be known."""
        try:
            with time_limit(self.seconds):
                return part()
        except TimeoutError:
            self.not_known[name] = f"not found within {self.seconds:g} s"
        except Exception as error:  # whatever a foreign module raises
            self.not_known[name] = first_line(error)
        return None


class _Far(NamedTuple):
    """A field far from every border, and the image in which it was found."""

    trace: Trace
    field: AxisField | None


def audit(
    network: nn.Module,
    input_shape: Sequence[int],
    *,
    name: str | None = None,
    spacing: tuple[float, ...] | None = None,
    deep_supervision: bool = False,
    seconds: float = _SECONDS,
) -> Audit:
    """Audits a network; see `Audit`. It runs only if it asks for values, as by `if x.mean() > 0`.

    Args:
        network: Image → logits; left as it was.
        input_shape: Of a batch, `(N, channels, *S)`; memory is that of the batch.
        name: For the reader; None: the class.
        spacing: mm per voxel along each axis; None if it is not known.
        deep_supervision: Whether training asks for logits on coarser grids too.
        seconds: Allowed for each part, such as the receptive field along one axis.

    Raises:
        ConfigError: the patch does not pass; the message names the layer and a valid size.
    """
    batch, channels, *size = input_shape
    subject = Subject(
        name=name or type(network).__name__,
        network=network,
        in_channels=channels,
        patch_size=tuple(size),
        spacing=spacing,
        batch=batch,
        deep_supervision=deep_supervision,
    )
    parts, axes = _Parts(seconds), range(len(size))
    traced, on_noise = _traced(subject, parts)
    at = partial(trace, network, channels)
    for step in unfollowed(traced):
        named = f"{step.operator} of {step.layer or 'the network itself'}"
        parts.not_known[THROUGH + named] = _NOT_FOLLOWED
    ends = [
        parts.find(f"receptive field in this image, axis {axis}", partial(ends_here, traced, axis))
        for axis in axes
    ]
    far = [
        parts.find(far_from_borders(axis), partial(_far, at, size, axis, ends[axis]))
        if not on_noise
        else None
        for axis in axes
    ]
    layers = layer_table(network, traced)
    extents: list[dict[str, int | None]] = [{} for _ in axes]
    for axis, found in enumerate(far):
        if found is not None:
            fill = partial(_fill_extents, extents[axis], found, axis, layers["layer"].to_list())
            parts.find(layer_fields(axis), fill)
    layers["extent"] = [tuple(e.get(layer) for e in extents) for layer in layers["layer"]]
    sizes = (
        None if on_noise else parts.find(VALID_SIZES, partial(valid_sizes, network, channels, size))
    )
    return Audit(
        subject=subject,
        logits=traced.logits.shape[1:],
        parameters=count_parameters(network),
        layers=layers.reindex(columns=COLUMNS),
        memory=memory_of(subject, parts),
        valid_sizes=sizes or (None,) * len(size),
        field=tuple(found and found.field for found in far),
        field_here=tuple(
            None if end is None else (int(end.extents.min()), int(end.extents.max()))
            for end in ends
        ),
        gridding=parts.find("gridding", partial(gridding_warnings, network)) or [],
        upsamplings=parts.find("checkerboard", partial(upsampling_rows_of, network, traced)) or [],
        not_known=parts.not_known,
    )


def far_from_borders(axis: int) -> str:
    """What `Audit.not_known` calls the receptive field along an axis."""
    return f"receptive field, axis {axis}"


def layer_fields(axis: int) -> str:
    """What `Audit.not_known` calls the receptive fields of layers along an axis."""
    return f"receptive fields of some layers, axis {axis}"


def _traced(subject: Subject, parts: _Parts) -> tuple[Trace, bool]:
    """The trace of the patch, and whether the network had to run for it."""
    network, channels, size = subject.network, subject.in_channels, subject.patch_size
    try:
        return trace(network, channels, size), False
    except ConfigError as abstract:
        try:
            traced = trace(network, channels, size, on_noise=True)
        except ConfigError as error:
            fitting = next_valid_size(network, channels, size)
            if fitting is None or fitting == tuple(size):
                raise
            raise ConfigError(f"{error}; choose for instance {list(fitting)}") from error
        parts.not_known[OTHER_IMAGES] = f"it was run on noise, since it needs values ({abstract})"
        return traced, True


def _far(
    at: Callable[[Sequence[int]], Trace], size: Sequence[int], axis: int, here: Ends | None
) -> _Far:
    """The field that is a property of the network alone.

    Raises:
        ConfigError: no longer image passes, or the field depends on the image's size.
    """
    traced, found = far_field(at, size, axis)
    if found is not None and (here is None or not is_clipped(found, here)):
        longer = list(traced.image.shape[2:])
        longer[axis] *= 2
        other = field_along(at(longer), axis)
        extents = [one and (one.smallest, one.largest) for one in (found, other)]
        if extents[0] != extents[1]:
            raise ConfigError(
                f"it depends on the image's size: up to {found.largest} of {longer[axis] // 2} "
                f"voxels, {'all' if other is None else f'up to {other.largest}'} of {longer[axis]}"
            )
    return _Far(traced, found)


def memory_of(subject: Subject, parts: _Parts | None = None) -> dict[str, dict[str, Memory]]:
    """Predicted memory of `inference` and `training`, each in `fp32` and `bf16`, where known."""
    parts = parts or _Parts(_SECONDS)
    found: dict[str, dict[str, Memory]] = {"inference": {}, "training": {}}
    for use, precisions in found.items():
        for precision in ("fp32", "bf16"):
            predicted = partial(
                predicted_memory,
                subject.network,
                subject.in_channels,
                subject.patch_size,
                batch=subject.batch,
                training=use == "training",
                bf16=precision == "bf16",
                run=subject.call(training=use == "training"),
            )
            memory = parts.find(f"memory, {use} in {precision}", predicted)
            if memory is not None:
                precisions[precision] = memory
                parts.not_known.update({INSIDE + name: _LOWER_BOUND for name in memory.unseen})
    return found


def _span(far: _Far, axis: int) -> int:
    """Image voxels after which all layers' fields repeat, as far as it is known."""
    step = min(stride(far.trace, axis), _LONGEST_SPAN)
    if far.field is None or far.field.period is None:
        return step
    inputs, outputs = far.trace.image.shape[2 + axis], far.trace.logits.shape[2 + axis]
    return max(step, round(far.field.period * inputs / outputs))


def _fill_extents(
    extents: dict[str, int | None], far: _Far, axis: int, layers: Sequence[str]
) -> None:
    """Finds the largest extent of each layer's field, one after another, as far as time allows."""
    outputs = {call.layer: call.outputs for call in far.trace.calls}
    rank = len(far.trace.image.shape)
    made = {layer: outputs.get(layer, ()) for layer in layers}
    values = {
        layer: out[0] for layer, out in made.items() if len(out) == 1 and len(out[0].shape) == rank
    }
    found = largest_extents(far.trace, axis, list(values.values()), _span(far, axis))
    for layer, extent in zip(values, found, strict=True):
        extents[layer] = extent
