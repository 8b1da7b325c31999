"""Folders of synthetic records: every status, two seeds, cells that are missing."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.record import RunRecord

from .records import cell, finished, plan


@pytest.fixture
def runs(tmp_path: Path) -> Callable[..., Path]:
    """Writes records in folders of their own and returns the folder above them."""
    folder = tmp_path / "runs"
    folder.mkdir()

    def write(*records: RunRecord) -> Path:
        for record in records:
            record.write(folder / f"{len(list(folder.iterdir())):03d}")
        return folder

    return write


@pytest.fixture
def ablation(runs: Callable[..., Path]) -> Path:
    """Six runs of a plan: three finished arms and one that runs; two cells are missing."""
    folder = runs(
        finished("transposed", 0),
        finished("transposed", 1),
        finished("trilinear", 0),
        finished("trilinear", 1),
        finished("pixel_shuffle", 0),
        finished(
            "nearest",
            0,
            status="running",
            finished=None,
            cases=[],
            pictures=[],
            artifacts=None,
            parameters=None,
            macs=None,
            seconds={"train": math.nan},
            peak_memory_bytes=None,
            history=finished("nearest").history[:23],
        ),
    )
    ran = [(u, s) for u in ("transposed", "trilinear") for s in (0, 1)]
    ran += [("pixel_shuffle", 0), ("nearest", 0)]
    cells = [cell(f"{place:03d}", *one) for place, one in enumerate(ran)]
    cells += [cell("pixel_shuffle-1", "pixel_shuffle", 1), cell("nearest-1", "nearest", 1)]
    plan(*cells).write(folder)
    return folder
