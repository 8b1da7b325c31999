"""`medseg convert` as a user meets it: what it prints, what it writes, what it refuses."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
import written_dicom as dicom

from medseg import __version__
from medseg.analysis.cost import count_parameters
from medseg.cli.convert import main
from medseg.conversion import rewriting
from medseg.data.preprocess import Preprocessing, ZScore
from medseg.errors import ResourceError
from medseg.models import weights
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, load_model, save_model

from ..models.networks import block, unet
from .user import User

SaveScan = Callable[..., Path]
Say = Callable[..., tuple[int, str, str]]


def save_run(folder: Path, **blocks: Any) -> Path:
    torch.manual_seed(3)
    shape = {"in_channels": 1, "channels": (4, 8), "strides": (1, 2)}
    description = unet(3, **shape, **blocks)
    card = ModelCard(
        network=description,
        preprocessing=Preprocessing(intensity=ZScore(), spatial_dims=3).describe(),
        dataset="Phantom",
        in_channels=1,
        classes=["one", "two"],
        patch_size=[16, 16, 16],
        medseg="0.0.1",
    )
    save_model(folder / "model", build_network(description), card)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return save_run(tmp_path / "my run", upsample=block("upsample.Transposed", kernel_size=3))


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Types a command; exit code, standard output, standard error."""

    def _say(*words: object) -> tuple[int, str, str]:
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else -1
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return code, said.out, said.err

    return _say


def labels(folder: Path) -> np.ndarray:
    return np.asanyarray(nib.load(folder / "scan.nii.gz").dataobj)


def test_predictions_of_the_converted_model_are_the_same(
    run: Path, say: Say, user: User, save_scan: SaveScan, scan: np.ndarray, tmp_path: Path
) -> None:
    converted = tmp_path / "converted, with spaces"
    code, out, err = say(run, "-o", converted, "--upsample", "pixel_shuffle")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == str(converted)
    source = save_scan(scan)
    predicted = []
    for model in (run, converted):
        user.output = tmp_path / f"labels of {model.name}"
        assert user.types(source, model=model) == 0
        predicted.append(labels(user.output))
    assert np.array_equal(*predicted)
    assert len(np.unique(predicted[0])) > 1


def test_the_card_keeps_all_but_the_network(run: Path, say: Say, tmp_path: Path) -> None:
    assert say(run, "-o", tmp_path / "new", "--upsample", "pixel_shuffle")[0] == 0
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        ".medseg.json",
        "model.json",
        "weights.safetensors",
    ]
    before, after = (load_model(path).card.plain() for path in (run, tmp_path / "new"))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {"network", "medseg"}
    assert after["medseg"] == __version__
    assert after["network"]["decoder"]["upsample"] == {
        "name": "blocks.upsample.PixelShuffle",
        "kernel_size": 3,
        "blur": False,
    }


def test_it_says_what_was_rewritten_and_how_far_the_networks_lie_apart(
    run: Path, say: Say, save_scan: SaveScan, scan: np.ndarray, tmp_path: Path
) -> None:
    source = save_scan(scan, "a b.nii.gz")
    wanted = ("--upsample", "pixel_shuffle", "--verify-on", source)
    code, out, _ = say(run, "-o", tmp_path / "new", *wanted)
    assert code == 0
    head, _, row, empty, size, patch, odd, volume, folder = out.splitlines()
    assert head == "| layer | was | is | largest difference |"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["decoder.upsamples.0", "Transposed(kernel_size=3)"]
    assert cells[2].startswith("PixelShuffle(kernel_size=3, ")
    assert float(cells[3]) < 1e-5
    assert empty == ""
    before, after = (
        count_parameters(load_model(folder).network) for folder in (run, tmp_path / "new")
    )
    assert size == f"weights: {before:,} before, {after:,} now"
    assert after > before
    for line, grid in ((patch, "16×16×16"), (odd, "15×15×15")):
        found = re.fullmatch(
            rf"logits of noise, {grid} voxels, fp32: largest difference (.*)", line
        )
        assert float(found[1]) < 1e-4
    found = re.fullmatch(
        rf"{source}: 0 of {scan.size} voxels change their label, "
        r"largest difference of a probability (.*)",
        volume,
    )
    assert float(found[1]) < 1e-5
    assert folder == str(tmp_path / "new")


def test_a_volume_lies_as_in_a_dataset(run: Path, say: Say, scan: np.ndarray, tmp_path) -> None:
    for number, case in enumerate(("p1", "p2")):
        slices = dicom.ct_series((scan + number).astype(np.uint16))
        dicom.save(slices, tmp_path / "data" / case / "series")
    wanted = ("--upsample", "pixel_shuffle", "--verify-on", tmp_path / "data")
    code, out, _ = say(run, "-o", tmp_path / "new", *wanted)
    assert code == 0
    assert out.splitlines()[-2] == "2 volumes: 0 voxels change their label"


def test_several_slots_at_once(say: Say, tmp_path: Path) -> None:
    blocks = {"conv": "conv.Dilated", "upsample": "upsample.BedOfNails"}
    run = save_run(tmp_path / "run", **{slot: block(name) for slot, name in blocks.items()})
    wanted = ("--upsample", "pixel_shuffle", "--conv", "standard")
    code, out, _ = say(run, "-o", tmp_path / "new", *wanted)
    assert code == 0
    assert "| Dilated(kernel_size=3, dilation=2) | Standard(kernel_size=5) |" in out
    assert "| BedOfNails() | PixelShuffle(kernel_size=1, " in out
    code, _, err = say(tmp_path / "new", "-o", tmp_path / "newer", *wanted)
    assert code == 2
    assert "every layer is upsample=pixel_shuffle and conv=standard already" in err


def test_a_layer_that_stays_is_named(say: Say, tmp_path: Path) -> None:
    run = save_run(
        tmp_path / "run", upsample=block("upsample.Interpolate"), conv=block("conv.Grouped")
    )
    wanted = ("--upsample", "pixel_shuffle", "--conv", "standard")
    code, out, _ = say(run, "-o", tmp_path / "new", *wanted)
    assert code == 0
    assert "decoder.upsamples.0 stays Interpolate(mode='linear'): linear interpolation" in out


class TestRefused:
    def test_nothing_to_rewrite_is_a_wrong_command(self, run: Path, say: Say, tmp_path) -> None:
        code, _, err = say(run, "-o", tmp_path / "new")
        assert code == 2
        assert "nothing to rewrite; give --upsample, --conv, --downsample" in err

    def test_a_layer_without_an_equivalent_leaves_nothing_behind(self, say, tmp_path) -> None:
        run = save_run(tmp_path / "run", conv=block("conv.Deformable"))
        wanted = ("--upsample", "pixel_shuffle", "--conv", "standard")
        code, out, err = say(run, "-o", tmp_path / "new", *wanted)
        assert (code, out) == (2, "")
        assert err.startswith("error: encoder.stages.1.0.0: Deformable(")
        assert not (tmp_path / "new").exists()

    def test_an_existing_model_unless_medseg_wrote_it_or_it_may_be_replaced(
        self, run, say, tmp_path
    ) -> None:
        wanted = ("-o", tmp_path / "new", "--upsample", "pixel_shuffle")
        assert say(run, *wanted)[0] == say(run, *wanted)[0] == 0
        (tmp_path / "new" / "model.json").write_text("mine")
        code, _, err = say(run, *wanted)
        assert code == 2
        assert "--overwrite" in err
        assert (tmp_path / "new" / "model.json").read_text() == "mine"
        (tmp_path / "new" / "notes.txt").write_text("mine")
        assert say(run, *wanted, "--overwrite")[0] == 0
        assert load_model(tmp_path / "new")
        assert (tmp_path / "new" / "notes.txt").read_text() == "mine"

    @pytest.mark.parametrize(
        "place", ["", "model", "model/below", "checkpoints", "b/..", "../link"]
    )
    def test_the_run_itself(self, place: str, run: Path, say: Say) -> None:
        (run.parent / "link").symlink_to(run / "model")
        before = (run / "model" / "model.json").read_bytes()
        code, _, err = say(run, "-o", run / place, "--upsample", "pixel_shuffle", "--overwrite")
        assert code == 3
        assert "holds the network that is converted" in err
        assert (run / "model" / "model.json").read_bytes() == before

    def test_another_run_and_a_file(self, run: Path, say: Say, tmp_path: Path) -> None:
        other = save_run(tmp_path / "other")
        assert say(run, "-o", other, "--upsample", "pixel_shuffle", "--overwrite")[0] == 3
        (tmp_path / "file").write_text("mine")
        assert say(run, "-o", tmp_path / "file", "--upsample", "pixel_shuffle")[0] == 4
        assert (tmp_path / "file").read_text() == "mine"

    def test_a_model_folder_but_not_its_neighbour(self, run, say, tmp_path) -> None:
        alone = tmp_path / "alone"
        shutil.copytree(run / "model", alone)
        assert say(alone, "-o", alone, "--upsample", "pixel_shuffle", "--overwrite")[0] == 3
        assert say(alone, "-o", tmp_path / "beside", "--upsample", "pixel_shuffle")[0] == 0

    @pytest.mark.parametrize("content", [None, b"no volume"])
    def test_a_volume_that_cannot_be_used(self, content, run, say, tmp_path) -> None:
        image = tmp_path / "scan.nii.gz"
        if content:
            image.write_bytes(content)
        wanted = ("--upsample", "pixel_shuffle", "--verify-on", image)
        code, _, err = say(run, "-o", tmp_path / "new", *wanted)
        assert code == 3
        assert err.startswith(f"error: {image}: ")
        assert not (tmp_path / "new").exists()

    def test_no_model(self, say: Say, tmp_path: Path) -> None:
        code, _, err = say(tmp_path, "-o", tmp_path / "new", "--conv", "standard")
        assert code == 3
        assert "holds no model" in err

    def test_a_full_disk_leaves_nothing_behind(self, run, say, tmp_path, monkeypatch) -> None:
        def full(*_: object) -> None:
            raise ResourceError("cannot write: no space left")

        monkeypatch.setattr(weights, "sha256", full)
        code, _, err = say(run, "-o", tmp_path / "new", "--upsample", "pixel_shuffle")
        assert (code, err) == (4, "error: cannot write: no space left\n")
        assert sorted(p.name for p in tmp_path.iterdir()) == [run.name]


def test_the_weights_that_are_written_are_those_that_were_compared(
    run: Path, say: Say, tmp_path: Path
) -> None:
    assert say(run, "-o", tmp_path / "new", "--upsample", "pixel_shuffle")[0] == 0
    old, new = load_model(run).network, load_model(tmp_path / "new").network
    x = torch.randn(1, 1, 15, 17, 13)
    with torch.no_grad():
        torch.testing.assert_close(new(x), old(x))
    digest = json.loads((tmp_path / "new" / "model.json").read_text())["weights_sha256"]
    assert digest == load_model(tmp_path / "new").sha256


def test_an_interruption_leaves_nothing_behind(
    run: Path, say: Say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rewriting, "largest_difference", interrupted)
    code, _, err = say(run, "-o", tmp_path / "new", "--upsample", "pixel_shuffle")
    assert (code, err) == (130, "stopped; nothing was written\n")
    assert not (tmp_path / "new").exists()
