"""Arms that scatter and cases that stand out are named, with what they cost; what would decide."""

import json
from pathlib import Path

import pytest

from medseg.report.sections.doubts import (
    doubts,
    needed_table,
    outlying_cases,
    scattering_arms,
)
from medseg.report.sections.summary import summary
from medseg.report.study import ReportData, Study, collect
from medseg.statistics import compare

from .pages import column
from .synthetic import Design, write_ablation

pytestmark = pytest.mark.usefixtures("without_figures")
DESIGN = Design(
    factors={"conv": ["a", "b"], "up": ["x", "y", "z"]}, effects={"y": 0.03}, seeds=3, cases=20
)


def changed(folder: Path, *, levels: tuple[str, str], less: float, **only: int) -> None:
    """Takes so much off the Dice of an arm's runs, of one seed or of one case."""
    for path in folder.rglob("record.json"):
        record = json.loads(path.read_text(encoding="utf-8"))
        if tuple(record["levels"].values()) != levels or record["seed"] != only.get(
            "seed", record["seed"]
        ):
            continue
        for place, case in enumerate(record["cases"]):
            if place == only.get("case", place):
                for metrics in case["metrics"].values():
                    metrics["dice"] -= less
        path.write_text(json.dumps(record), encoding="utf-8")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ReportData:
    """`b · z` has a failed seed; in `b · y`, truly better, a single case fails."""
    folder = tmp_path_factory.mktemp("doubts")
    write_ablation(folder, DESIGN)
    changed(folder, levels=("b", "z"), less=0.3, seed=0)
    changed(folder, levels=("b", "y"), less=0.5, case=7)
    return collect([folder])


@pytest.fixture(scope="module")
def study(data: ReportData) -> Study:
    return data.studies[0]


def rows_by_label(study: Study) -> dict[str, object]:
    labels = {arm.number: arm.label for arm in study.arms}
    return {labels[one.arm]: one for one in study.by().itertuples()}


def test_one_bad_training_is_named_and_hides_no_other_arm(study: Study) -> None:
    assert study.labels(scattering_arms(study))[0] == "b · z"
    found = rows_by_label(study)
    assert found["a · y"].verdict == "better"
    assert found["b · z"].verdict == "undecided"
    text = " ".join(str(part) for section in doubts(study) for part in section.parts)
    assert "b · z" in text


def test_one_bad_case_is_named_and_the_companion_finds_what_it_hides(study: Study) -> None:
    arm = next(a.number for a in study.arms if a.label == "b · y")
    assert outlying_cases(study) == {"case_007": [arm]}
    found = rows_by_label(study)["b · y"]
    assert found.verdict == "undecided"
    assert found.trimmed_holm < 0.05
    assert found.trimmed == pytest.approx(0.03, abs=0.01)
    assert found.outliers == "case_007"


def test_both_are_among_the_cautions(data: ReportData) -> None:
    cautions = " ".join(summary(data).parts[-1].parts[0])
    assert "b · z" in cautions
    assert "case_007" in cautions


def test_every_undecided_arm_has_a_row_of_what_would_decide_it(study: Study) -> None:
    table = needed_table(study)
    undecided = study.by()[study.by()["verdict"] == "undecided"]
    assert [cell.arm for cell in column(table, "Arm")] == undecided["arm"].tolist()
    assert len(table.rows) >= 2


def test_nothing_is_named_where_nothing_is_odd(tmp_path: Path) -> None:
    write_ablation(tmp_path, Design(factors={"up": ["x", "y"]}, seeds=5, cases=20))
    study = collect([tmp_path]).studies[0]
    assert outlying_cases(study) == {}
    assert "Cases that stand out" not in [section.title for section in doubts(study)]
    (found,) = compare(study.observations["dice"], study.reference.number, margin=0.01)
    assert found.outliers == ()
