"""An audit as Markdown, CSV and JSON."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from medseg.analysis.audit import (
    OTHER_IMAGES,
    THROUGH,
    VALID_SIZES,
    Audit,
    far_from_borders,
    layer_fields,
)
from medseg.files import FileId, replacing, write_text
from medseg.formatting import markdown_table

OUTPUTS = ("audit.md", "audit.json", "audit.csv")
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
        _not_known(audit),
        _sizes(audit),
        _field(audit),
        _memory(audit),
        _upsamplings(audit),
        _layers(audit) if layers else "",
    ]
    return "\n".join(section for section in sections if section)


def write_audit(
    audit: Audit,
    folder: Path,
    *,
    overwrite: bool = False,
    inputs: frozenset[FileId] = frozenset(),
) -> list[Path]:
    """Writes `audit.md`, `audit.json` and `audit.csv` (the layers) into a folder.

    Args:
        audit: To be written.
        folder: Where the files go.
        overwrite: Replace files whoever wrote them.
        inputs: Files that are never replaced.

    Raises:
        ConfigError: a file of that name is there that medseg did not write; see `replacing`.
    """
    plain = json.dumps(audit.plain(), indent=1) + "\n"
    layers = audit.layers.to_csv(index=False)
    texts = dict(zip(OUTPUTS, (markdown(audit), plain, layers), strict=True))
    with replacing([folder / name for name in texts], overwrite=overwrite, inputs=inputs):
        for name, text in texts.items():
            write_text(folder / name, text)
    return [folder / name for name in texts]


def _totals(audit: Audit) -> str:
    voxels, total = _times(audit.subject.patch_size), audit.total
    intensity = 2 * total.macs / total.bytes_moved if total.bytes_moved else 0
    rows = [
        ("input", f"{audit.subject.in_channels} channels, {voxels} voxels"),
        ("logits", f"{audit.logits[0]} channels, {_times(audit.logits[1:])} voxels"),
        ("parameters", f"{audit.parameters:,}"),
        ("multiply-accumulates", f"{total.macs:,}"),
        ("other operations", f"{total.other:,}"),
        ("bytes moved, fp32", f"{total.bytes_moved:,}"),
        ("operations per byte, fp32", f"{intensity:.1f}"),
    ]
    return f"# {audit.subject.name}\n\n{markdown_table(('one image', ''), rows)}"


def _unknown(audit: Audit) -> str:
    if not audit.unknown:
        return ""
    rows = [(layer or "the network itself", operation) for layer, operation in audit.unknown]
    return (
        "## Unknown\n\nThe cost of these operations is in none of the numbers.\n\n"
        f"{markdown_table(('layer', 'operation'), rows)}"
    )


def _not_known(audit: Audit) -> str:
    if not audit.not_known:
        return ""
    return f"## Not known\n\n{markdown_table(('what', 'why'), audit.not_known.items())}"


def _sizes(audit: Audit) -> str:
    is_known = not {VALID_SIZES, OTHER_IMAGES} & audit.not_known.keys()
    none = "only this one was found" if is_known else "not known"
    rows = [
        (
            str(axis),
            str(size),
            str(rule or none),
        )
        for axis, (size, rule) in enumerate(
            zip(audit.subject.patch_size, audit.valid_sizes, strict=True)
        )
    ]
    return f"## Valid input sizes\n\n{markdown_table(('axis', 'this', 'valid'), rows)}"


def _field(audit: Audit) -> str:
    head = ["axis", "voxels", "mm", "of the patch", "phases", "coverage", "in this image"]
    bounded = any(name.startswith(THROUGH) for name in audit.not_known)
    at_most = "at most " if bounded else ""
    rows = []
    for axis, (field, size) in enumerate(zip(audit.field, audit.subject.patch_size, strict=True)):
        ends, here = _ends(audit, axis), audit.field_here[axis]
        spacing = audit.subject.spacing
        in_mm = [round(end * spacing[axis], 1) for end in ends] if spacing and ends else []
        whole = "" if ends or not _is_known(audit, axis) else "all"
        rows.append(
            (
                str(axis),
                at_most + (_range(ends) or whole) if ends or whole else "not known",
                _range(in_mm) or (whole if spacing else ""),
                f"{field.largest / size:.0%}" if field else "",
                str(field.period or "it does not repeat") if field else "",
                f"{field.coverage:.0%}" if field else "",
                f"{at_most}{_range(sorted(set(here)))}" if here else "not known",
            )
        )
    return (
        f"## Receptive field\n\n{markdown_table(head, rows)}\n"
        "Of the logits, far from every border, from the phase with the smallest field to the one "
        "with the largest; in this image borders cut it. Statistics of a normalisation count as "
        "given.\n" + "".join(f"\n**Gridding:** {warning}\n" for warning in audit.gridding)
    )


def _ends(audit: Audit, axis: int) -> list[int]:
    """The smallest and the largest extent far from every border, one if they are equal."""
    field = audit.field[axis]
    return sorted({field.smallest, field.largest}) if field else []


def _is_known(audit: Audit, axis: int) -> bool:
    return not {far_from_borders(axis), OTHER_IMAGES} & audit.not_known.keys()


def _memory(audit: Audit) -> str:
    rows = []
    for use, precisions in audit.memory.items():
        for precision, memory in precisions.items():
            state = _ADAMW_STATE * memory.gradients
            fixed = memory.weights + memory.gradients + state
            held = memory.tensors if memory.unseen else memory.peak
            about = "at least " if memory.unseen else "about "
            rows.append(
                (
                    use,
                    precision,
                    *map(_mib, (memory.weights, memory.gradients, state, memory.kept)),
                    _mib(memory.tensors),
                    about + _mib(held),
                    about + _mib(fixed + held),
                )
            )
    head = ("MiB", "", "weights", "gradients", "AdamW", "kept for backward", "peak of tensors",
            "with what operations take", "all")  # fmt: skip
    return (
        f"## Memory, batch {audit.subject.batch}\n\n{markdown_table(head, rows)}\n"
        "Peak of tensors: those of the network at their most, besides weights, gradients and "
        "AdamW's state. What an operation takes while it computes is estimated by rules, roughly "
        "where images are small (`--measure`). The process takes more: Python and torch "
        "themselves, and what the allocator keeps.\n"
    )


def _upsamplings(audit: Audit) -> str:
    if not audit.upsamplings:
        return ""
    rows = [
        (
            row["layer"],
            row["operator"],
            "not measured" if row["imbalance"] is None else f"{row['imbalance']:.3g}",
        )
        for row in audit.upsamplings
    ]
    return (
        f"## Checkerboard\n\n{markdown_table(('layer', 'upsampling', 'DC-gain imbalance'), rows)}\n"
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
            row["layer"] or "(the network itself)",
            f"`{row['operator']}`",
            _times(row["output"]),
            _count(row["parameters"]),
            _count(row["macs"]),
            ", ".join(f"unknown: {name}" for name in row["unknown"]) or _count(row["other"]),
            _count(row["bytes_moved"]),
            _times(
                (_whole(audit, axis) if extent is None else extent)
                for axis, extent in enumerate(row["extent"])
            ),
        )
        for row in audit.layers.to_dict("records")
    ]
    return f"## Layers\n\n{markdown_table(head, rows)}"


def _whole(audit: Audit, axis: int) -> str:
    known = _is_known(audit, axis) and layer_fields(axis) not in audit.not_known
    return "all" if known else "?"


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _times(numbers: Iterable[object]) -> str:
    return " × ".join(map(str, numbers))


def _range(ends: Sequence[float]) -> str:
    return " to ".join(f"{end:g}" for end in ends)


def _mib(size: int) -> str:
    return f"{size / _MIB:.1f}" if size else ""
