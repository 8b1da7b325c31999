"""Folders of synthetic records: every status, two seeds, cells that are missing."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.record import RunRecord

from .records import finished


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
    """Six runs: three finished arms and one that runs; two cells are missing."""
    return runs(
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
            upsampling=[],
            constant_response=None,
            parameters=None,
            macs=None,
            seconds={"train": math.nan},
            peak_memory_bytes=None,
            history=finished("nearest").history[:23],
        ),
    )
