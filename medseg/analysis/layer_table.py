"""What single layers of a network cost, and how even its upsamplings are."""

from dataclasses import asdict
from typing import Any

import pandas as pd
from torch import nn

from medseg.analysis.cost import Cost, cost_of
from medseg.analysis.trace import Call, Trace
from medseg.checkerboard import upsampling_rows

NUMBERS = ["parameters", "macs", "other", "bytes_moved"]
COLUMNS = ["layer", "operator", "output", *NUMBERS, "extent", "unknown"]
_LONGEST_TEXT = 80


def layer_table(network: nn.Module, traced: Trace) -> pd.DataFrame:
    """A row for every layer that calculates something or has weights, in the order of the trace."""
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
        rows.append(row | asdict(cost))
    return pd.DataFrame(rows, columns=[name for name in COLUMNS if name != "extent"])


def _own_parameters(module: nn.Module, counted: set[int]) -> int:
    """Those that no layer before has, since a network may use a tensor twice."""
    own = [p for p in module.parameters(recurse=False) if p.requires_grad and id(p) not in counted]
    counted.update(id(p) for p in own)
    return sum(p.numel() for p in own)


def _text(module: nn.Module) -> str:
    name, options = type(module).__name__, module.extra_repr()
    text = f"{name}({options})" if options and not list(module.children()) else name
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"


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
