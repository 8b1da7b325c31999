"""`medseg reach`: the overrides it prints, put back in, see what it says."""

import shlex

import pytest

from medseg.analysis.cost import Load, abstract_network
from medseg.analysis.field_search import as_it_is, changes
from medseg.analysis.receptive_field import receptive_field
from medseg.cli.compose import described
from medseg.cli.reach import _replaced, main
from medseg.models.description import build_network

SMALL = [
    "model.encoder.channels=[2,4]",
    "model.encoder.strides=[1,2]",
    "model.encoder.depths=1",
]
PATCH = ["--patch-size", "48", "48"]


def rows(text: str) -> list[list[str]]:
    lines = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip(" `") for cell in cells] for cells in lines[2:]]


def extents(overrides: list[str], spacing: tuple[float, float]) -> str:
    fields = receptive_field(build_network(described("train", "model", *overrides)), 1, (48, 48))
    return " × ".join(
        f"{field.smallest * mm:g}" for field, mm in zip(fields, spacing, strict=True) if field
    )


def test_the_printed_overrides_give_the_printed_reach(capsys: pytest.CaptureFixture[str]) -> None:
    own = [*SMALL, "conv@model.encoder.conv=grouped", "model.encoder.conv.groups=2"]
    assert main(["24", "12", "--spacing", "1", "0.5", *own, *PATCH]) == 0
    text = capsys.readouterr().out
    base, *candidates = rows(text)
    assert base[:2] == ["as it is", extents(own, (1, 0.5))]
    assert len(candidates) >= 4
    for _, extent, *_, added in candidates:
        assert extents(_replaced(own, shlex.split(added)), (1, 0.5)) == extent
    *_, command = text.splitlines()
    assert shlex.split(command) == [
        "medseg",
        "train",
        *_replaced(own, shlex.split(candidates[0][-1])),
    ]


@pytest.mark.parametrize(
    ("turn", "model"), [*enumerate(["resenc_unet", "unet_3_plus", "unet_plus_plus", "mednext"])]
)
def test_overrides_of_every_kind_give_the_network_that_is_told(turn: int, model: str) -> None:
    own = [f"model={model}"]
    load = Load(in_channels=1, patch_size=(128, 128))
    base = as_it_is(described("train", "model", *own), (1.0, 1.0), load)
    for options in list(changes(base).values())[turn % 2 :: 2]:  # each in two of the networks
        for change in list(options)[-1:]:
            composed = described("train", "model", *_replaced(own, change.overrides))
            told, found = (
                [(name, p.shape) for name, p in abstract_network(network).named_parameters()]
                for network in (change.description, composed)
            )
            assert told == found


def test_what_is_reached_already_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["5", "--spacing", "1", *SMALL, *PATCH]) == 0
    text = capsys.readouterr().out
    sees = int(extents(SMALL, (1, 1)).partition(" ")[0])
    assert f"reached: 5 × 5 mm wanted, {sees - 5} × {sees - 5} mm to spare" in text
    assert len(rows(text)) == 1


def test_what_is_not_reached_is_said_and_seen_from_the_exit_code(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["100", "--patch-size", "112", "112", "--spacing", "1", "model=monai_unet"]
    assert main(words) == 1
    assert "not reached: 100 × 100 mm; only a U-Net can be changed" in capsys.readouterr().out


def test_the_spacing_of_the_data_is_the_default_and_a_slice_has_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = ["data=prostate", "data.spatial_dims=2"]
    assert main(["5", *own, *SMALL, *PATCH]) == 0
    sees = int(extents(SMALL, (1, 1)).partition(" ")[0]) * 0.62
    assert rows(capsys.readouterr().out)[0][1] == f"{sees:g} × {sees:g}"


def test_what_is_set_anew_is_not_given_twice() -> None:
    old = [
        "model=unet",
        "+conv@model.encoder.conv=grouped",
        "model.encoder.conv.groups=2",
        "seed=1",
    ]
    assert _replaced(old, ["conv@model.encoder.conv=large_kernel"]) == [
        "model=unet",
        "seed=1",
        "conv@model.encoder.conv=large_kernel",
    ]
    mirrored = ["model.encoder.channels=[1,2]", "model.decoder.channels=[1,2]"]
    assert _replaced(mirrored, ["model.encoder.channels=[3,4]"]) == ["model.encoder.channels=[3,4]"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["24"], "data.spacing=null keeps each case's own spacing"),
        (["0", "--spacing", "1"], "extent=0 mm must be positive"),
        (["nan", "--spacing", "1"], "extent=nan mm must be positive"),
        (["-3", "--spacing", "1"], "extent=-3 mm must be positive"),
        (["24", "--spacing", "0"], "spacing=0 mm must be positive"),
        (["24", "24", "24", "--spacing", "1"], "extent=24 × 24 × 24 has 3 numbers"),
        (["model=unet", "--spacing", "1"], "extent=nothing has 0 numbers"),
        (["24", "--spacing", "1", "1", "1"], "spacing=1 × 1 × 1 has 3 numbers"),
        (["24", "--spacing", "1", "nonsense=1"], "nonsense: there is no such key"),
        (["900", "--spacing", "1"], "choose data.patch_size=[912, 912]"),
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
