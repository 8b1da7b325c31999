"""A benchmark as Markdown tables and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import psutil
import torch

from benchmarks.candidates import STEP
from benchmarks.measure import Case, Group, Row, Series
from medseg.analysis.timing import SLOW_MILLISECONDS, SLOW_ROUNDS
from medseg.formatting import MISSING, amount, percent, significant
from medseg.hardware import cpu_name, now, package_versions

PER_GMAC = ("networks", "pairs")
"""Groups whose candidates differ in more than one layer: time per arithmetic says more."""

_REMARKS = {
    "depthwise": "torch's own operator and `medseg.layers.fast_conv.fast_conv`, which "
    "the layers use on a CPU (on a GPU they use torch's); in bf16 the tensors themselves are.",
    "upsamplings": "From half the grid to the grid of the other tables, and to half the channels.",
    "networks": "One training step is forward and backward of the mean of the squared logits.",
    "pairs": "BasicUNet's partner has its widths, depths, pooling and upsampling, layer by layer. "
    "DynUNet's partner has as many convolutions; but where the resolution falls DynUNet strides "
    "and widens in one convolution with norm and activation, ours strides first, then widens.",
}
_TEXT_COLUMNS = ("input", "candidate", "layout")
_MEANINGS = {
    "input": "dimensions, channels, grid and batch of the input",
    "candidate": "what is measured",
    "layout": "memory layout of the input, the faster one where both were measured; our networks "
    "lay theirs out channels last on a CPU",
    "forward": "forward pass without gradients, as in prediction: median (interquartile range ÷ "
    "median)",
    "input gradient": "backward pass by the input alone: median (interquartile range ÷ median)",
    "weight gradient": "backward pass by the weight alone: median (interquartile range ÷ median)",
    STEP: "forward pass and all gradients, as in training: median (interquartile range ÷ median)",
    "speed-up": f"{STEP} time of the reference ÷ this row's; above 1 is faster",
    "MACs": "multiply-accumulates of one item's forward pass (convolutions and matrix products)",
    "MAC ratio": "the reference's MACs ÷ this row's",
    "ms/GMAC": f"{STEP} time ÷ 10⁹ forward MACs of the batch",
    "realised saving": "speed-up ÷ MAC ratio: 100 % where the time follows the arithmetic",
    "parameters": "trainable numbers",
    "peak MiB": f"most bytes held at once by one {STEP} in fp32, beyond its inputs",
}
"""Column, without precision and unit → what it means."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """All that is known of a benchmark so far.

    Args:
        command: The command line.
        machine: Where it ran (`machine_of`).
        precisions: What was measured in.
        rounds: Measured rounds.
        quick: Tiny sizes and one round, figures without meaning.
        asked: The groups that were asked for.
        groups: The groups that are done.
    """

    command: str
    machine: dict[str, Any]
    precisions: tuple[str, ...]
    rounds: int
    quick: bool
    asked: tuple[str, ...]
    groups: tuple[Group, ...]

    def markdown(self) -> str:
        """Header, the meaning of the columns, then one table per group."""
        sections = (_section(group, self.precisions) for group in self.groups)
        return "\n".join([*_header(self), *_legend(), *sections])

    def json(self) -> str:
        """Everything with every sample, `markdown`'s figures included."""
        content = {
            "command": self.command,
            "quick": self.quick,
            "complete": len(self.groups) == len(self.asked),
            "machine": self.machine,
            "precisions": self.precisions,
            "rounds": self.rounds,
            "groups": [_group_data(group, self.precisions) for group in self.groups],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def machine_of(device: torch.device) -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "device": device.type,
        "cpu": cpu_name(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "system": platform.platform(),
        "versions": package_versions(("torch", "monai", "medseg")),
        "date": now(),
    }


def table(group: Group, precisions: Sequence[str]) -> pd.DataFrame:
    """The texts of a group's table, one line per candidate; columns without a figure are left out.

    Args:
        group: What was measured.
        precisions: What in.
    """
    works = dict.fromkeys(s.work for case in group.cases for row in case.rows for s in row.series)
    per_gmac = group.slug in PER_GMAC
    lines = [
        _line(case, row, precisions, list(works), per_gmac=per_gmac)
        for case in group.cases
        for row in case.rows
    ]
    frame = pd.DataFrame(lines)
    if all(len({row.macs for row in case.rows}) == 1 for case in group.cases):
        frame = frame.drop(columns=[c for c in frame if c.startswith(("MAC r", "real", "ms/"))])
    return frame.loc[:, (frame != MISSING).any()]


def time_title(work: str, precision: str) -> str:
    """Title of the column with the time of a work."""
    return f"{work} {precision}, ms"


def time_text(series: Series | None) -> str:
    """Median and spread: `12.3 (4 %)`."""
    if series is None:
        return MISSING
    return f"{significant(series.median_milliseconds, 4)} ({percent(series.spread)})"


def _line(
    case: Case, row: Row, precisions: Sequence[str], works: Sequence[str], *, per_gmac: bool
) -> dict[str, str]:
    line = {"input": case.label, "candidate": row.name, "layout": _layout_text(row, precisions)}
    line |= {time_title(w, p): time_text(row.best(w, p)) for w in works for p in precisions}
    line |= {f"speed-up {p}": significant(case.speed_up(row, p), 3) for p in precisions}
    line |= {"MACs": amount(row.macs), "MAC ratio": significant(case.mac_ratio(row), 3)}
    for p in precisions:
        if per_gmac:
            line[f"ms/GMAC {p}"] = significant(case.milliseconds_per_gmac(row, p), 3)
        else:
            line[f"realised saving {p}"] = percent(case.realised_saving(row, p))
    known = row.parameters is not None
    line["parameters"] = f"{row.parameters:,}".replace(",", " ") if known else MISSING
    peak = row.peak_memory_bytes
    line["peak MiB"] = MISSING if peak is None else significant(peak / 2**20, 3)
    return line


def _layout_text(row: Row, precisions: Sequence[str]) -> str:
    layouts = {p: layout for p in precisions if (layout := row.best_layout(p))}
    if len(set(layouts.values())) < 2:
        return next(iter(layouts.values()), MISSING)
    return ", ".join(f"{layout} ({p})" for p, layout in layouts.items())


def _header(document: Document) -> list[str]:
    machine = document.machine
    gpu = f"{machine['gpu']} with " if machine["gpu"] else ""
    facts = {
        "command": f"`{document.command}`",
        "machine": f"{gpu}{machine['cpu']}, {machine['threads']} threads on {machine['cores']} "
        f"cores, {machine['memory_gib']} GiB; {machine['system']}",
        "device": machine["device"],
        "versions": ", ".join(f"{name} {number}" for name, number in machine["versions"].items()),
        "date": machine["date"],
        "precision": "fp32, and bf16 by autocast (blocks get bf16 inputs)"
        if "bf16" in document.precisions
        else "fp32; bf16 skipped, this machine does not compute in it",
        "method": "the candidates of one input take turns, one warm-up round and "
        f"{document.rounds} measured; a call of more than {SLOW_MILLISECONDS / 1e3:.0f} s is "
        f"measured {min(document.rounds, SLOW_ROUNDS)} times",
    }
    lines = ["# Benchmark", ""]
    if document.quick:
        lines += ["**Quick: tiny sizes and one round. The figures mean nothing.**", ""]
    if missing := document.asked[len(document.groups) :]:
        lines += [f"**Unfinished: {', '.join(missing)} not measured yet.**", ""]
    return [*lines, *(f"- {name}: {text}" for name, text in facts.items()), ""]


def _section(group: Group, precisions: Sequence[str]) -> str:
    frame = table(group, precisions)
    remark = _REMARKS.get(group.slug)
    references = " or ".join(dict.fromkeys(case.reference for case in group.cases))
    lines = [f"## {group.title}", "", *([remark, ""] if remark else [])]
    lines += [f"The reference is {references}.", "", *_markdown(frame), ""]
    notes = [
        f"- not measured: {row.name} at {case.label}: {note}"
        for case in group.cases
        for row in case.rows
        for note in row.notes
    ]
    return "\n".join([*lines, *notes, *([""] if notes else [])])


def _legend() -> list[str]:
    return [
        "| column | meaning |",
        "| --- | --- |",
        *(f"| {c} | {m} |" for c, m in _MEANINGS.items()),
        "",
    ]


def _markdown(frame: pd.DataFrame) -> list[str]:
    rules = ["---" if title in _TEXT_COLUMNS else "---:" for title in frame]
    rows = [[*frame.columns], rules, *frame.to_numpy().tolist()]
    return [f"| {' | '.join(row)} |" for row in rows]


def _group_data(group: Group, precisions: Sequence[str]) -> dict[str, Any]:
    cases = [
        {
            "input": case.label,
            "reference": case.reference,
            "rows": [_row_data(row, case, precisions) for row in case.rows],
        }
        for case in group.cases
    ]
    return {"slug": group.slug, "title": group.title, "cases": cases}


def _row_data(row: Row, case: Case, precisions: Sequence[str]) -> dict[str, Any]:
    series = [
        asdict(s) | {"median_milliseconds": s.median_milliseconds, "spread": s.spread}
        for s in row.series
    ]
    return asdict(row) | {
        "series": series,
        "best_layout": {p: row.best_layout(p) for p in precisions},
        "speed_up": {p: case.speed_up(row, p) for p in precisions},
        "mac_ratio": case.mac_ratio(row),
        "realised_saving": {p: case.realised_saving(row, p) for p in precisions},
        "milliseconds_per_gmac": {p: case.milliseconds_per_gmac(row, p) for p in precisions},
    }
