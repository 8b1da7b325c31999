"""`medseg predict --max-memory` in a process of its own: what it foresees, and what it takes."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from medseg.models.description import build_network
from medseg.models.weights import load_model, save_model

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of a process is known on Linux alone"
)

MakeModel = Callable[..., Path]
MIB = 1 << 20
# the peak of the process itself: that of `getrusage` begins with that of whoever started it
COMMAND = """
import sys
from pathlib import Path
from medseg.cli.predict import main
code = main(sys.argv[1:])
assert "monai" not in sys.modules  # takes as long to import as all the rest
print(Path("/proc/self/status").read_text())
sys.exit(code)
"""


ROOM = 192  # MiB, for what the allocator and the libraries may keep


def with_classes(folder: Path, count: int, target: Path) -> Path:
    """The same architecture, its classes so many, with random weights."""
    torch.manual_seed(0)
    card = load_model(folder).card
    card.network["num_classes"] = count + 1
    card.classes[:] = [f"class {n}" for n in range(1, count + 1)]
    save_model(target, build_network(card.network), card)
    return target


def blocks(path: Path, shape: tuple[int, int, int], size: int) -> Path:
    """Cubes of one value each: labels are regions, as those of organs are."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(0, 300, [-(-n // size) for n in shape]).astype(np.int16)
    fine = coarse.repeat(size, 0).repeat(size, 1).repeat(size, 2)
    volume = fine[tuple(slice(0, n) for n in shape)]
    nib.Nifti1Image(volume, np.diag([0.8, 0.8, 1.0, 1])).to_filename(path)
    return path


def predicted(model: Path, image: Path, output: Path, limit: str) -> tuple[float, float, str]:
    """What was foreseen and what was taken, in MiB, and the line of the plan."""
    words = ["-m", model, "-i", image, "-o", output, "-d", "cpu", "--max-memory", limit]
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (plan,) = [line for line in done.stderr.splitlines() if "windows at once" in line]
    number, unit = re.findall(r"([\d.]+) ([MG])iB in all", plan)[0]
    foreseen = float(number) * (1024 if unit == "G" else 1)
    taken = float(re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)[0]) / 1024
    return foreseen, taken, plan


def labels(folder: Path) -> np.ndarray:
    return np.asanyarray(nib.load(folder / "scan.nii.gz").dataobj)


@pytest.mark.slow
def test_the_peak_is_as_foreseen_and_stays_below_a_limit(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = with_classes(make_model(3, patch_size=(64, 64, 64)), 24, tmp_path / "model")
    image = blocks(tmp_path / "scan.nii.gz", (176, 176, 144), 32)
    foreseen, taken, plan = predicted(model, image, tmp_path / "free", "100GB")
    assert 0 <= foreseen - taken <= ROOM
    assert "4, sums in memory" in plan
    limit = foreseen - 80
    foreseen, taken, plan = predicted(model, image, tmp_path / "bound", f"{limit:.0f}MiB")
    assert taken <= limit
    assert foreseen <= limit
    assert "4, sums in memory" not in plan
    changed = labels(tmp_path / "free") != labels(tmp_path / "bound")
    assert changed.mean() < 1e-4  # random weights have scores that are equal but for rounding


@pytest.mark.slow
def test_a_hundred_classes_of_a_large_volume_stay_below_a_limit(
    make_model: MakeModel, tmp_path: Path
) -> None:
    model = make_model(3, patch_size=(96, 96, 96), spacing=(1.5, 1.5, 1.5))
    model = with_classes(model, 99, tmp_path / "model")
    image = blocks(tmp_path / "scan.nii.gz", (512, 512, 300), 64)
    foreseen, taken, _ = predicted(model, image, tmp_path / "out", "5GB")
    assert taken <= 5e9 / MIB
    assert taken == pytest.approx(foreseen, rel=0.15)
    assert labels(tmp_path / "out").shape == (512, 512, 300)
