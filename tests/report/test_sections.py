"""The sections beside the verdicts: costs, fronts, provenance, figures of factors, long tables."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medseg.record import Matched, RunRecord
from medseg.report import Wish, render, write_report
from medseg.report.cells import interval, p_value, percent, signed
from medseg.report.collect import collect
from medseg.report.costs import memory_promises, promises_table, step_promises
from medseg.report.factors import factors_of
from medseg.report.figures import effects_figure
from medseg.report.latex import escaped
from medseg.report.measures import Values
from medseg.report.provenance import provenance_of
from medseg.report.studies import studies_of
from medseg.report.tables import arms_table
from medseg.report.trade import fronts_of

from .pages import Page
from .records import simple
from .synthetic import Design, write_ablation

Write = Callable[..., Path]
DESIGN = Design(factors={"conv": ["a", "b"], "up": ["x", "y", "z"]}, seeds=2, cases=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six arms with two seeds."""
    where = tmp_path_factory.mktemp("sections")
    write_ablation(where, DESIGN)
    return where


def test_promises_are_the_reference_scaled_and_the_growth(folder: Path) -> None:
    arms = collect([folder]).arms
    reference = arms[0]
    steps = {p.arm: p for p in step_promises(arms, {"phantom": reference})}

    def mean(numbers: list[float]) -> float:
        return sum(numbers) / len(numbers)

    for arm in arms:
        records = [run.record for run in arm.runs]
        base = [run.record for run in reference.runs]
        share = mean([r.macs or 0 for r in records]) / mean([r.macs or 0 for r in base])
        promised = mean([r.seconds["step"] for r in base]) * share
        assert steps[arm.number].promised == pytest.approx(promised)
        assert steps[arm.number].measured == pytest.approx(
            mean([r.seconds["step"] for r in records])
        )
    assert steps[reference.number].promised == steps[reference.number].measured
    first = memory_promises(arms)[0]
    records = [run.record for run in reference.runs]
    assert first.promised == max(r.predicted_memory_bytes or 0 for r in records)
    assert first.measured == max(
        (r.peak_memory_bytes or 0) - (r.memory_before_bytes or 0) for r in records
    )


def test_promises_without_a_measurement_have_no_row(runs: Write) -> None:
    arms = collect([runs(simple({"a": 0.5}, macs=10), simple({"a": 0.5}, name="b"))]).arms
    assert promises_table(arms, {"phantom": arms[0]}).rows == ()


def test_fronts_have_every_quality_by_every_cost(folder: Path) -> None:
    arms = collect([folder]).arms
    fronts = fronts_of(arms, Values(arms))
    pairs = {(front.y_label, front.cost.key) for front in fronts}
    costs = ("parameters", "macs", "step", "memory")
    assert pairs == {(y, c) for y in ("Dice", "Surface Dice", "Gain κ") for c in costs}
    assert {front.higher_y_better for front in fronts if front.y_label == "Gain κ"} == {False}
    values = Values(arms)
    dice = next(front for front in fronts if front.y_label == "Dice")
    for point in dice.points:
        summary = values.summary(point.arm, "dice")
        assert summary is not None
        assert point.y == summary.mean


def test_a_cost_that_is_the_same_everywhere_has_no_figure(runs: Write) -> None:
    one = simple({"a": 0.5}, name="a", parameters=5, macs=1)
    arms = collect([runs(one, replace(one, name="b", macs=2))]).arms
    assert [front.cost.key for front in fronts_of(arms, Values(arms))] == ["macs"]


def test_what_all_runs_share_is_said_once(folder: Path) -> None:
    found = provenance_of(collect([folder]))
    shared = dict(found.shared)
    assert shared["Overrides of all"] == "data=phantom"
    assert shared["Command"] == "medseg ablate grid"
    assert shared["Split"].startswith("train 40, validation 8, digest ")
    assert "medseg ablate grid" in shared["Plan"]
    titles = [column.title for column in found.runs.columns]
    assert not set(shared) & set(titles)
    assert {"Digest", "Started", "Overrides", "Record"} <= set(titles)
    assert found.runs.column("overrides")[0].text == "conv=a up=x seed=0"
    assert len(found.runs.rows) == 12


def test_one_run_has_all_its_provenance_in_one_list(runs: Write) -> None:
    found = provenance_of(collect([runs(simple({"a": 1.0}, command=["medseg", "train"]))]))
    shared = dict(found.shared)
    assert shared["Command"] == "medseg train"
    assert shared["Split"] == "not recorded"
    assert len(found.runs.columns) == 4


def test_levels_are_columns_and_matched_quantities_are_shown(runs: Write) -> None:
    half = Matched(quantity="inference_memory", value=50.0, wanted=100.0)
    arms = collect(
        [
            runs(
                simple({"a": 1.0}, levels={"up": "x"}, config={"up": "x"}),
                simple({"a": 1.0}, levels={"up": "y"}, config={"up": "y"}, matched=half),
            )
        ]
    ).arms
    table = arms_table(arms, Values(arms), {1: "reference", 2: "equal"})
    assert [cell.text for cell in table.column("factor up")] == ["x", "y"]
    assert [cell.text for cell in table.column("verdict")] == ["reference", "equal"]
    matched = table.column("matched")
    assert [(cell.text, cell.note) for cell in matched] == [
        ("–", ""),
        ("50.0 %", "of inference memory"),
    ]


def test_effects_are_drawn_level_by_level(folder: Path) -> None:
    collection = collect([folder])
    (study,) = studies_of(collection, Values(collection.arms), Wish())
    effects = factors_of(study).main
    figure = effects_figure(effects, metric="Dice")
    assert figure is not None
    dots = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    marks = [float(np.asarray(line.get_xdata())[0]) for line in dots]
    known = [level.contrast for effect in effects for level in effect.levels]
    assert marks == [found.estimate for found in known if found]
    assert effects_figure([], metric="Dice") is None


def test_a_long_table_says_what_it_leaves_out(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(render, "_TABLE_ROWS", 4)
    page = Page(write_report([folder], tmp_path / "report.html"))
    assert "The first 4 of 6 rows; the files beside this page have them all." in page.source
    (table,) = re.findall(r"Mean ± standard deviation over cases\".*?</table>", page.source, re.S)
    assert table.count("<tr>") == 5


def test_every_link_of_the_contents_has_its_section(folder: Path, tmp_path: Path) -> None:
    page = Page(write_report([folder], tmp_path / "report.html"))
    targets = [str(a["href"])[1:] for a in page.of("a") if str(a.get("href", "")).startswith("#")]
    sections = [section["id"] for section in page.of("section")]
    assert targets[:12] == sections
    for name in sections:
        assert len(page.source.split(f'<section id="{name}">')[1].split("</section>")[0]) > 60


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=40))
def test_latex_runs_nothing_that_a_label_says(text: str) -> None:
    shown = escaped(text)
    bare = re.sub(r"\\[&%$#_{}]|\\[a-zA-Z]+\{\}|\\char34\{\}|\$\^2\$|\$-\$", "", shown)
    bare = re.sub(r"\$\\(pm|times|cdot|Delta|kappa|eta|le)\$|\{[\[\]*]\}", "", bare)
    assert not set(bare) & set("\\{}$&%#_^~\n")


def test_numbers_of_comparisons_as_a_reader_wants_them() -> None:
    assert [signed(v) for v in (0.01234, -0.01234, 0.0, -0.0001)] == [
        "+0.012",
        "−0.012",
        "0.000",
        "0.000",
    ]
    assert interval(-0.5, 0.25, 2) == "−0.50\u00a0…\u00a0+0.25"
    assert interval(None, 0.2) == ""
    assert [p_value(p) for p in (0.0, 0.0009, 0.0213, 0.5, None, math.nan)] == [
        "< 0.001",
        "< 0.001",
        "0.021",
        "0.50",
        "n/a",
        "n/a",
    ]
    assert [percent(share) for share in (0.0, 0.004, 0.5, 0.997, 1.0)] == [
        "0 %",
        "< 1 %",
        "50 %",
        "> 99 %",
        "100 %",
    ]


def test_pictures_of_no_value_stay_out(runs: Write, tmp_path: Path) -> None:
    bare = RunRecord(name="bare", status="completed", started="")
    page = Page(write_report([runs(bare, replace(bare, name="other"))], tmp_path / "r.html"))
    assert not page.of("svg")
