"""Long: the default and the 3-D task, trained as a user would, reach what is promised."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from medseg.record import RunRecord

ROOT = Path(__file__).parents[1]
HIPPOCAMPUS = ROOT.parent / "shared/data/Task04_Hippocampus"

pytestmark = pytest.mark.slow


def train(folder: Path, *overrides: str) -> tuple[Path, RunRecord]:
    own = [f"runs={folder}/runs", f"data.cache={folder}/cache"]
    command = [sys.executable, str(ROOT / "scripts/train.py"), *own, *overrides]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert shown.returncode == 0, shown.stderr
    (record,) = (folder / "runs").rglob("record.json")
    return record.parent, RunRecord.read(record)


def mean_dice(record: RunRecord, name: str) -> float:
    values = [case.metrics[name]["dice"] for case in record.cases]
    return statistics.mean(v for v in values if v is not None)


def test_the_embedded_default_reaches_090_on_held_out_slices(tmp_path: Path) -> None:
    _, record = train(tmp_path)
    assert mean_dice(record, "grey") >= 0.90
    assert mean_dice(record, "white") >= 0.90


@pytest.mark.skipif(not HIPPOCAMPUS.is_dir(), reason="the hippocampus data are not on this machine")
def test_hippocampus_in_3d_reaches_084_and_083_on_52_held_out_cases(tmp_path: Path) -> None:
    run, record = train(tmp_path, "data=hippocampus", f"data.root={HIPPOCAMPUS}")
    assert len(record.cases) == 52
    assert mean_dice(record, "Anterior") >= 0.84
    assert mean_dice(record, "Posterior") >= 0.83
    images = HIPPOCAMPUS / "imagesTr"
    for path in (run / "validation").glob("*.nii.gz"):
        image, predicted = nib.load(images / path.name), nib.load(path)
        np.testing.assert_array_equal(predicted.affine, image.affine)
        foreign = [sitk.ReadImage(str(p)) for p in (images / path.name, path)]
        assert foreign[0].GetSize() == foreign[1].GetSize()
        assert foreign[0].GetOrigin() == pytest.approx(foreign[1].GetOrigin())
        assert foreign[0].GetDirection() == pytest.approx(foreign[1].GetDirection())
    assert json.loads((run / "split.json").read_text())["validation"]
