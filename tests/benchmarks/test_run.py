"""What a benchmark measures, and that both files tell the same."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.__main__ import GROUPS, JSON, MARKDOWN, OF_VOLUMES, main
from benchmarks.candidates import STEP
from benchmarks.document import time_text, time_title
from benchmarks.measure import Case, Row, Series
from benchmarks.networks import _basic, _dynunet, _like_basic, _like_dynunet
from medseg.analysis.cost import count_macs, count_parameters

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
    """The folder of a quick benchmark of everything, in 2-D."""
    folder = tmp_path_factory.mktemp("bench")
    threads = torch.get_num_threads()
    argv = ["--quick", "--dims", "2", "--threads", "1", "--device", "cpu", "-o", str(folder)]
    assert main(argv) == 0
    torch.set_num_threads(threads)
    return folder


@pytest.fixture(scope="module")
def content(done: Path) -> dict[str, Any]:
    return json.loads((done / JSON).read_text(encoding="utf-8"))


def group(content: dict[str, Any], slug: str) -> list[dict[str, Any]]:
    return next(g["cases"] for g in content["groups"] if g["slug"] == slug)


def rows_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for g in content["groups"] for case in g["cases"] for row in case["rows"]]


def test_every_group_is_there_and_the_file_says_that_it_is_quick(content: dict[str, Any]) -> None:
    flat = [slug for slug in GROUPS if slug not in OF_VOLUMES]
    assert [g["slug"] for g in content["groups"]] == flat
    assert content["quick"] is True
    assert content["complete"] is True
    assert set(content["machine"]["versions"]) == {"python", "torch", "monai", "medseg"}


@pytest.mark.parametrize("slug", FOLDERS)
def test_every_option_is_measured(content: dict[str, Any], slug: str) -> None:
    (case,) = group(content, slug)
    assert {row["name"] for row in case["rows"]} == options(FOLDERS[slug])


def test_volumes_are_measured_too(tmp_path: Path) -> None:
    slugs = ["depthwise", "single", "upsamplings"]
    argv = ["--quick", "--dims", "3", "-o", str(tmp_path), "--only", *slugs]
    assert main(argv) == 0
    found = json.loads((tmp_path / JSON).read_text(encoding="utf-8"))
    assert [g["slug"] for g in found["groups"]] == slugs
    assert {case["input"][:3] for g in found["groups"] for case in g["cases"]} == {"3-D"}


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
    head, *sections = (done / MARKDOWN).read_text(encoding="utf-8").split("\n## ")
    explained = tuple(line.split(" | ")[0].strip("| ") for line in table(head)[2:])
    for section in sections:
        for title in table(section)[0].strip("| ").split(" | "):
            assert title.startswith(explained)


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


def series(*samples: float, work: str = STEP, layout: str = "contiguous") -> Series:
    return Series(work, "fp32", layout, samples)


def test_median_and_spread_are_those_of_the_samples() -> None:
    own = series(4.0, 1.0, 3.0, 2.0, 5.0)
    assert own.median_milliseconds == 3
    assert own.spread == pytest.approx((4 - 2) / 3)
    assert series(7.0).spread == 0


def test_the_faster_layout_by_the_whole_step_is_shown() -> None:
    row = Row(
        name="native",
        batch=1,
        series=(
            series(5.0),
            series(4.0, layout="channels last"),
            series(1.0, work="forward"),
            series(2.0, work="forward", layout="channels last"),
        ),
    )
    assert row.best_layout("fp32") == "channels last"
    best = row.best("forward", "fp32")
    assert best is not None
    assert best.samples_milliseconds == (2.0,)
    assert row.best_layout("bf16") is None


def test_figures_follow_their_definitions() -> None:
    reference = Row(name="standard", batch=2, series=(series(12.0),), macs=6_000_000_000)
    row = Row(name="cheap", batch=2, series=(series(4.0),), macs=1_000_000_000)
    case = Case("size", "standard", (reference, row))
    assert case.speed_up(row, "fp32") == 3
    assert case.speed_up(row, "bf16") is None
    assert case.mac_ratio(row) == 6
    assert case.realised_saving(row, "fp32") == 0.5
    assert case.milliseconds_per_gmac(row, "fp32") == 2
    assert case.speed_up(reference, "fp32") == 1


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "speed"], "choose from"),
        (["--rounds", "0"], "0 must be at least 1"),
        (["--dims", "4"], "choose from"),
    ],
)
def test_a_wrong_word_is_a_usage_error(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as leaving:
        main(argv)
    assert leaving.value.code == 2
    assert words in capsys.readouterr().err


def test_a_file_in_the_way_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert main(["--quick", "--only", "pairs", "--output", str(tmp_path / "file" / "out")]) == 4
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: cannot write")
