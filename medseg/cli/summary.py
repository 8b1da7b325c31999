"""What the reports of predicted cases say, as one table and one manifest of their folder."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from medseg import __version__
from medseg.files import sha256, write_text

_OWN = ("input", "input_sha256", "files_sha256", "output", "probabilities", "uncertainty")
_COLUMNS = ["case", "class", "label", "voxels", "millilitres", "mean_intensity"]
_OWN += ("geometry", "notes", "classes", "seconds")


def summary_files(folder: Path, suffix: str = "") -> list[Path]:
    """The table and the manifest of a folder, or of one process's part of it."""
    return [folder / f"statistics{suffix}.csv", folder / f"manifest{suffix}.json"]


def write_summary(reports: Sequence[Path], targets: Sequence[Path]) -> None:
    """Writes the table and the manifest.

    Args:
        reports: Of the cases, as `medseg predict` writes them.
        targets: As `summary_files` names them.
    """
    import pandas as pd

    from medseg.report.tables import to_csv

    found = {path: json.loads(path.read_text("utf-8")) for path in reports}
    rows = [row for path, report in found.items() for row in _rows(path.stem, report)]
    table, manifest = targets
    write_text(table, to_csv(pd.DataFrame(rows or None, columns=None if rows else _COLUMNS)))
    write_text(manifest, json.dumps(_manifest(found), indent=1) + "\n")


def _rows(case: str, report: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name, size in report["classes"].items():
        means = size.get("mean_intensity", [])  # reports of medseg 0.1.0 have none
        names = [f"mean_intensity_{n}" for n in range(len(means))]
        names = ["mean_intensity"] if len(means) == 1 else names
        sizes = {key: size[key] for key in ("label", "voxels", "millilitres")}
        yield {"case": case, "class": name} | sizes | dict(zip(names, means, strict=True))


def _manifest(reports: dict[Path, dict[str, Any]]) -> dict[str, Any]:
    """What the cases share stands once, the rest with each."""
    keys = dict.fromkeys(key for report in reports.values() for key in report if key not in _OWN)
    first = next(iter(reports.values()), {})
    shared = {
        key: first[key]
        for key in keys
        if all(key in report and report[key] == first.get(key) for report in reports.values())
    }
    cases = []
    for path, report in reports.items():
        output = path.with_name(Path(report["output"]).name)
        cases.append(
            {"case": path.stem, "output_sha256": sha256(output)}
            | {key: value for key, value in report.items() if key not in shared}
        )
    return {"format": 1, "medseg": __version__, "shared": shared, "cases": cases}
