"""The wheel, unpacked elsewhere, does the whole job: train, predict, report."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import pytest
from tests_support import OVERRIDES, QUICK

ROOT = Path(__file__).parents[1]
SOURCES = ("medseg", "configs", "pyproject.toml", "README.md", "LICENSE")
BUILD = "import sys, setuptools.build_meta as backend; backend.build_wheel(sys.argv[1])"
# one process for all commands: importing torch takes most of their time
COMMANDS = """
import shutil, sys
from pathlib import Path
import medseg
from medseg.cli.main import main

site, *overrides = sys.argv[1:]
assert medseg.__file__.startswith(site), medseg

def command(*words):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as end:
        assert not end.code, words

command("train", *overrides, "runs=runs")
(run,) = Path("runs/phantom").iterdir()
first, second, *_ = sorted(Path("data").rglob("imagesTr/*.nii.gz"))
Path("my scans (1)").mkdir()
shutil.copy(first, "first.nii.gz")
shutil.copy(second, "my scans (1)/scan = é, 2.nii.gz")
command("predict", "-m", str(run), "-i", "first.nii.gz", "my scans (1)", "-o", "out")
command("report", "runs", "-o", "report.html")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:  # building in the checkout would leave traces there
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    command = [sys.executable, "-c", BUILD, str(folder)]
    subprocess.run(command, cwd=folder / "source", check=True, capture_output=True)
    (built,) = folder.glob("medseg-*.whl")
    return built


def test_the_wheel_holds_every_yaml_and_template_and_nothing_of_the_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, prefix in (("configs", "medseg/configs"), ("medseg", "medseg")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}" in names
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {"medseg"}


def test_train_predict_and_report_from_the_wheel_in_an_empty_folder(
    wheel: Path, tmp_path: Path
) -> None:
    site, here = tmp_path / "site", tmp_path / "an empty folder"
    here.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    environment = os.environ | {"PYTHONPATH": str(site), "MEDSEG_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", COMMANDS, str(site), *OVERRIDES, *QUICK]
    shown = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "Warning" not in shown.stderr, shown.stderr
    for source, name in (
        ("first.nii.gz", "first.nii.gz"),
        ("my scans (1)/scan = é, 2.nii.gz", "scan = é, 2.nii.gz"),
    ):
        image, predicted = nib.load(here / source), nib.load(here / "out" / name)
        assert predicted.shape == image.shape
        assert (predicted.affine == image.affine).all()
    assert json.loads((here / "out/scan = é, 2.json").read_text(encoding="utf-8"))["model"]
    assert "phantom" in (here / "report.html").read_text(encoding="utf-8")
    assert (here / "report.md").exists()
    assert (here / "report.csv").exists()
