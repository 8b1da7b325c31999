"""The page, Markdown and CSV of a record."""

import csv
import io

import pytest

from medseg.record import (
    ArtifactRecord,
    CaseRow,
    Estimate,
    LayerRow,
    PhaseLocked,
)
from medseg.report.artifacts.document import number, render_csv, render_html, render_markdown
from medseg.report.artifacts.drawings import Drawing

HOSTILE = "<b>a|b</b>"


@pytest.fixture
def record() -> ArtifactRecord:
    return ArtifactRecord(
        period=[2, 4],
        layers=[
            LayerRow(layer=HOSTILE, operator="x", stride=[2, 2], values={"dc_gain": 0.19}),
            LayerRow(layer="odd", operator="x", note="it is not linear"),
        ],
        gradients=[LayerRow(layer="down", operator="x", values={"gradient_imbalance": 0.1})],
        dilated=[LayerRow(layer="a, b", operator="dilations 2, 4", values={"common_factor": 2.0})],
        values={"constant_response": 0.03},
        cases=[
            CaseRow(case=HOSTILE, values={"prediction": {"gain": 0.012345, "eta_squared": None}})
        ],
        means={"gain": Estimate(mean=0.2, cases=9, low=0.1, high=0.3)},
        prediction=PhaseLocked(cases=9, p_value=0.001),
        notes=["case x: no cycle-spin residual: <reason>"],
    )


def test_the_page_shows_everything_and_runs_nothing(record) -> None:
    page = render_html("Artifacts", record, [Drawing(name="n", caption="A & B", png=b"PNG")])
    assert HOSTILE not in page
    assert "&lt;b&gt;a|b&lt;/b&gt;" in page
    assert "On a constant it prints 3 % of the logits&#39; spread: visible." in page
    assert "severe: phases amplify unequally" in page
    assert "0.1 … 0.3" in page
    assert "it is not linear" in page
    assert "&lt;reason&gt;" in page
    assert "data:image/png;base64,UE5H" in page
    assert "default-src 'none'" in page


def test_markdown_has_as_many_cells_in_every_row_as_heads(record) -> None:
    tables = [b for b in render_markdown("T", record).split("\n\n") if b.startswith("|")]
    assert len(tables) == 6  # no decision was measured
    for table in tables:
        rows = [line.replace("\\|", "") for line in table.splitlines()]
        assert len({row.count("|") for row in rows}) == 1


def test_csv_is_read_as_it_was_written(record) -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(record.cases))))
    assert {(row["case"], row["measure"], row["value"]) for row in rows} == {
        (HOSTILE, "gain", "0.012345"),
        (HOSTILE, "eta_squared", ""),
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.0, "0"), (3e-7, "0"), (-0.0321, "-0.0321"), (12.345, "12.3")],
)
def test_numbers_have_three_digits_and_rounding_is_0(value, text) -> None:
    assert number(value) == text
