"""Folders of synthetic records: every status, two seeds, cells that are missing."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from medseg.record import RunRecord
from medseg.record.lock import LOCK
from medseg.report import Report, write_report

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


@pytest.fixture(scope="session")
def shared_ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six runs of a plan: three finished arms and one that runs; two cells are missing."""
    folder = tmp_path_factory.mktemp("ablation")
    records = (
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
    for place, record in enumerate(records):
        record.write(folder / f"{place:03d}")
        (folder / f"{place:03d}" / LOCK).touch()  # whoever runs shows a sign of life
    ran = [(u, s) for u in ("transposed", "trilinear") for s in (0, 1)]
    ran += [("pixel_shuffle", 0), ("nearest", 0)]
    cells = [cell(f"{place:03d}", *one) for place, one in enumerate(ran)]
    cells += [cell("pixel_shuffle-1", "pixel_shuffle", 1), cell("nearest-1", "nearest", 1)]
    plan(*cells).write(folder)
    return folder


@pytest.fixture
def ablation(shared_ablation: Path, tmp_path: Path) -> Path:
    """The same in a folder of its own, which a test may change."""
    return shutil.copytree(shared_ablation, tmp_path / "runs", dirs_exist_ok=True)


@pytest.fixture(scope="session")
def written(shared_ablation: Path, tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Its report."""
    return write_report([shared_ablation], tmp_path_factory.mktemp("report") / "report.html")
