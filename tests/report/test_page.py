"""The page: nothing in it runs or loads by itself, and what it shows belongs together."""

import base64
import hashlib
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from markupsafe import escape

from medseg.record import Picture, RunRecord
from medseg.report import Report, write_report

from .pages import Page, rows, text
from .records import png, simple

Write = Callable[..., Path]


def test_text_from_records_is_never_markup(runs: Write, tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>|`*x*`"
    picture = Picture(case=evil, caption=evil, png=png())
    bogus = Picture(case="bogus", caption="", png='"><script>alert(3)</script>')
    clean = write_report([runs(simple({"a": 0.5, "b": 0.5}))], tmp_path / "clean.html")
    evils = simple(
        {evil: 0.5, "b": 0.5},
        name=evil,
        dataset=evil,
        classes=[evil],
        choices={"encoder.conv": evil},
        blocks={"encoder.conv": evil},
        overrides=[evil],
        command=[evil],
        machine={evil: evil},
        versions={evil: evil},
        split={evil: [evil]},
        pictures=[picture, bogus],
        history=[{"epoch": 1, "val_dice": 0.5}],
    )
    for record, name in ((evils, "evil"), (replace(evils, status="failed", error=evil), "fail")):
        shutil.rmtree(tmp_path / "runs")
        (tmp_path / "runs").mkdir()
        report = write_report([runs(record)], tmp_path / f"{name}.html")
        page = Page(report)
        assert len(page.of("script")) == len(Page(clean).of("script")) == 1
        assert not [a for _, a in page.tags if "onerror" in a]
        assert all(str(a["src"]).startswith("data:image/png;base64,") for a in page.of("img"))
        assert str(escape(evil)) in page.source
        assert "<script" not in text(report)
        for table in re.findall(r"(?:^\|.*\n)+", text(report), flags=re.MULTILINE):
            bars = {len(re.findall(r"(?<!\\)\|", entry)) for entry in table.splitlines()}
            assert len(bars) == 1


def test_a_spreadsheet_runs_no_case_as_a_formula(runs: Write, tmp_path: Path) -> None:
    report = write_report([runs(simple({'=HYPERLINK("x")': 0.5}))], tmp_path / "report.html")
    assert rows(report)[0]["case"] == '\'=HYPERLINK("x")'


def test_the_page_needs_nothing_outside_itself(written: Report) -> None:
    page = Page(written)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"https?://|@import|url\((?!#)", page.source)
    assert not page.of("link")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(|href=")#([^")]+)', page.source)
    assert used
    assert set(used) <= set(ids)
    drawn = {str(svg["aria-label"]) for svg in page.of("svg")}
    assert {"Dice of every arm minus the reference", "Validation Dice by epoch"} <= drawn


def test_the_policy_admits_the_script_that_is_there(written: Report) -> None:
    page = Page(written)
    (policy,) = [a["content"] for a in page.of("meta") if "http-equiv" in a]
    scripts = re.findall(r"<script>(.*?)</script>", page.source, flags=re.DOTALL)
    assert policy is not None
    assert "default-src 'none'" in policy
    assert scripts
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy.partition("script-src")[2]


def test_all_files_have_the_name_of_the_page(written: Report) -> None:
    folder = written.files[0].parent
    ends = ("_comparisons.csv", "_figures", ".csv", ".html", ".md", ".tex")
    assert {path.name for path in written.files} == {f"report{end}" for end in ends}
    assert {path.name for path in folder.glob("report*")} == {f"report{end}" for end in ends}
    figures = list((folder / "report_figures").glob("*.svg"))
    assert figures
    assert all(path.read_text(encoding="utf-8").startswith("<?xml") for path in figures)


def test_pictures_of_no_value_stay_out(runs: Write, tmp_path: Path) -> None:
    bare = RunRecord(name="bare", status="completed", started="")
    found = Page(write_report([runs(bare, replace(bare, name="other"))], tmp_path / "r.html"))
    assert not found.of("svg")
