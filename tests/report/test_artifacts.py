"""The sections and files of `medseg artifacts` from a record, without a network."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from medseg.record import (
    ArtifactRecord,
    AxisSpectrum,
    CaseRow,
    Estimate,
    LayerRow,
    PhaseLocked,
    PhaseMap,
)
from medseg.record.checkerboard import FigureData
from medseg.report.artifacts import drawn, sections, values, write_results
from medseg.report.page import Page, render_html, render_markdown
from medseg.report.tables import to_csv

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
            CaseRow(
                case=HOSTILE,
                values={
                    "prediction": {"gain": 0.012345, "eta_squared": None},
                    "decision": {"dice": 0.87654},
                },
            )
        ],
        means={"gain": Estimate(mean=0.2, cases=9, low=0.1, high=0.3)},
        prediction=PhaseLocked(cases=9, p_value=0.001),
        phase_map=PhaseMap(period=[2, 1], values=[1.1, 0.9]),
        spectra=[AxisSpectrum(axis=0, period=2, bins=4, decibel=[0.0, 1.0, 2.0])],
        notes=["case x: no cycle-spin residual: <reason>"],
    )


@pytest.fixture
def data() -> FigureData:
    plane = np.arange(12.0).reshape(3, 4)
    return FigureData(constant=plane, image=plane, deviation=plane, prediction=plane > 5)


def test_a_page_holds_every_value_escaped(record: ArtifactRecord, data: FigureData) -> None:
    figures = drawn(record, data)
    page = render_html(Page("Artifacts"), sections(record, figures.values()))
    assert HOSTILE not in page
    for shown in ("&lt;b&gt;a|b&lt;/b&gt;", "0.0123", "0.877", "0.19", "0.001", "&lt;reason&gt;"):
        assert shown in page
    assert "it is not linear" in page
    assert page.count("<figure") == len(figures) == 4


def test_what_was_not_measured_has_no_section_or_figure() -> None:
    empty = ArtifactRecord(period=[2, 2])
    assert drawn(empty, FigureData()) == {}
    assert [section.key for section in sections(empty, []) if any(section.parts)] == ["summary"]


def test_a_clean_constant_is_one_colour() -> None:
    constant = np.full((4, 4), 3.0) + 1e-15
    (figure,) = drawn(ArtifactRecord(period=[2, 2]), FigureData(constant=constant)).values()
    low, high = figure.drawn.axes[0].images[0].get_clim()
    assert (low, high) == pytest.approx((2.0, 4.0))


def test_markdown_and_csv_hold_the_cases(record: ArtifactRecord) -> None:
    assert "0.0123" in render_markdown(Page("T"), sections(record, []))
    rows = list(csv.DictReader(io.StringIO(to_csv(values(record)))))
    assert {(row["case"], row["of"], row["measure"], row["value"]) for row in rows} == {
        (HOSTILE, "prediction", "gain", "0.012345"),
        (HOSTILE, "prediction", "eta_squared", ""),
        (HOSTILE, "decision", "dice", "0.87654"),
    }


def test_every_figure_is_written_as_picture_and_as_vectors(
    record: ArtifactRecord, data: FigureData, tmp_path: Path
) -> None:
    write_results(tmp_path, record, data, title="T", run=tmp_path / "none")
    found = {path.name for path in (tmp_path / "figures").glob("[!.]*")}
    names = ("phases", "spectrum", "constant", "cycle_spin")
    assert found == {f"{name}.{ending}" for name in names for ending in ("png", "pdf", "svg")}
