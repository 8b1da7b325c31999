"""Names from elsewhere are shown and never obeyed: by terminals, logs, spreadsheets and pages."""

import csv
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from medseg.cli.artifacts import main as artifacts
from medseg.cli.command import run_to_exit_code
from medseg.errors import DataError

SaveScan = Callable[..., Path]
NAMES = {
    "clears the screen": "\x1b[2J\x1b]0;title\x07scan",
    "a line of its own": "scan\nerror: all is lost\r",
    "right to left": "scan\u202egz.exe\u2066",
    "a C1 control": "scan\x9b31m",
    "no UTF-8": "caf\udce9",
    "a formula": "=cmd|' C'!A0",
    "markup": "<script>alert(1)<img src=x onerror=alert(2)>",
    "LaTeX": r"$\input{x}$ %&#_~^",
    "a format": "%s %(x)d {0}",
}
FORMULA = ("=", "+", "@")
COMMANDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


@pytest.mark.usefixtures("without_figures")
def test_volumes_of_any_name_are_measured_and_their_names_obeyed_nowhere(
    model_folder: Path,
    save_scan: SaveScan,
    scan: np.ndarray,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    small, out = scan[:16, :16, :16], tmp_path / "out"
    bad = []
    for name in NAMES.values():
        save_scan(small, f"in/{name}.nii.gz")
        bad.append(save_scan(small, f"in/{name}2.nii.gz"))
        bad[-1].write_bytes(b"no volume")
        (bad[-1].parent / f"{name}.txt").write_text("no volume either")
    assert (
        artifacts([str(model_folder), str(tmp_path / "in"), "-o", str(out), "--shifts", "2"]) == 3
    )
    said = capsys.readouterr()
    assert not COMMANDS.search(said.out + said.err)
    starts = ("error: ", "skipped ", "warning: ")
    assert all(line.startswith(starts) for line in said.err.splitlines())
    assert len(said.out.splitlines()) == len(NAMES) + 2
    assert set(json.loads((out / "failures.json").read_text())) == set(map(str, bad))
    for ending in ("md", "csv", "html"):
        assert not COMMANDS.search((out / f"artifacts.{ending}").read_text(encoding="utf-8"))
    with (out / "artifacts.csv").open(encoding="utf-8") as stream:
        assert not [cell for row in csv.reader(stream) for cell in row if cell[:1] in FORMULA]
    page = (out / "artifacts.html").read_text(encoding="utf-8")
    assert page.count("<script") <= 1
    assert "<img src=x" not in page


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_an_error_and_a_line_of_a_log_are_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = logging.FileHandler(tmp_path / "a.log", encoding="utf-8", errors="backslashreplace")
    logger = logging.getLogger("medseg.names")
    logger.addHandler(handler)

    def body() -> int:
        logger.error("%s is there", tmp_path / name)
        logger.error("%s failed", DataError(name))
        raise DataError(f"{name}: is no volume")

    try:
        assert run_to_exit_code(body) == 3
    finally:
        logger.removeHandler(handler)
        handler.close()
    (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
    assert line.endswith("is no volume")
    logged = (tmp_path / "a.log").read_text(encoding="utf-8")
    assert len(logged.splitlines()) == 2
    assert not COMMANDS.search(line + logged)
