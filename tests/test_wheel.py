"""The wheel, installed elsewhere, does the whole job: train, predict, report."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import nibabel as nib
import pytest
from tests_support import OVERRIDES

ROOT = Path(__file__).parents[1]
SOURCES = ("medseg", "configs", "pyproject.toml", "README.md", "LICENSE")


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
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, folder / "source"], check=True)
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
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site]
    subprocess.run([*install, wheel], check=True)
    environment = os.environ | {"PYTHONPATH": str(site), "MEDSEG_CACHE": str(tmp_path / "cache")}

    def medseg(*words: str) -> str:
        code = "import medseg, sys; assert medseg.__file__.startswith(sys.argv.pop()), medseg; "
        code += "from medseg.cli.main import main; main()"
        command = [sys.executable, "-c", code, *words, str(site)]
        shown = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        assert "Warning" not in shown.stderr, shown.stderr
        return shown.stdout

    medseg("train", *OVERRIDES, "runs=runs")
    (run,) = (here / "runs/phantom").iterdir()
    images = sorted((here / "data").rglob("imagesTr/*.nii.gz"))[:2]
    scans = here / "my scans (1)"
    scans.mkdir()
    shutil.copy(images[1], scans / "scan = é, 2.nii.gz")
    medseg("predict", "-m", str(run), "-i", str(images[0]), str(scans), "-o", "out")
    for source, name in ((images[0], images[0].name), (images[1], "scan = é, 2.nii.gz")):
        predicted = nib.load(here / "out" / name)
        assert predicted.shape == nib.load(source).shape
        assert (predicted.affine == nib.load(source).affine).all()
    assert json.loads((here / "out/scan = é, 2.json").read_text(encoding="utf-8"))["model"]
    medseg("report", "runs", "-o", "report.html")
    page = (here / "report.html").read_text(encoding="utf-8")
    assert "phantom" in page
    assert (here / "report.md").exists()
    assert (here / "report.csv").exists()
