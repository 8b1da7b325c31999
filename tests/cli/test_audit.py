"""`medseg audit` as a user calls it."""

import json
import re
from pathlib import Path

import pytest

from medseg.cli.audit import main

MONAI = """
name: monai.DynUNet
spatial_dims: 2
in_channels: 1
out_channels: 2
kernel_size: [3, 3, 3]
strides: [1, 2, 2]
upsample_kernel_size: [2, 2]
filters: [4, 8, 8]
"""
TINY = ["model.encoder.channels=[4,8]", "model.encoder.strides=[1,2]", "model.encoder.depths=1"]


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "my net.yaml"
    path.write_text(MONAI)
    return path


def refused(capsys, *argv: object) -> str:
    """The one line that is said of a call that fails for its arguments."""
    assert main([str(argument) for argument in argv]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_a_configuration_whose_weights_are_untrained_is_audited_alike_each_time(
    capsys, tmp_path
) -> None:
    folder = tmp_path / "an audit"
    options = ["--patch-size", "32", "24", "--spacing", "1", "2", "--batch", "2"]
    assert main([*TINY, *options, "-o", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"# {' '.join(TINY)}" in said
    assert "| input | 1 channels, 32 × 24 voxels |" in said
    assert "## Memory, batch 2" in said
    assert "## Layers" not in said
    text = (folder / "audit.json").read_text()
    content = json.loads(text)
    assert content["upsamplings"]
    assert content["spacing"] == [1.0, 2.0]
    assert f"| multiply-accumulates | {content['totals']['macs']:,} |" in said
    assert main([*TINY, *options, "-o", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again/audit.json").read_text() == text


def test_layers_and_the_effective_field_on_demand(capsys) -> None:
    assert main([*TINY, "--patch-size", "16", "16", "--layers", "--effective"]) == 0
    said = capsys.readouterr().out
    assert "| encoder.stem.0 | `Conv2d(1, 4," in said
    assert "## Effective receptive field" in said


def test_a_trained_network(make_model, capsys) -> None:
    assert main(["--model", str(make_model())]) == 0
    assert "| input | 1 channels, 16 × 16 × 16 voxels |" in capsys.readouterr().out


def test_a_network_of_a_file(net, capsys) -> None:
    assert main(["--network", str(net), "--patch-size", "16", "32"]) == 0
    said = capsys.readouterr().out
    assert "# monai.DynUNet" in said
    assert "multiples of 4 from 4" in said


def test_a_size_that_does_not_fit_names_layer_and_size(net, capsys) -> None:
    said = refused(capsys, "--network", net, "--patch-size", 30, 32)
    assert "upsamples.0" in said
    assert "choose for instance [32, 32]" in said


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["model.encoder.chanels=[4,8]"], "chanels"),
        (["conv@model.encoder.conv=dilatted"], "dilatted"),
        (
            ["--spacing", "1", "2", "3"],
            r"--spacing=\[1.0, 2.0, 3.0\] must have one number for each",
        ),
        (["--network", "nowhere.yaml", "--patch-size", "8"], "nowhere.yaml: cannot be read"),
    ],
)
def test_bad_input_gets_one_line(argv, message, capsys) -> None:
    assert re.search(message, refused(capsys, *argv))


def test_a_network_needs_a_patch_size(net, capsys) -> None:
    assert "--patch-size 64 64 64" in refused(capsys, "--network", net)


def test_only_one_source(net, capsys) -> None:
    assert "choose one" in refused(capsys, "--network", net, "model=unet")


@pytest.mark.parametrize("content", ["[1, 2", "- 1", "name: monai.NoSuchNet", "name: os.system"])
def test_a_file_that_holds_no_network(content, tmp_path, capsys) -> None:
    path = tmp_path / "net.yaml"
    path.write_text(content)
    assert refused(capsys, "--network", path, "--patch-size", 16, 16).startswith("error: ")


@pytest.mark.parametrize("argv", [["--patch-size", "0"], ["--spacing", "-1"], ["--batch", "0"]])
def test_numbers_out_of_range_are_usage_errors(argv, capsys) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    assert "must be" in capsys.readouterr().err


def test_a_description_is_not_replaced_by_what_is_said_of_it(tmp_path, capsys) -> None:
    source = tmp_path / "audit.json"
    network = {"name": "monai.BasicUNet", "spatial_dims": 2, "features": [4, 4, 4, 4, 4, 4]}
    source.write_text(json.dumps(network))
    words = ["--network", str(source), "--patch-size", "32", "32", "-o", str(tmp_path)]
    assert main([*words, "--overwrite"]) == 2
    assert json.loads(source.read_text()) == network
    assert "audit.json" in capsys.readouterr().err
