"""The one average of metric values."""

import pytest

from medseg.record import CaseRecord, RunRecord
from medseg.record.frame import case_means, frame, run_means
from medseg.report.sections.arms import arms_table
from medseg.report.study import collect


def run(seed: int, **dice: float | None) -> RunRecord:
    metrics = {name: {"dice": value} for name, value in dice.items()}
    return RunRecord(
        name="arm",
        status="completed",
        started="2026-01-01",
        seed=seed,
        dataset="phantom",
        cases=[CaseRecord(case="a", metrics=metrics)],
    )


ONE_CLASS_UNDEFINED = (run(0, left=0.2, right=0.8), run(1, left=0.2, right=None))


def test_classes_are_averaged_within_a_run_before_runs_are(tmp_path) -> None:
    """Runs have 0.5 and 0.2, so 0.35; runs first would give the classes 0.2 and 0.8, so 0.50."""
    table = frame(ONE_CLASS_UNDEFINED).assign(arm=1)
    assert run_means(table)["value"].tolist() == pytest.approx([0.5, 0.2])
    assert case_means(table)["value"].tolist() == pytest.approx([0.35])
    for record in ONE_CLASS_UNDEFINED:
        record.write(tmp_path / str(record.seed))
    data = collect([tmp_path])
    assert arms_table(data).frame["Dice"][0].value == pytest.approx(0.35)
    assert data.studies[0].observations["dice"].mean(1) == pytest.approx(0.35)
