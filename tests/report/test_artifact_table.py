"""The row of artifacts of each arm."""

from dataclasses import replace

import pytest

from medseg.record import Estimate, PhaseLocked
from medseg.report.artifact_table import artifact_table
from medseg.report.cells import NOTHING
from medseg.report.collect import collect

from .records import artifacts, finished


@pytest.fixture
def arms(tmp_path):
    """Builds the arms of some records."""

    def build(*records):
        for index, record in enumerate(records):
            record.write(tmp_path / str(index))
        return collect([tmp_path]).arms

    return build


def test_an_arm_has_the_mean_of_its_seeds_and_the_widest_interval(arms) -> None:
    (row,) = artifact_table(arms(finished(seed=0), finished(seed=1))).rows
    means = [artifacts(seed=seed).means["gain"] for seed in (0, 1)]
    assert row.cells[1].value == pytest.approx(sum(m.mean for m in means) / 2)
    assert row.cells[1].note == "0.12\u00a0…\u00a00.15"
    assert [means[0].low, means[1].high] == pytest.approx([0.12, 0.15], abs=0.005)


def test_p_is_the_largest_of_the_seeds_beside_that_of_the_input(arms) -> None:
    weak = replace(artifacts(), prediction=PhaseLocked(cases=12, p_value=0.2))
    table = artifact_table(arms(finished(seed=0), finished(seed=1, artifacts=weak)))
    (cell,) = table.column("p")
    assert (cell.value, cell.note) == (0.2, "input 0.61")


def test_p_is_corrected_for_the_number_of_arms(arms) -> None:
    table = artifact_table(arms(finished("transposed"), finished("nearest"), finished("trilinear")))
    assert [cell.value for cell in table.column("p")] == [pytest.approx(0.003), 0.96, 0.96]


def test_few_cases_have_a_size_and_no_test(arms) -> None:
    few = replace(
        artifacts(),
        means={"gain": Estimate(mean=0.1, cases=3)},
        prediction=PhaseLocked(cases=3),
    )
    table = artifact_table(arms(finished(artifacts=few)))
    assert table.column("gain")[0].note == "3 cases"
    assert table.column("p")[0].text == NOTHING
    assert table.column("cycle_spin")[0].text == NOTHING


def test_an_arm_that_was_not_measured_has_no_row(arms) -> None:
    assert artifact_table(arms(finished(artifacts=None), finished("nearest"))).rows[0].arm == 2
    assert len(artifact_table(arms(finished("trilinear", artifacts=None))).rows) == 1
