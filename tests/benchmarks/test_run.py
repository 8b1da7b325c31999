"""What a benchmark measures, and that both files tell the same."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import _parser, _request
from benchmarks.columns import time_text, time_title
from benchmarks.networks import _basic, _dynunet, _like_basic, _like_dynunet
from benchmarks.request import GROUPS, Request
from benchmarks.run import JSON, MARKDOWN, run
from benchmarks.sizes import MIDDLE, PLANES, VOLUMES, chosen
from medseg.analysis.cost import count_macs, count_parameters
from medseg.analysis.timing_results import STEP, Series
from medseg.errors import ConfigError, ResourceError

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = {
    "convolutions": "conv",
    "units": "unit",
    "downsamplings": "downsample",
    "upsamplings": "upsample",
    "networks": "model",
}
CHANNELS = 16  # of quick


def options(folder: str) -> set[str]:
    return {path.stem for path in (CONFIGS / folder).glob("*.yaml")}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a quick benchmark of everything."""
    folder = tmp_path_factory.mktemp("bench")
    argv = ["--quick", "--threads", "1", "-o", str(folder)]
    lines: list[str] = []
    run(_request(_parser().parse_args(argv), argv), say=lines.append)
    assert [line.split("] ")[1].split(":")[0] for line in lines] == list(GROUPS)
    return folder


@pytest.fixture(scope="module")
def content(done: Path) -> dict[str, Any]:
    return json.loads((done / JSON).read_text(encoding="utf-8"))


def group(content: dict[str, Any], slug: str) -> list[dict[str, Any]]:
    return next(g["cases"] for g in content["groups"] if g["slug"] == slug)


def rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for g in content["groups"] for case in g["cases"] for row in case["rows"]]


def test_every_group_is_there_and_the_file_says_that_it_is_quick(content: dict[str, Any]) -> None:
    assert [g["slug"] for g in content["groups"]] == list(GROUPS)
    assert content["quick"] is True
    assert content["complete"] is True
    assert set(content["machine"]["versions"]) == {"python", "torch", "monai", "medseg"}


@pytest.mark.parametrize("slug", FOLDERS)
def test_every_option_is_measured_in_both_dimensions(content: dict[str, Any], slug: str) -> None:
    cases = group(content, slug)
    assert [case["input"][:3] for case in cases] in (["2-D", "3-D"], ["3-D", "2-D"])
    for case in cases:
        assert {row["name"] for row in case["rows"]} == options(FOLDERS[slug])


def test_everything_could_be_measured(content: dict[str, Any]) -> None:
    for row in rows_of(content):
        assert row["notes"] == []
        assert row["peak_memory_bytes"] > 0
        works = {(s["work"], s["precision"]) for s in row["series"]}
        assert {("forward", p) for p in content["precisions"]} < works
        for series in row["series"]:
            assert len(series["samples_milliseconds"]) == 1


def test_depthwise_gradients_are_measured_each_by_itself(content: dict[str, Any]) -> None:
    for case in group(content, "depthwise"):
        assert [row["name"] for row in case["rows"]] == ["torch", "medseg"]
        for row in case["rows"]:
            works = {series["work"] for series in row["series"]}
            assert works == {"forward", "input gradient", "weight gradient", STEP}
        layouts = {series["layout"] for series in case["rows"][0]["series"]}
        assert layouts == {"contiguous", "channels last"}


@pytest.mark.parametrize("slug", ["separable", "convolutions"])
def test_separable_mac_ratio_is_the_closed_form(content: dict[str, Any], slug: str) -> None:
    for case in group(content, slug):
        taps = 3 ** int(case["input"][0])
        row = next(row for row in case["rows"] if row["name"].startswith("depthwise_separable"))
        assert row["mac_ratio"] == pytest.approx(taps * CHANNELS / (taps + CHANNELS))


def test_the_mac_ratio_of_convolutions_is_that_of_their_weights(content: dict[str, Any]) -> None:
    ratios = {"standard": lambda k, d: 1, "dilated": lambda k, d: 1, "grouped": lambda k, d: 4}
    ratios |= {"pointwise": lambda k, d: k, "spatially_separable": lambda k, d: k / (3 * d)}
    for case in group(content, "convolutions"):
        dims = int(case["input"][0])
        found = {row["name"]: row["mac_ratio"] for row in case["rows"]}
        for name, ratio in ratios.items():
            assert found[name] == pytest.approx(ratio(3**dims, dims)), name


def test_depthwise_macs_are_taps_times_voxels(content: dict[str, Any]) -> None:
    for case in group(content, "depthwise"):
        dims, kernel = int(case["input"][0]), int(case["input"].split()[-1])
        for row in case["rows"]:
            assert row["macs"] == CHANNELS * kernel**dims * 8**dims


def test_markdown_shows_the_medians_of_the_json(done: Path, content: dict[str, Any]) -> None:
    text = (done / MARKDOWN).read_text(encoding="utf-8")
    for part in content["groups"]:
        section = text.split(f"\n## {part['title']}\n")[1].split("\n## ")[0]
        header, _, *body = [line.strip("| ").split(" | ") for line in table(section)]
        rows = [row for case in part["cases"] for row in case["rows"]]
        assert len(body) == len(rows)
        for cells, row in zip(body, rows, strict=True):
            shown = dict(zip(header, cells, strict=True))
            assert shown["candidate"] == row["name"]
            for own in best_series(row):
                cell = shown[time_title(own.work, own.precision)]
                assert cell == time_text(own)
                assert float(cell.split()[0]) == pytest.approx(own.median_milliseconds, rel=1e-3)


def table(section: str) -> list[str]:
    return [line for line in section.splitlines() if line.startswith("|")]


def best_series(row: dict[str, Any]) -> list[Series]:
    return [
        Series(s["work"], s["precision"], s["layout"], tuple(s["samples_milliseconds"]))
        for s in row["series"]
        if s["layout"] == row["best_layout"][s["precision"]]
    ]


def test_every_column_is_explained(done: Path) -> None:
    sections = (done / MARKDOWN).read_text(encoding="utf-8").split("\n## ")[1:]
    for section in sections:
        for title in table(section)[0].strip("| ").split(" | "):
            assert f"**{title}**" in section


@pytest.mark.parametrize("dims", [2, 3])
def test_basic_unet_and_its_partner_cost_the_same(dims: int) -> None:
    size = (32,) * dims
    theirs, ours = _basic(dims), _like_basic(dims)
    assert count_parameters(theirs) == count_parameters(ours)
    assert count_macs(theirs, 1, size) == count_macs(ours, 1, size)


@pytest.mark.parametrize("dims", [2, 3])
def test_dynunet_and_its_partner_have_as_many_convolutions(dims: int) -> None:
    kinds = (torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
    theirs, ours = (
        sum(isinstance(module, kinds) for module in network.modules())
        for network in (_dynunet(dims), _like_dynunet(dims))
    )
    assert theirs == ours


def test_the_real_sizes_are_those_of_the_documentation() -> None:
    assert [p.label for p in MIDDLE] == [
        "3-D, 64 ch, 32×32×32, batch 2",
        "2-D, 64 ch, 128×128, batch 4",
    ]
    assert len(chosen([*VOLUMES, *PLANES], (3,), quick=False)) == 4
    assert len(chosen([*VOLUMES, *PLANES], (2, 3), quick=True)) == 2
    assert all(math.prod(p.size) == p.voxels for p in VOLUMES)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"groups": ("speed",)}, "no group"),
        ({"dims": (4,)}, "must be 2 or 3"),
        ({"rounds": 0}, "rounds=0"),
        ({"threads": 0}, "threads=0"),
        ({"device": "tpu"}, "must be one of"),
    ],
)
def test_an_impossible_request_is_refused(tmp_path: Path, wrong: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        run(Request(blocks={}, networks={}, output=tmp_path, command="", **wrong))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="sees 0 GPUs"):
        run(Request(blocks={}, networks={}, output=tmp_path, command="", device="cuda"))
