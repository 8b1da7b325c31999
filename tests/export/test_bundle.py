"""A MONAI bundle, verified and run by MONAI."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medseg.cli.export import main
from medseg.inference.predictor import Predictor

OBLIQUE = nib.affines.from_matvec(
    np.linalg.qr(np.array([[1, 0.2, 0.1], [-0.3, 1, 0.2], [0, -0.1, 1]]))[0] * [-0.9, 1.3, 2.5],
    [5, -7, 11],
)


def monai(command: str, *words: str, **options: object) -> None:
    """Calls a command of MONAI's for bundles, in a process whose warnings are its own."""
    plain = {name: str(value) for name, value in options.items()}
    code = f"import monai.bundle; monai.bundle.{command}(*{words!r}, **{plain!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("dims", "crop"), [(2, None), (3, "nonzero")])
def test_monai_verifies_it_and_finds_the_labels_of_predict(
    dims: int,
    crop: str | None,
    make_model: Callable[..., Path],
    save_scan: Callable[..., Path],
    scan: np.ndarray,
    tmp_path: Path,
) -> None:
    model = make_model(dims, spacing=(1.2, None, 1.7), slice_axis=1, crop=crop)
    scan = np.pad(scan, [(0, 0), (5, 2), (0, 9)])
    out = tmp_path / "bundle"
    assert main([str(model), "-o", str(out), "--format", "bundle"]) == 0
    files = {
        "config_file": out / "configs/inference.json",
        "meta_file": out / "configs/metadata.json",
        "bundle_root": out,
    }
    monai("verify_net_in_out", "network_def", device="cpu", **files)
    image = save_scan(scan, "in/a.nii.gz", OBLIQUE)
    monai("run", dataset_dir=image.parent, output_dir=tmp_path / "labels", **files)
    got = nib.load(tmp_path / "labels/a.nii.gz")
    wanted = Predictor.from_run(model, device="cpu")(image)
    np.testing.assert_allclose(got.affine, wanted.affine, atol=1e-4)
    differ = np.asarray(got.dataobj) != np.asarray(wanted.dataobj)
    assert np.count_nonzero(differ) <= 1e-3 * differ.size
