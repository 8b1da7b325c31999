"""What the report says of arms: references, margins, verdicts, and the facts of the summary."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import ConfigError
from medseg.record import RunRecord
from medseg.report import write_report
from medseg.report.sections.factors import factors
from medseg.report.sections.summary import summary
from medseg.report.sections.verdicts import verdict_table
from medseg.report.study import ReportData, Study, collect
from medseg.report.tables import Table
from medseg.statistics import compare

from .pages import column, file, rows
from .records import simple
from .synthetic import Design, planted_better, write_ablation

pytestmark = pytest.mark.usefixtures("without_figures")
Write = Callable[..., Path]
EFFECTS = {"nearest": 0.03, "pixel_shuffle": -0.03}


@cache
def studied(folder: Path, **options: Any) -> tuple[ReportData, tuple[Study, ...]]:
    data = collect([folder], **options)
    return data, data.studies


def facts(data: ReportData) -> dict[str, str]:
    return summary(data).parts[0]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve arms with three seeds: nearest is truly better, pixel shuffle truly worse."""
    folder = tmp_path_factory.mktemp("grid")
    write_ablation(folder, Design(effects=EFFECTS))
    return folder


def test_planted_arms_come_out_as_planted(grid: Path) -> None:
    _, (study,) = studied(grid)
    labels = {arm.number: arm for arm in study.arms}
    found: dict[str, list[dict[str, str]]] = {}
    for c in study.by().itertuples():
        found.setdefault(c.verdict, []).append(dict(labels[c.arm].levels))
    better = planted_better(Design(effects=EFFECTS))
    assert sorted(map(str, found["better"])) == sorted(map(str, better))
    assert {levels["upsampling"] for levels in found["worse"]} == {"pixel_shuffle"}
    assert {levels["upsampling"] for levels in found["equal"]} == {"transposed", "trilinear"}


def test_the_table_repeats_what_statistics_say(grid: Path) -> None:
    _, (study,) = studied(grid)
    table = verdict_table(study, "hd95_mm")
    places = {title: place for place, title in enumerate(table.frame.columns)}
    by_arm = {row[0].arm: row for row in table.rows}
    expected = compare(
        study.observations["hd95_mm"],
        study.reference.number,
        margin=None,
        higher_is_better=False,
    )
    for found in expected:
        cells = by_arm[found.arm]
        assert cells[places["Verdict"]].text == found.verdict
        assert cells[places["Δ HD95"]].value == found.estimate
        assert cells[places["p"]].value == found.p_holm
        assert cells[places["p Wilcoxon"]].value == found.wilcoxon_holm
        assert cells[places["Cases"]].value == 20
    assert len(table.rows) == 12
    # best first, which for a distance is the most negative; the reference stands at 0
    values = [float(cell.value or 0.0) for cell in column(table, "Δ HD95")]
    assert values == sorted(values)


def test_the_reference_is_the_plan_s_unless_another_is_asked_for(grid: Path) -> None:
    _, (study,) = studied(grid)
    assert study.reference.label == "standard · transposed"
    assert study.why == "named in the plan"
    number = next(arm.number for arm in study.arms if arm.label == "dilated · nearest")
    for wish in ("dilated · nearest", f" {number} "):
        _, (study,) = studied(grid, reference=wish)
        assert study.reference.number == number
    with pytest.raises(ConfigError, match="reference=dilated: no arm has that label or number"):
        studied(grid, reference="dilated")


def test_a_reference_without_a_result_has_a_stand_in(runs: Write) -> None:
    folder = runs(
        simple({}, status="failed", name="one"), simple({"a": 0.5}, name="two", started="2027")
    )
    _, (study,) = studied(folder)
    assert study.reference.label == "two"
    with pytest.raises(ConfigError, match="one: no completed run of it has a value"):
        studied(folder, reference="one")


def test_the_margin_is_asked_for_or_planned_or_a_hundredth(grid: Path, tmp_path: Path) -> None:
    assert studied(grid)[1][0].margin == 0.01
    assert studied(grid, margin=0.2)[1][0].margin == 0.2
    write_ablation(tmp_path, Design(factors={"up": ["x", "y"]}, cases=8), margin=0.03)
    _, (study,) = studied(tmp_path)
    assert study.margin == 0.03
    assert study.by("hd95_mm")["margin"].isna().all()
    with pytest.raises(ConfigError, match="margin -1"):
        studied(tmp_path, margin=-1.0)


def test_the_facts_come_from_the_numbers(grid: Path) -> None:
    data, (study,) = studied(grid)
    found = facts(data)
    assert "12 arms" in found["Compared"]
    assert "20 cases" in found["Compared"]
    outcome = found["Dice against standard · transposed"]
    for verdict, count in study.by()["verdict"].value_counts().items():
        assert f"{count} {verdict}" in outcome
    assert found["Factors"].startswith("share of the variance of arm means: upsampling")
    assert found["Without a result"] == "no run"


def test_the_cheapest_arm_is_one_that_is_no_worse(grid: Path) -> None:
    data, (study,) = studied(grid, reference="dilated · trilinear")
    parameters = {arm.number: arm.runs[0].parameters or 0 for arm in study.arms}
    sound = [c.arm for c in study.by().itertuples() if c.verdict in ("better", "equal")]
    cheapest = study.arms[min(sound, key=lambda arm: parameters[arm]) - 1]
    found = facts(data)["Cheapest arm shown to be no worse"]
    assert found.startswith(f"by parameters, {cheapest.label} (")


def test_one_seed_decides_nothing_and_says_so(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(seeds=1, effects=EFFECTS))
    data, (study,) = studied(tmp_path)
    assert set(study.by()["verdict"]) == {"undecided"}
    assert "because one seed" in facts(data)["Dice against standard · transposed"]
    assert facts(data)["Smallest difference found"].startswith("unknown")


def test_folds_are_repetitions(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(seeds=1, folds=4, effects=EFFECTS, run_sd=0.001))
    data, (study,) = studied(tmp_path)
    assert "1 seed, 4 folds, validated on 20 cases" in facts(data)["Compared"]
    assert set(study.by()["cases"]) == {20}
    assert {"better", "worse"} <= set(study.by()["verdict"])


def test_factors_have_rows_for_effects_and_levels(grid: Path) -> None:
    data, _ = studied(grid)
    effects, levels = [part for part in factors(data).parts if isinstance(part, Table)]
    assert [cell.text for cell in column(effects, "Factor")] == [
        "convolution",
        "upsampling",
        "convolution × upsampling",
    ]
    rows = {cell.text: row for cell, row in zip(column(levels, "Level"), levels.rows, strict=True)}
    assert list(rows) == ["standard", "dilated", "depthwise", *Design().factors["upsampling"]]
    assert rows["nearest"][3].value == pytest.approx(EFFECTS["nearest"], abs=0.005)
    assert rows["transposed"][3].value is None


def test_datasets_are_not_compared_with_each_other(runs: Write) -> None:
    def run(name: str, dataset: str, seed: int) -> RunRecord:
        dice: dict[str, float | None]
        dice = {f"{dataset}{c}": 0.5 + 0.01 * c + 0.001 * seed for c in range(8)}
        return simple(dice, name=name, dataset=dataset, seed=seed)

    names = [("one", "heart"), ("two", "heart"), ("three", "liver"), ("four", "liver")]
    folder = runs(*(run(name, dataset, seed) for name, dataset in names for seed in (0, 1)))
    _, studies = studied(folder, reference="four")
    assert [(s.dataset, s.reference.label) for s in studies] == [
        ("heart", "one"),
        ("liver", "four"),
    ]
    assert all(len(s.by()) == 1 for s in studies)


def test_comparisons_as_tidy_values(grid: Path, tmp_path: Path) -> None:
    report = write_report([grid], tmp_path / "report.html")
    found_rows = rows(report, "_comparisons.csv")
    assert len(found_rows) == 3 * 11
    dice = {row["arm"]: row for row in found_rows if row["metric"] == "dice"}
    _, (study,) = studied(grid)
    for found in study.by().itertuples():
        label = study.arms[found.arm - 1].label
        assert float(dice[label]["estimate"]) == pytest.approx(found.estimate)
        assert dice[label]["verdict"] == found.verdict
    assert {row["level upsampling"] for row in found_rows} == set(Design().factors["upsampling"])
    # LaTeX: as many columns in every row as the head has, and nothing that LaTeX would run
    tex = file(report, ".tex").read_text(encoding="utf-8")
    assert tex.count("\\begin{longtable}") == tex.count("\\end{longtable}") == 4
    for body in re.findall(r"\\endlastfoot\n(.*?)\\end\{longtable\}", tex, flags=re.DOTALL):
        lines = body.strip().splitlines()
        assert len(lines) == 12
        assert len({len(re.findall(r"(?<!\\)&", entry)) for entry in lines}) == 1
    assert "depthwise $\\cdot$ pixel\\_shuffle" in tex


@pytest.mark.parametrize("key", ["data.batches_per_epoch", "data.batch_size", "trainer.epochs"])
def test_arms_that_saw_more_than_others_are_not_called_equal_in_it(runs: Write, key: str) -> None:
    section, name = key.split(".")
    records = [
        simple(
            {f"c{n}": 0.8 + 0.01 * value for n in range(4)},
            config={section: {name: value}, "seed": 0},
            overrides=[f"{key}={value}"],
        )
        for value in (1, 2)
    ]
    data, _ = studied(runs(*records))
    assert key in facts(data)["Held equal"]
