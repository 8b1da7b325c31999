"""What every layer of a network costs and sees."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from medseg.analysis.counts import Cost, cost_of
from medseg.analysis.receptive_field import field_along
from medseg.analysis.trace import Trace

_LONGEST_TEXT = 80


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer, with what it does itself and not through layers inside it.

    Args:
        layer: Path in the network; empty for what the network does itself.
        operator: Class and options.
        output: Shape of what it gives, without the batch; empty if it gives several tensors.
        parameters: Its own trainable parameters.
        macs: Multiply-accumulates of convolutions and matrix products.
        other: Operations of everything else.
        bytes_moved: Read and written, in fp32.
        extent: Voxels that one of its output voxels sees along each axis, the phase that sees
            most; None along an axis where it sees the whole image, or where this is not known.
        unknown: Operations whose cost is not known and in none of the numbers.
    """

    layer: str
    operator: str
    output: tuple[int, ...]
    parameters: int
    macs: int
    other: int
    bytes_moved: int
    extent: tuple[int | None, ...]
    unknown: tuple[str, ...]


def layer_rows(network: nn.Module, traced: Trace, roomy: Sequence[Trace]) -> list[LayerRow]:
    """A row for every layer that calculates something or has weights, in the order of the trace.

    Args:
        network: That was traced.
        traced: At the size whose cost is asked for.
        roomy: For each axis, at a size beyond what the network sees along it.
    """
    costs: dict[str, Cost] = {}
    for step in traced.steps:
        costs[step.layer] = costs.get(step.layer, Cost()) + cost_of(step)
    outputs = {call.layer: call.outputs for call in traced.calls}
    counted: set[int] = set()
    rows = []
    for layer, cost in costs.items():
        module = network.get_submodule(layer)
        parameters = _own_parameters(module, counted)
        if not (parameters or cost.macs or cost.other or cost.bytes_moved or cost.unknown):
            continue
        given = outputs.get(layer, ())
        rows.append(
            LayerRow(
                layer=layer,
                operator=_text(module),
                output=given[0].shape[1:] if len(given) == 1 else (),
                parameters=parameters,
                macs=cost.macs,
                other=cost.other,
                bytes_moved=cost.bytes_moved,
                extent=_extents(roomy, layer),
                unknown=cost.unknown,
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


def _extents(roomy: Sequence[Trace], layer: str) -> tuple[int | None, ...]:
    return tuple(_extent(traced, axis, layer) for axis, traced in enumerate(roomy))


def _extent(traced: Trace, axis: int, layer: str) -> int | None:
    outputs = next((c.outputs for c in reversed(traced.calls) if c.layer == layer), ())
    if len(outputs) != 1 or len(outputs[0].shape) != len(traced.image.shape):
        return None
    field = field_along(traced, axis, outputs[0])
    return field.largest if field else None
