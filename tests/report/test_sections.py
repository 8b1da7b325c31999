"""The sections beside the verdicts: arms, costs, provenance, and what a page does with them."""

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.record import Matched
from medseg.report import page, write_report
from medseg.report.sections import SECTIONS
from medseg.report.sections.arms import arms_table
from medseg.report.sections.costs import quality_and_cost
from medseg.report.sections.provenance import provenance
from medseg.report.study import collect
from medseg.report.tables import plain_latex

from .pages import Page, column
from .records import cell, finished, plan, simple
from .synthetic import Design, write_ablation

pytestmark = pytest.mark.usefixtures("without_figures")
Write = Callable[..., Path]
DESIGN = Design(factors={"conv": ["a", "b"], "up": ["x", "y", "z"]}, seeds=2, cases=8)
LATEX = r"""
\documentclass{article}
\usepackage{booktabs,longtable}
\usepackage[a3paper,landscape,margin=1cm]{geometry}
\begin{document}\input{report.tex}\end{document}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six arms with two seeds."""
    where = tmp_path_factory.mktemp("sections")
    write_ablation(where, DESIGN)
    return where


def test_a_cost_that_is_the_same_everywhere_has_no_figure(runs: Write, folder: Path) -> None:
    one = simple({"a": 0.5}, name="a", parameters=5, macs=1)
    data = collect([runs(one, replace(one, name="b", macs=2))])
    assert len(quality_and_cost(data).parts[0]) == 1
    assert len(quality_and_cost(collect([folder])).parts[0]) == 4


def test_what_all_runs_share_stands_there_once(folder: Path) -> None:
    _, shared, runs = provenance(collect([folder])).parts
    table = runs.parts[0]
    assert shared["Overrides of all"] == "data=phantom"
    assert shared["Command"] == "medseg ablate grid"
    assert shared["Split"].startswith("train 40, validation 8, digest ")
    assert not set(shared) & set(table.frame.columns)
    assert {"Digest", "Started", "Overrides", "Record"} <= set(table.frame.columns)
    assert column(table, "Overrides")[0].text == "conv=a up=x seed=0"
    assert len(table.rows) == 12


def test_one_run_has_all_its_provenance_in_one_list(runs: Write) -> None:
    data = collect([runs(simple({"a": 1.0}, command=["medseg", "train"]))])
    _, shared, own = provenance(data).parts
    assert shared["Command"] == "medseg train"
    assert shared["Split"] == "not recorded"
    assert len(own.parts[0].frame.columns) == 4


def test_levels_are_columns_and_matched_quantities_are_shown(runs: Write) -> None:
    half = Matched(quantity="inference_memory", value=50.0, wanted=100.0)
    levels = [{"up": "x", "Dice": "1", "MACs": "a"}, {"up": "y", "Dice": "2", "MACs": "b"}]
    first, second = (simple({"a": 1.0}, levels=own, config=own) for own in levels)
    table = arms_table(collect([runs(first, replace(second, matched=half))]))
    assert [cell.text for cell in column(table, "up")] == ["x", "y"]
    assert column(table, "Dice")[0].value == 1.0  # a factor of that name takes nothing away
    assert [cell.text for cell in column(table, "MACs (varied)")] == ["a", "b"]
    assert [cell.text for cell in column(table, "Verdict")] == ["reference", "undecided"]
    matched = [(cell.text, cell.note) for cell in column(table, "Made equal")]
    assert matched == [("–", ""), ("50.0 %", "of inference memory")]


def test_every_section_is_on_the_page_and_a_long_table_says_what_it_leaves_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "ROWS", 4)
    found = Page(write_report([folder], tmp_path / "report.html"))
    assert "The first 4 of 6 rows" in found.source
    (table,) = re.findall(r"Mean ± standard deviation over cases\".*?</table>", found.source, re.S)
    assert table.count("<tr>") == 5
    targets = [str(a["href"])[1:] for a in found.of("a") if str(a.get("href", "")).startswith("#")]
    sections = [section["id"] for section in found.of("section")]
    assert targets[: len(SECTIONS)] == sections == list(dict.fromkeys(sections))
    for name in sections:
        assert len(found.source.split(f'<section id="{name}">')[1].split("</section>")[0]) > 50


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_latex_runs_nothing_that_a_label_says(text: str) -> None:
    shown = plain_latex(text)
    bare = re.sub(r"\\[&%$#_{}]|\\[a-zA-Z]+\{\}|\\char34\{\}|\$\^2\$|\$-\$", "", shown)
    bare = re.sub(r"\$\\(pm|times|cdot|Delta|kappa|eta|le|infty)\$|\{[\[\]*]\}", "", bare)
    assert not set(bare) & set("\\{}$&%#_^~\n")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_the_latex_tables_compile(tmp_path: Path) -> None:
    for name in ("transposed", "nearest"):
        finished(name, 0).write(tmp_path / f"{name}-0")
    plan(*(cell(f"{name}-0", name, 0) for name in ("transposed", "nearest"))).write(tmp_path)
    write_report([tmp_path], tmp_path / "report.html")
    (tmp_path / "document.tex").write_text(LATEX, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "document.tex"]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stdout[-2000:]
