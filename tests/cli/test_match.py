"""`medseg match`: what it prints is what the override it prints gives."""

import re

import pytest

from medseg.analysis import match as matching
from medseg.analysis.cost import Load, costs
from medseg.cli.compose import described
from medseg.cli.match import main

SMALL = ["model.encoder.channels=[8,16]", "model.encoder.strides=[1,2]"]
SEPARABLE = [f"conv@model.{half}.conv=depthwise_separable" for half in ("encoder", "decoder")]
LOAD = Load(in_channels=1, patch_size=(16, 16), batch=1)
PATCH = ["--patch-size", "16", "16", "--batch", "1"]


def rows(text: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return {name: cells for name, *cells in lines[2:]}


def test_the_printed_override_gives_the_printed_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*SEPARABLE, *SMALL, "--equal", "parameters", *PATCH, "--like", *SMALL]
    assert main(words) == 0
    text = capsys.readouterr().out
    override = text.splitlines()[-1]
    assert re.fullmatch(r"model\.encoder\.channels=\[\d+,\d+\]", override)
    table = rows(text)
    assert list(table) == ["reference", "before", "after"]
    arms = {
        "reference": SMALL,
        "before": [*SEPARABLE, *SMALL],
        "after": [*SEPARABLE, SMALL[1], override],
    }
    for name, overrides in arms.items():
        own = costs(described("train", "model", *overrides), LOAD)
        memory = f"{own['memory'] / 2**20:,.1f}"
        assert table[name][1:] == [f"{own['parameters']:,}", f"{own['macs']:,}", memory]
    assert f"parameters: {table['after'][1]}, wanted {table['reference'][1]}: " in text


def test_a_network_of_monai_has_its_own_key_and_the_default_is_the_reference(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["model=monai_dynunet", "--multiple-of", "4", *PATCH]
    assert main([*words, "--equal", "parameters", "--tolerance", "0.02"]) == 0
    text = capsys.readouterr().out
    override = text.splitlines()[-1]
    assert override.startswith("model.network.filters=[")
    assert "in multiples of 4" in text
    network = described("train", "model", "model=monai_dynunet", override)
    table = rows(text)
    assert table["after"][1] == f"{costs(network, LOAD)['parameters']:,}"
    reference = costs(described("train", "model"), LOAD)
    assert table["reference"][1] == f"{reference['parameters']:,}"


def test_widths_that_the_decoder_has_of_its_own_are_printed_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = [*SMALL, "model.decoder.channels=[8,16]", "conv@model.encoder.conv=dilated"]
    like = ["model.encoder.channels=[16,32]", SMALL[1]]
    assert main([*own, *PATCH, "--equal", "macs", "--like", *like]) == 0
    override = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(r"model\.encoder\.channels=(\S+) model\.decoder\.channels=\1", override)


def test_overrides_may_follow_a_double_dash(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*PATCH, "--like", *SMALL, "--", *SMALL]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == SMALL[0]


def test_latency_is_measured_on_the_device_that_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "cpu_milliseconds", lambda call: 3.0)
    assert main([*SMALL, *PATCH, "--equal", "latency", "--device", "cpu", "--like", *SMALL]) == 0
    assert "latency: 3.00 ms, wanted 3.00 ms: +0.00%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--like", "data=phantom"], "the networks see different patches"),
        (["nonsense=1"], "nonsense"),
        (["--multiple-of", "0"], "multiple_of=0 must be a whole number"),
        (["--tolerance", "2"], "tolerance=2.0 must lie in"),
        (["--patch-size", "0", "16"], "data.patch_size=[0, 16]"),
        (["--batch", "0"], "must be at least 1"),
        (["--patch-size", "16"], "data.patch_size=[16]"),
        (
            ["--like", *SMALL, "model.encoder.depths=1", "--multiple-of", "64"],
            "smallest widths [64, 64, 64, 64]",
        ),
    ],
)
def test_an_impossible_request_is_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert said.out == ""
