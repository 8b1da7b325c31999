"""What every upsampling layer of a network makes of a constant."""

from dataclasses import dataclass

from torch import nn

from medseg.analysis.trace import Call, Trace
from medseg.checkerboard import upsampling_gains


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


def upsampling_rows(network: nn.Module, traced: Trace) -> list[UpsamplingRow]:
    """A row for every layer whose DC gains can be read, and for every other that upsamples."""
    known = [
        UpsamplingRow(layer=gain.layer, operator=gain.operator, imbalance=gain.imbalance)
        for gain in upsampling_gains(network)
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
    given, made = call.inputs[0].shape, call.outputs[0].shape
    if len(given) != len(made) or len(given) < 3:
        return False
    return made[2:] != given[2:] and all(
        fine % coarse == 0 for fine, coarse in zip(made[2:], given[2:], strict=True)
    )


def _is_part_or_whole(layer: str, measured: list[str]) -> bool:
    return any(
        layer == known or layer.startswith(f"{known}.") or known.startswith(f"{layer}.")
        for known in measured
    )
