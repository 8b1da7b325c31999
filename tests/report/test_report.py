"""What a reader finds in the report: facts by hand, gaps by name."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from medseg.errors import ConfigError, DataError
from medseg.record import RunRecord
from medseg.report import write, write_report
from medseg.report.study import collect

from .pages import Page, line, rows, text
from .records import failed, finished, simple

pytestmark = pytest.mark.usefixtures("without_figures")
Write = Callable[..., Path]


def test_mean_spread_and_undefined_of_one_run(runs: Write, tmp_path: Path) -> None:
    folder = runs(simple({"a": 0.8, "b": 0.9, "c": None}))
    report = write_report([folder], tmp_path / "report.html")
    # mean 0.85, SD (n-1) of 0.8 and 0.9 is 0.0707
    assert "0.850 ± 0.071 (n 2, 1 undefined)" in line(report, "| plain | 1 |")
    assert [row["value"] for row in rows(report)] == ["0.8", "0.9", ""]


def test_seeds_are_averaged_before_the_spread_over_cases(runs: Write, tmp_path: Path) -> None:
    folder = runs(simple({"a": 0.5, "b": 0.9}, seed=0), simple({"a": 0.9, "b": 0.5}, seed=1))
    report = write_report([folder], tmp_path / "report.html")
    # Every case has mean 0.7, so the spread over cases is 0; the four values alone have 0.231.
    assert "0.700 ± 0.000 (n 2)" in line(report, "| plain | 2 |")


def test_classes_are_averaged_within_the_case(runs: Write, tmp_path: Path) -> None:
    record = simple({"a": 0.0, "b": 0.0}, classes=["one", "two"])
    metrics = [
        {"one": {"dice": 0.6, "hd95_mm": 2.0}, "two": {"dice": 0.8, "hd95_mm": 4.0}},
        {"one": {"dice": None, "hd95_mm": None}, "two": {"dice": 0.5, "hd95_mm": 1.0}},
    ]
    cases = [replace(c, metrics=m) for c, m in zip(record.cases, metrics, strict=True)]
    report = write_report([runs(replace(record, cases=cases))], tmp_path / "report.html")
    arm = line(report, "| plain | 1 |")
    # cases 0.7 and 0.5, not the three values 0.6, 0.8 and 0.5
    assert "0.600 ± 0.141 (n 2, 1 undefined)" in arm
    assert "2.00 ± 1.41 (n 2, 1 undefined)" in arm
    assert "0.600 (n 1, 1 undefined)" in line(report, "| plain | one |")
    assert "0.650 ± 0.212 (n 2)" in line(report, "| plain | two |")


def test_a_class_that_is_nowhere_says_why_it_has_no_value(runs: Write, tmp_path: Path) -> None:
    report = write_report([runs(simple({"a": None, "b": None}))], tmp_path / "report.html")
    reason = "– (2 undefined: class absent from label and prediction)"
    assert reason in line(report, "| plain | 1 |")
    assert "no Dice value is defined" in text(report)


def test_the_ablation_in_the_reader_s_words(shared_ablation: Path, tmp_path: Path) -> None:
    report = write_report([shared_ablation], tmp_path / "report.html")
    arm = line(report, "| transposed | transposed | 2 | reference |")
    cells = [cell.strip() for cell in arm.strip("|").split("|")]
    # the worse of two layers; seeds 0.083 and 0.0913; 60 × 12 × 4 × 0.412 s
    assert cells[7:] == [
        "0.684",
        "0.0872 (0.083 … 0.0913)",
        "1.47 M",
        "4.50 G (32×48×32)",
        "412 ms",
        "19 min 47 s (mean of 2 seeds)",
        "1.20 GiB",
    ]


def test_everything_without_a_result_is_named(ablation: Path, tmp_path: Path) -> None:
    failed().write(ablation / "failed")
    simple({}, status="interrupted", name="stopped", error="stopped by signal 15").write(
        ablation / "stopped"
    )
    report = write_report([ablation], tmp_path / "report.html")
    assert "groups=8 must divide in\\_channels=6" in line(
        report, "| failed | ablation\\_upsample · nearest | 1 |"
    )
    assert "not finished" in line(report, "| running | ablation\\_upsample · nearest | 0 |")
    assert "stopped by signal 15" in line(report, "| interrupted | stopped | 0 |")
    line(report, "| missing | upsampling=pixel\\_shuffle, seed=1 | 1 |")
    line(report, "| missing | upsampling=nearest, seed=1 | 1 |")
    by_status = {row["status"] for row in rows(report)}
    assert by_status == {"completed", "failed", "running", "interrupted", "missing"}


def test_what_is_without_a_result_gives_no_number(runs: Write, tmp_path: Path) -> None:
    folder = runs(
        simple({"a": 0.5, "b": 0.5}, seed=0),
        simple({"a": 0.9, "b": 0.9}, seed=1, status="interrupted"),
    )
    report = write_report([folder], tmp_path / "report.html")
    assert "0.500 ± 0.000 (n 2)" in line(report, "| plain | 1 of 2 |")


def test_a_malformed_record_is_listed_and_the_rest_reported(ablation: Path, tmp_path: Path) -> None:
    bad = {
        "cut": '{"schema": 1, "name": "x',
        "foreign": '{"artist": "x"}',
        "list": "[1, 2]",
        "deep": "[" * 100_000,
        "latin": b"\xff\xfe\x00",
        "types": (ablation / "000/record.json").read_text().replace('"seed": 0', '"seed": "x"'),
    }
    for name, content in bad.items():
        (ablation / name).mkdir()
        content = content if isinstance(content, bytes) else content.encode()
        (ablation / name / "record.json").write_bytes(content)
    report = write_report([ablation], tmp_path / "report.html")
    assert [Path(source).parent.name for source in report.unreadable] == sorted(bad)
    for name in bad:
        assert f"/{name}/record.json" in text(report)
    assert "| trilinear | trilinear" in text(report)


@pytest.mark.parametrize("content", ["{}", '{"schema": 7}'])
def test_only_malformed_records_are_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(DataError, match="not one can be read"):
        write_report([tmp_path], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no record\.json in there"):
        write_report([tmp_path], tmp_path / "report.html")
    with pytest.raises(DataError, match="no such file or folder"):
        write_report([tmp_path / "absent"], tmp_path / "report.html")


def test_files_and_overlapping_folders_are_read_once(ablation: Path, tmp_path: Path) -> None:
    sources = [ablation / "000/record.json", ablation, ablation / "000", tmp_path]
    assert len(collect(sources).runs) == 6


@pytest.mark.parametrize(
    "records",
    [
        [failed()],
        [RunRecord(name="empty", status="completed", started="")],
        [
            simple(
                {"a": math.nan},
                parameters=None,
                seconds={"step": math.nan, "train": math.inf},
                history=[{"epoch": None, "val_dice": None}, {"epoch": 1, "train_loss": 1.0}],
                patch_size=None,
            )
        ],
        [finished(), replace(finished("nearest"), pictures=[], artifacts=None, history=[])],
    ],
    ids=["failed", "empty", "no numbers", "no pictures"],
)
def test_it_renders_whatever_is_there(
    records: list[RunRecord], runs: Write, tmp_path: Path
) -> None:
    report = write_report([runs(*records)], tmp_path / "report.html")
    page = Page(report)
    assert "nan" not in re.sub(r"\W+", " ", text(report).lower()).split()
    assert ">nan<" not in page.source.lower()
    for heading in ("Arms", "Checkerboard", "Provenance", "Rules and limits"):
        assert f"## {heading}\n" in text(report)
        assert f"<h2>{heading}</h2>" in page.source
    if not any(record.status == "completed" for record in records):
        assert "No run has finished" in text(report)
        assert "no run finished" in text(report)


def test_more_arms_than_colours(runs: Write, tmp_path: Path) -> None:
    history = [{"epoch": e, "val_dice": e / 1000, "train_loss": 1.0} for e in range(100)]
    records = [
        simple({"a": 0.5 + arm / 100}, name=f"arm {arm}", seed=seed, history=history, macs=10 + arm)
        for arm in range(14)
        for seed in range(2)
    ]
    report = write_report([runs(*records)], tmp_path / "report.html")
    page = Page(report)
    assert "28 runs (28 completed) in 14 arms with 2 seeds" in text(report)
    assert len(report.arms.frame) == 14
    assert "all other arms" in page.source
    assert len(page.source) < 4_000_000


def test_an_older_report_survives_a_failure(
    runs: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, folder = tmp_path / "report.html", runs(simple({"a": 0.5}))
    files = [path for path in write_report([folder], target).files if path.is_file()]
    older = {path: path.read_bytes() for path in files}
    monkeypatch.setattr(write, "values", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report([folder], target)
    monkeypatch.undo()
    target.with_suffix(".md").write_text("edited")
    with pytest.raises(ConfigError, match=r"report\.md exists"):
        write_report([folder], target)
    older[target.with_suffix(".md")] = b"edited"
    assert {path: path.read_bytes() for path in older} == older


def test_the_name_ends_in_html(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ending in \.html"):
        write_report([tmp_path], tmp_path / "x.pdf")
