"""A benchmark as Markdown and as JSON."""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from benchmarks.columns import Column, columns_of, row_cells
from medseg.analysis.timing import SLOW_MILLISECONDS, SLOW_ROUNDS
from medseg.analysis.timing_results import Case, Group, Row, Series, figures
from medseg.hardware import cpu_name, now, package_versions

_REMARKS = {
    "depthwise": "torch's own operator and `medseg.layers.fast_conv.fast_conv`, which "
    "the layers use on a CPU (on a GPU they use torch's); in bf16 the tensors themselves are.",
    "upsamplings": "From half the grid to the grid of the other tables, and to half the channels.",
    "networks": "One training step is forward and backward of the mean of the squared logits.",
    "pairs": "BasicUNet's partner has its widths, depths, pooling and upsampling, layer by layer. "
    "DynUNet's partner has as many convolutions; but where the resolution falls DynUNet strides "
    "and widens in one convolution with norm and activation, ours strides first, then widens.",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The machine, the versions and the time."""

    device: str
    cpu: str
    cores: int
    threads: int
    memory_gib: float
    gpu: str | None
    system: str
    versions: dict[str, str]
    date: str


def describe_machine(device: torch.device) -> Machine:
    """What the figures depend on."""
    return Machine(
        device=device.type,
        cpu=cpu_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        gpu=torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        system=platform.platform(),
        versions=package_versions(("torch", "monai", "medseg")),
        date=now(),
    )


@dataclass(frozen=True, kw_only=True)
class Document:
    """All that is known of a benchmark so far.

    Args:
        command: The command line.
        machine: Where it ran.
        precisions: What was measured in.
        rounds: Measured rounds.
        quick: Tiny sizes and one round, figures without meaning.
        asked: The groups that were asked for.
        groups: The groups that are done.
    """

    command: str
    machine: Machine
    precisions: tuple[str, ...]
    rounds: int
    quick: bool
    asked: tuple[str, ...]
    groups: tuple[Group, ...]

    def markdown(self) -> str:
        """Header, then one table per group with a line on each of its columns."""
        parts = [*_header(self), *(_section(group, self.precisions) for group in self.groups)]
        return "\n".join(parts)

    def json(self) -> str:
        """Everything with every sample, `markdown`'s figures included."""
        content = {
            "command": self.command,
            "quick": self.quick,
            "complete": len(self.groups) == len(self.asked),
            "machine": asdict(self.machine),
            "precisions": self.precisions,
            "rounds": self.rounds,
            "groups": [_group_data(group, self.precisions) for group in self.groups],
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _header(document: Document) -> list[str]:
    machine = document.machine
    computes = f"{machine.gpu} with " if machine.gpu else ""
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    facts = {
        "command": f"`{document.command}`",
        "machine": f"{computes}{machine.cpu}, {machine.threads} threads on {machine.cores} cores, "
        f"{machine.memory_gib} GiB; {machine.system}",
        "device": machine.device,
        "versions": versions,
        "date": machine.date,
        "precision": _precision_text(document.precisions),
        "method": _method_text(document.rounds),
    }
    lines = ["# Benchmark", ""]
    if document.quick:
        lines += ["**Quick: tiny sizes and one round. The figures mean nothing.**", ""]
    missing = document.asked[len(document.groups) :]
    if missing:
        lines += [f"**Unfinished: {', '.join(missing)} not measured yet.**", ""]
    return [*lines, *(f"- {name}: {text}" for name, text in facts.items()), ""]


def _precision_text(precisions: Sequence[str]) -> str:
    if "bf16" in precisions:
        return "fp32, and bf16 by autocast (blocks get bf16 inputs)"
    return "fp32; bf16 skipped, this machine does not compute in it"


def _method_text(rounds: int) -> str:
    return (
        f"the candidates of one input take turns, one warm-up round and {rounds} measured; "
        f"a call of more than {SLOW_MILLISECONDS / 1e3:.0f} s is measured "
        f"{min(rounds, SLOW_ROUNDS)} times"
    )


def _section(group: Group, precisions: Sequence[str]) -> str:
    columns = columns_of(group, precisions)
    remark = _REMARKS.get(group.slug)
    lines = [f"## {group.title}", "", *([remark, ""] if remark else [])]
    lines.append(_line([column.title for column in columns]))
    lines.append(_line(["---:" if column.numeric else "---" for column in columns]))
    for case in group.cases:
        lines += [_line(cells) for cells in row_cells(columns, case, precisions)]
    lines += ["", *_meanings(columns), "", *_notes(group)]
    return "\n".join(lines)


def _meanings(columns: Sequence[Column]) -> list[str]:
    titles: dict[str, list[str]] = {}
    for column in columns:
        titles.setdefault(column.meaning, []).append(column.title)
    return [f"- **{'**, **'.join(own)}**: {meaning}." for meaning, own in titles.items()]


def _notes(group: Group) -> list[str]:
    found = [
        f"- not measured: {row.name} at {case.label}: {note}"
        for case in group.cases
        for row in case.rows
        for note in row.notes
    ]
    return [*found, ""] if found else []


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


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
    layouts = {precision: row.best_layout(precision) for precision in precisions}
    series = [_series_data(one) for one in row.series]
    own = asdict(row) | {"series": series, "best_layout": layouts}
    return own | asdict(figures(row, case, precisions))


def _series_data(series: Series) -> dict[str, Any]:
    derived = {"median_milliseconds": series.median_milliseconds, "spread": series.spread}
    return asdict(series) | derived
