"""docs/checkerboard.md and its details: examples, figures, the table of measures, the command."""

import doctest
import importlib
import io
import re
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from medseg import checkerboard
from medseg.checkerboard import registry
from medseg.record import ArtifactRecord, CaseRecord, RunRecord
from medseg.report.artifacts import values
from medseg.report.sections.checkerboard import checkerboard as section
from medseg.report.study import collect
from medseg.report.tables import Table

DOCS = Path(__file__).parents[1] / "docs"
PAGE, DETAILS = (
    (DOCS / f"{name}.md").read_text(encoding="utf-8")
    for name in ("checkerboard", "checkerboard-details")
)
SHOWN = re.findall(r'<img src="checkerboard/(\w+)\.png"', PAGE + DETAILS)


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("figures_of_docs", DOCS / "checkerboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_true() -> None:
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL))
    example = doctest.DocTestParser().get_doctest(blocks, {}, "checkerboard.md", None, 0)
    failures = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(example, out=failures.write)
    assert not failures.getvalue()
    assert len(example.examples) > 15


def test_figures_shown_are_those_drawn(script: ModuleType) -> None:
    files = {path.stem for path in (DOCS / "checkerboard").iterdir()}
    assert len(SHOWN) == len(set(SHOWN))
    assert set(SHOWN) == set(script.NAMES) == files


@pytest.mark.parametrize("name", SHOWN)
def test_a_figure_can_be_drawn(script: ModuleType, name: str) -> None:
    assert script.drawn(name).axes


def test_the_page_has_the_table_of_the_registry(script: ModuleType) -> None:
    assert script.TABLE.findall(PAGE) == [script.measure_table()]


def test_there_are_three_headlines_and_no_two_titles_are_equal() -> None:
    headlines = [entry.name for entry in registry.MEASURES if entry.headline]
    assert headlines == ["dc_gain", "cycle_spin_locked", "gain"]
    titles = [entry.title for entry in registry.MEASURES]
    assert len(set(titles)) == len(titles)


def test_a_new_entry_reaches_record_report_and_page(script: ModuleType, tmp_path) -> None:
    entry = checkerboard.Entry("tap_count", ("layers",), lambda u: float(u.kernel.numel()),
                               "Taps", "How many taps there are.", unit="taps")  # fmt: skip
    registry.MEASURES.append(entry)
    try:
        rows = checkerboard.upsampling_rows(nn.ConvTranspose2d(1, 1, 3, stride=2))
        described = registry.descriptions(rows[0].values)
        assert "| Taps | layers | taps | How many taps there are. |\n" in script.measure_table()
    finally:
        registry.MEASURES.remove(entry)
    assert rows[0].values["tap_count"] == 9
    cases = [CaseRecord(case="a", metrics={"organ": {"dice": 0.5}})]
    artifacts = ArtifactRecord(period=[2, 2], measures=described, layers=rows)
    run = RunRecord(name="x", status="completed", started="", cases=cases, artifacts=artifacts)
    run.write(tmp_path / "run")
    assert RunRecord.read(tmp_path / "run" / "record.json").artifacts == artifacts
    parts = section(collect([tmp_path])).parts
    folded = [part for outer in parts for part in getattr(outer, "parts", [])]
    tables = [part for part in [*parts, *folded] if isinstance(part, Table)]
    assert sum(any("Taps" in str(c) for c in each.frame.columns) for each in tables) == 2


@pytest.mark.parametrize("schema", [1, 2])
def test_measures_that_are_no_longer_taken_are_shown_of_old_records(schema) -> None:
    path = Path(__file__).parent / "records" / f"schema_{schema}.json"
    record = RunRecord.read(path).artifacts
    assert record is not None
    shown = values(record).set_index(["of", "measure"])["value"]
    assert shown["prediction", "line_decibel"] == 14.32748624477389
    assert shown["labels", "saddle_rate"] == 0.000966183574879227
