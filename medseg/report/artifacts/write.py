"""What `medseg artifacts` writes: every file whole or absent."""

import dataclasses
import json
from pathlib import Path

from medseg.checkerboard import Study
from medseg.errors import DataError
from medseg.files import write_bytes, write_text
from medseg.record import FILE_NAME, ArtifactRecord, RunRecord, finite
from medseg.report.artifacts.document import render_csv, render_html, render_markdown
from medseg.report.artifacts.drawings import drawings

RESULT = "artifacts.html"
OUTPUTS = (RESULT, "artifacts.md", "artifacts.csv", "artifacts.json", "figures", "maps")
"""All that `medseg artifacts` may write into its folder."""


def write_results(
    folder: Path, record: ArtifactRecord, study: Study, *, title: str, run: Path
) -> None:
    """Writes page, tables, record and figures.

    Args:
        folder: Where they go.
        record: Of the study.
        study: What its figures are drawn from.
        title: Of the page.
        run: Where the network came from; a record of its training beside it adds the trajectory.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    made = drawings(study, _training(run))
    for drawing in made:
        write_bytes(folder / "figures" / f"{drawing.name}.png", drawing.png)
    plain = finite(dataclasses.asdict(record))
    write_text(folder / "artifacts.json", json.dumps(plain, indent=1) + "\n")
    write_text(folder / "artifacts.csv", render_csv(record.cases))
    write_text(folder / "artifacts.md", render_markdown(title, record))
    write_text(folder / RESULT, render_html(title, record, made))


def _training(run: Path) -> RunRecord | None:
    try:
        return RunRecord.read(run / FILE_NAME)
    except DataError:
        return None
