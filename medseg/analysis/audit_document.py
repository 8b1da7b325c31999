"""An audit as Markdown, CSV and JSON."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from medseg.analysis.audit import Audit
from medseg.files import replacing, write_text

_MIB = 2**20
_ADAMW_STATE = 2  # tensors per parameter


def markdown(audit: Audit, *, layers: bool = True) -> str:
    """The whole audit, for a terminal and for a document.

    Args:
        audit: To be written.
        layers: Whether the table of layers is in it.
    """
    sections = [
        _totals(audit),
        _unknown(audit),
        _sizes(audit),
        _field(audit),
        _memory(audit),
        _upsamplings(audit),
        _layers(audit) if layers else "",
    ]
    return "\n".join(section for section in sections if section)


def write_audit(audit: Audit, folder: Path, *, overwrite: bool = False) -> list[Path]:
    """Writes `audit.md`, `audit.json` and `audit.csv` (the layers) into a folder.

    Raises:
        ConfigError: a file of that name is there that medseg did not write; see `replacing`.
    """
    rows = pd.DataFrame([row.plain() for row in audit.layers])
    texts = {
        "audit.md": markdown(audit),
        "audit.json": json.dumps(audit.plain(), indent=1) + "\n",
        "audit.csv": rows.to_csv(index=False),
    }
    with replacing([folder / name for name in texts], overwrite=overwrite):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [folder / name for name in texts]


def _totals(audit: Audit) -> str:
    voxels, total = _times(audit.patch_size), audit.total
    intensity = 2 * total.macs / total.bytes_moved if total.bytes_moved else 0
    rows = [
        ("input", f"{audit.in_channels} channels, {voxels} voxels"),
        ("logits", f"{audit.logits[0]} channels, {_times(audit.logits[1:])} voxels"),
        ("parameters", f"{audit.parameters:,}"),
        ("multiply-accumulates", f"{total.macs:,}"),
        ("other operations", f"{total.other:,}"),
        ("bytes moved, fp32", f"{total.bytes_moved:,}"),
        ("operations per byte, fp32", f"{intensity:.1f}"),
    ]
    return f"# {audit.name}\n\n{table(('one image', ''), rows)}"


def _unknown(audit: Audit) -> str:
    if not audit.unknown:
        return ""
    rows = [(layer or "the network itself", operation) for layer, operation in audit.unknown]
    return (
        "## Unknown\n\nThe cost of these operations is in none of the numbers; their receptive "
        f"field counts as the whole image.\n\n{table(('layer', 'operation'), rows)}"
    )


def _sizes(audit: Audit) -> str:
    rows = [
        (str(axis), str(size), str(rule) if rule else "only this one was found")
        for axis, (size, rule) in enumerate(zip(audit.patch_size, audit.valid_sizes, strict=True))
    ]
    return f"## Valid input sizes\n\n{table(('axis', 'this', 'valid'), rows)}"


def _field(audit: Audit) -> str:
    head = ["axis", "voxels", "mm", "of the patch", "phases", "coverage"]
    spacing = audit.spacing or (None,) * len(audit.patch_size)
    rows = []
    for axis, (field, size, step) in enumerate(
        zip(audit.field, audit.patch_size, spacing, strict=True)
    ):
        if field is None:
            rows.append((str(axis), "all", "all" if step else "", "", "", ""))
            continue
        ends = sorted({field.smallest, field.largest})
        rows.append(
            (
                str(axis),
                _range(ends),
                _range([round(end * step, 1) for end in ends]) if step else "",
                f"{field.largest / size:.0%}",
                str(field.period),
                f"{field.coverage:.0%}",
            )
        )
    text = (
        f"## Receptive field\n\n{table(head, rows)}\n"
        "Of the logits, far from every border, from the phase with the smallest field to the one "
        "with the largest. Statistics of a normalisation count as given.\n"
    )
    return text + "".join(f"\n**Gridding:** {warning}\n" for warning in audit.gridding)


def _memory(audit: Audit) -> str:
    rows = []
    for use, precisions in audit.memory.items():
        for precision, memory in precisions.items():
            state = _ADAMW_STATE * memory.gradients
            fixed = memory.weights + memory.gradients + state
            numbers = (memory.weights, memory.gradients, state, memory.kept, memory.peak)
            rows.append((use, precision, *map(_mib, numbers), _mib(fixed + memory.peak)))
    head = ("MiB", "", "weights", "gradients", "AdamW", "kept for backward", "peak", "all")
    return (
        f"## Memory, batch {audit.batch}\n\n{table(head, rows)}\n"
        "Peak: tensors at their most, besides weights, gradients and AdamW's state.\n"
    )


def _upsamplings(audit: Audit) -> str:
    if not audit.upsamplings:
        return ""
    rows = [
        (
            row.layer,
            row.operator,
            "not measured" if row.imbalance is None else f"{row.imbalance:.3g}",
        )
        for row in audit.upsamplings
    ]
    return (
        f"## Checkerboard\n\n{table(('layer', 'upsampling', 'DC-gain imbalance'), rows)}\n"
        "0: a constant stays a constant; at these weights.\n"
    )


def _layers(audit: Audit) -> str:
    head = (
        "layer",
        "operator",
        "output",
        "parameters",
        "MACs",
        "other",
        "bytes",
        "receptive field",
    )
    rows = [
        (
            row.layer or "(the network itself)",
            f"`{row.operator}`",
            _times(row.output),
            f"{row.cost.parameters:,}" if row.cost.parameters else "",
            f"{row.cost.macs:,}" if row.cost.macs else "",
            ", ".join(f"unknown: {name}" for name in row.cost.unknown)
            or (f"{row.cost.other:,}" if row.cost.other else ""),
            f"{row.cost.bytes_moved:,}" if row.cost.bytes_moved else "",
            _times("all" if extent is None else extent for extent in row.extent),
        )
        for row in audit.layers
    ]
    return f"## Layers\n\n{table(head, rows)}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _times(numbers: Iterable[object]) -> str:
    return " × ".join(map(str, numbers))


def _range(ends: Sequence[float]) -> str:
    return " to ".join(f"{end:g}" for end in ends)


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f}" if size else ""
