"""The row of artifacts of each arm."""

from dataclasses import replace

import pytest

from medseg.formatting import MISSING
from medseg.record import Estimate, PhaseLocked
from medseg.report.sections.checkerboard import checkerboard
from medseg.report.study import ReportData, collect
from medseg.report.tables import Table

from .pages import column
from .records import artifacts, finished

pytestmark = pytest.mark.usefixtures("without_figures")


def headlines(data: ReportData) -> Table:
    return next(part for part in checkerboard(data).parts if isinstance(part, Table))


@pytest.fixture
def arms(tmp_path):
    """Reads some records back."""

    def build(*records) -> ReportData:
        for index, record in enumerate(records):
            record.write(tmp_path / str(index))
        return collect([tmp_path])

    return build


def test_an_arm_has_the_mean_of_its_seeds_and_the_widest_interval(arms) -> None:
    (cell,) = column(headlines(arms(finished(seed=0), finished(seed=1))), "Gain κ")
    means = [artifacts(seed=seed).means["gain"] for seed in (0, 1)]
    assert cell.value == pytest.approx(sum(m.mean for m in means) / 2)
    assert cell.note == "0.116\u00a0…\u00a00.151"
    assert [means[0].low, means[1].high] == pytest.approx([0.12, 0.15], abs=0.005)


def test_p_is_the_largest_of_the_seeds_beside_that_of_the_input(arms) -> None:
    weak = replace(artifacts(), prediction=PhaseLocked(cases=12, p_value=0.2))
    table = headlines(arms(finished(seed=0), finished(seed=1, artifacts=weak)))
    (cell,) = column(table, "Locked to the grid")
    assert (cell.value, cell.note) == (0.2, "input 0.61")


def test_p_is_corrected_for_the_number_of_arms(arms) -> None:
    table = headlines(arms(finished("transposed"), finished("nearest"), finished("trilinear")))
    assert [cell.value for cell in column(table, "Locked to the grid")] == [
        pytest.approx(0.003),
        0.96,
        0.96,
    ]


def test_few_cases_have_a_size_and_no_test(arms) -> None:
    few = replace(
        artifacts(),
        means={"gain": Estimate(mean=0.1, cases=3)},
        prediction=PhaseLocked(cases=3),
    )
    table = headlines(arms(finished(artifacts=few)))
    assert column(table, "Gain κ")[0].note == "3 cases"
    assert column(table, "Locked to the grid")[0].text == MISSING
    assert "Cycle-spin residual" not in table.frame


def test_an_arm_that_was_not_measured_has_no_row(arms) -> None:
    assert headlines(arms(finished(artifacts=None), finished("nearest"))).rows[0][0].arm == 2
    assert len(headlines(arms(finished("trilinear", artifacts=None))).rows) == 1


def test_measures_of_one_title_have_a_column_each(arms) -> None:
    twice = {name: artifacts().describe("gain") for name in ("gain", "older")}
    both = {"gain": Estimate(mean=0.1, cases=3), "older": Estimate(mean=0.2, cases=3)}
    table = headlines(arms(finished(artifacts=replace(artifacts(), measures=twice, means=both))))
    assert [column(table, f"Gain κ ({name})")[0].value for name in twice] == [0.1, 0.2]
