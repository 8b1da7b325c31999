"""What the report says of arms: references, margins, verdicts, and the five sentences."""

import csv
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from medseg.errors import ConfigError
from medseg.record import RunRecord
from medseg.report import Wish, write_report
from medseg.report.cautions import cautions_of
from medseg.report.collect import Collection, collect
from medseg.report.factors import effects_table, factors_of, levels_table
from medseg.report.measures import Values
from medseg.report.studies import Study, studies_of
from medseg.report.summary import summarise
from medseg.report.trade import trades_of
from medseg.report.verdicts import FOREST_ROWS, forest_rows, verdict_table
from medseg.statistics import compare

from .records import simple
from .synthetic import Design, planted_better, write_ablation

Write = Callable[..., Path]
EFFECTS = {"nearest": 0.03, "pixel_shuffle": -0.03}


def studied(folder: Path, **wish: Any) -> tuple[Collection, tuple[Study, ...]]:
    collection = collect([folder])
    return collection, studies_of(collection, Values(collection.arms), Wish(**wish))


def sentences(collection: Collection, study: Study) -> list[str]:
    return summarise(collection, study, factors_of(study), trades_of(study))


def cautions(collection: Collection, studies: Sequence[Study]) -> str:
    return "\n".join(cautions_of(collection, studies, [factors_of(study) for study in studies]))


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve arms with three seeds: nearest is truly better, pixel shuffle truly worse."""
    folder = tmp_path_factory.mktemp("grid")
    write_ablation(folder, Design(effects=EFFECTS))
    return folder


def test_planted_arms_come_out_as_planted(grid: Path) -> None:
    _, (study,) = studied(grid)
    labels = {arm.number: arm for arm in study.arms}
    found = {c.verdict: [] for c in study.chief.comparisons}
    for c in study.chief.comparisons:
        found[c.verdict].append(dict(labels[c.arm].levels))
    better = planted_better(Design(effects=EFFECTS))
    assert sorted(map(str, found["better"])) == sorted(map(str, better))
    assert {levels["upsampling"] for levels in found["worse"]} == {"pixel_shuffle"}
    assert {levels["upsampling"] for levels in found["equal"]} == {"transposed", "trilinear"}


def test_the_table_repeats_what_statistics_say(grid: Path) -> None:
    _, (study,) = studied(grid)
    verdicts = study.verdicts["hd95_mm"]
    table = verdict_table(study, verdicts)
    by_arm = {row.arm: row for row in table.rows}
    expected = compare(
        verdicts.observations, study.reference.arm.number, margin=None, higher_is_better=False
    )
    places = {column.key: place for place, column in enumerate(table.columns)}
    for found in expected:
        cells = by_arm[found.arm].cells
        assert cells[places["verdict"]].text == found.verdict
        assert cells[places["difference"]].value == found.estimate
        assert cells[places["p"]].value == found.p_holm
        assert cells[places["wilcoxon"]].value == found.wilcoxon_holm
        assert cells[places["cases"]].value == 20
    assert len(table.rows) == 12
    # best first, which for a distance is the most negative; the reference stands at 0
    values = [float(cell.value or 0.0) for cell in table.column("difference")]
    assert values == sorted(values)
    assert "*" not in "".join(cell.text for row in table.rows for cell in row.cells)


def test_the_reference_is_the_plan_s_unless_another_is_asked_for(grid: Path) -> None:
    _, (study,) = studied(grid)
    assert study.reference.arm.label == "standard · transposed"
    assert study.reference.why == "named in the plan"
    number = next(arm.number for arm in study.arms if arm.label == "dilated · nearest")
    for wish in ("dilated · nearest", str(number), f" {number} "):
        _, (study,) = studied(grid, reference=wish)
        assert study.reference.arm.number == number
    with pytest.raises(ConfigError, match="reference=dilated: no arm has that label or number"):
        studied(grid, reference="dilated")


def test_a_reference_without_a_result_has_a_stand_in(runs: Write) -> None:
    folder = runs(
        simple({}, status="failed", name="one"), simple({"a": 0.5}, name="two", started="2027")
    )
    _, (study,) = studied(folder)
    assert study.reference.arm.label == "two"
    with pytest.raises(ConfigError, match="one: no completed run of it has a value"):
        studied(folder, reference="one")


def test_the_margin_is_asked_for_or_planned_or_a_hundredth(grid: Path, tmp_path: Path) -> None:
    assert studied(grid)[1][0].margin == 0.01
    assert studied(grid, margin=0.2)[1][0].margin == 0.2
    write_ablation(tmp_path, Design(cases=8), margin=0.03)
    _, (study,) = studied(tmp_path)
    assert study.margin == 0.03
    assert study.verdicts["hd95_mm"].margin is None
    with pytest.raises(ConfigError, match="margin -1"):
        studied(tmp_path, margin=-1.0)


def test_a_wide_margin_makes_everything_equal(grid: Path) -> None:
    _, (study,) = studied(grid, margin=0.5)
    assert {c.verdict for c in study.chief.comparisons} == {"equal"}


def test_five_sentences_from_the_numbers(grid: Path) -> None:
    collection, (study,) = studied(grid)
    found = sentences(collection, study)
    assert len(found) == 5
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in found)
    assert found[0].startswith(
        "On phantom, 12 arms (convolution at 3 levels and upsampling at 4 levels) with 3 seeds "
        "each were validated on 20 cases"
    )
    counts = {c.verdict for c in study.chief.comparisons}
    assert all(word in found[1] for word in counts)
    assert "equal within ±0.01" in found[1]
    assert found[2].startswith("Of the factors, upsampling matters most: ")
    assert "no run is missing or failed" in found[4]


def test_the_best_trade_is_the_cheapest_arm_that_is_no_worse(grid: Path) -> None:
    _, (study,) = studied(grid, reference="dilated · trilinear")
    trades = {trade.cost.key: trade for trade in trades_of(study)}
    parameters = {arm.number: arm.runs[0].record.parameters for arm in study.arms}
    sound = [c.arm for c in study.chief.comparisons if c.verdict in ("better", "equal")]
    cheapest = min(sound, key=lambda arm: parameters[arm] or 0)
    assert trades["parameters"].arm.number == cheapest
    assert trades["parameters"].value < trades["parameters"].reference


def test_one_seed_decides_nothing_and_says_so(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(seeds=1, effects=EFFECTS))
    collection, (study,) = studied(tmp_path)
    assert {c.verdict for c in study.chief.comparisons} == {"undecided"}
    found = sentences(collection, study)
    assert "11 undecided, because one seed" in found[1]
    assert "so nothing can be decided" in found[4]
    assert study.chief.best == {}


def test_folds_are_repetitions(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(seeds=1, folds=4, effects=EFFECTS, run_sd=0.001))
    collection, (study,) = studied(tmp_path)
    assert (
        "with 1 seed on 4 folds each were validated on 20 cases" in sentences(collection, study)[0]
    )
    assert {c.cases for c in study.chief.comparisons} == {20}
    assert {"better", "worse"} <= {c.verdict for c in study.chief.comparisons}


def test_factors_have_rows_for_effects_and_levels(grid: Path) -> None:
    _, (study,) = studied(grid)
    factors = factors_of(study)
    assert [row.cells[0].text for row in effects_table(factors).rows] == [
        "convolution",
        "upsampling",
        "convolution × upsampling",
    ]
    table = levels_table(factors)
    rows = {row.cells[1].text: row.cells for row in table.rows}
    assert list(rows) == ["standard", "dilated", "depthwise", *Design().factors["upsampling"]]
    assert rows["nearest"][3].value == pytest.approx(EFFECTS["nearest"], abs=0.005)
    assert rows["transposed"][3].value is None
    (pair,) = factors.grids
    assert len(pair.means) == 12
    means = {arm.number: study.chief.observations.mean(arm.number) for arm in study.arms}
    first = study.reference.arm
    assert pair.means["standard", "transposed"] == means[first.number]


def test_an_interaction_is_said(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(interaction=-0.05, effects={"nearest": 0.01}))
    collection, (study,) = studied(tmp_path)
    assert "factors interact: convolution × upsampling (" in sentences(collection, study)[2]


def test_the_forest_keeps_the_ends_and_the_middle(tmp_path: Path) -> None:
    levels = [f"level{place}" for place in range(60)]
    design = Design(
        factors={"size": levels},
        effects={level: 0.002 * place for place, level in enumerate(levels)},
        seeds=2,
        cases=8,
    )
    write_ablation(tmp_path, design, reference={"size": "level30"})
    _, (study,) = studied(tmp_path)
    chosen = forest_rows(study, study.chief)
    estimates = [row.estimate for row in chosen.rows]
    every = [c.estimate for c in study.chief.comparisons if c.estimate is not None]
    assert len(estimates) == FOREST_ROWS
    assert estimates[:10] == every[:10]
    assert estimates[-10:] == every[-10:]
    assert min(map(abs, every)) in map(abs, estimates)
    assert chosen.said.startswith("40 of 59 arms are drawn")


def test_datasets_are_not_compared_with_each_other(runs: Write) -> None:
    def run(name: str, dataset: str, seed: int) -> RunRecord:
        dice: dict[str, float | None]
        dice = {f"{dataset}{c}": 0.5 + 0.01 * c + 0.001 * seed for c in range(8)}
        return simple(dice, name=name, dataset=dataset, seed=seed)

    names = [("one", "heart"), ("two", "heart"), ("three", "liver"), ("four", "liver")]
    folder = runs(*(run(name, dataset, seed) for name, dataset in names for seed in (0, 1)))
    _, studies = studied(folder, reference="four")
    assert [(s.dataset, s.reference.arm.label) for s in studies] == [
        ("heart", "one"),
        ("liver", "four"),
    ]
    assert all(len(s.chief.comparisons) == 1 for s in studies)


def test_comparisons_as_tidy_values(grid: Path, tmp_path: Path) -> None:
    report = write_report([grid], tmp_path / "report.html")
    with report.comparisons.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 3 * 11
    dice = {row["arm"]: row for row in rows if row["metric"] == "dice"}
    _, (study,) = studied(grid)
    for found in study.chief.comparisons:
        label = study.arms[found.arm - 1].label
        assert float(dice[label]["estimate"]) == pytest.approx(found.estimate)
        assert dice[label]["verdict"] == found.verdict
    assert {row["level upsampling"] for row in rows} == set(Design().factors["upsampling"])
    # LaTeX: as many columns in every row as the head has, and nothing that LaTeX would run
    tex = report.latex.read_text(encoding="utf-8")
    assert tex.count("\\begin{longtable}") == tex.count("\\end{longtable}") == 4
    for body in re.findall(r"\\endfoot\n(.*?)\\end\{longtable\}", tex, flags=re.DOTALL):
        lines = body.strip().splitlines()
        assert len(lines) == 12
        assert len({len(re.findall(r"(?<!\\)&", entry)) for entry in lines}) == 1
    assert "depthwise $\\cdot$ pixel\\_shuffle" in tex
