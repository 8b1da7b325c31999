"""What docs/checkerboard.md says is true: examples, names, pictures, headers, the command."""

import doctest
import importlib
import io
import re
import shlex
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

from medseg import checkerboard
from medseg.cli import artifacts
from medseg.record import (
    ArtifactRecord,
    CaseRow,
    Estimate,
    LayerRow,
    PhaseLocked,
)
from medseg.report.artifacts import document

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "checkerboard.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
SECTIONS = re.findall(r"^### (.*)\n", PAGE.split("\n## Measured\n")[0], flags=re.MULTILINE)
SHOWN = re.findall(r'<img src="checkerboard/(\w+)\.png"', PAGE)
QUESTIONS = ("Asks", "Formula", "Range", "Example", "Does not see", "Fools you")


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drawing", DOCS / "checkerboard.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_example_is_true() -> None:
    # one namespace for the whole page, as a reader has who types it in
    example = doctest.DocTestParser().get_doctest(
        "\n".join(BLOCKS), {}, "checkerboard.md", "docs/checkerboard.md", 0
    )
    said = io.StringIO()
    doctest.DocTestRunner(verbose=False).run(example, out=said.write)
    assert not said.getvalue()
    assert len(example.examples) > 60


def test_every_name_is_public() -> None:
    names = set(re.findall(r"\bcheckerboard\.(\w+)", PAGE)) - {"py", "md"}
    assert names <= set(checkerboard.__all__)


def test_every_measure_is_on_the_page() -> None:
    by_hand = {name for name in checkerboard.__all__ if name[0].islower()}
    plumbing = {"lattice_period", "phase_imbalance", "phase_masses", "gradient_gains"}
    plumbing |= {"upsampling_gains", "upsampling_kernel", "upsampling_stride", "phase_gains"}
    plumbing |= {"response_to_constant", "welch_line", "window_moments"}
    missing = {name for name in by_hand - plumbing if f"checkerboard.{name}" not in PAGE}
    assert not missing


@pytest.mark.parametrize("title", [s for s in SECTIONS if s != "What we never do"])
def test_every_section_answers_the_same_questions(title: str) -> None:
    section = re.split(r"^##", PAGE.split(f"### {title}\n")[1], flags=re.MULTILINE)[0]
    assert re.findall(r"^- \*\*([^*]+)\*\*", section, flags=re.MULTILINE) in (
        list(QUESTIONS),
        [*QUESTIONS[:4], "Adds", *QUESTIONS[4:]],
    )
    assert section.count("<img ") == section.count("```python") == 1


def test_the_script_draws_what_the_page_shows_and_nothing_else(drawing: ModuleType) -> None:
    files = {path.stem for path in (DOCS / "checkerboard").iterdir()}
    assert len(SHOWN) == len(set(SHOWN))
    assert set(SHOWN) == set(drawing.NAMES) == files


def test_pictures_are_small() -> None:
    sizes = [path.stat().st_size for path in (DOCS / "checkerboard").glob("*.png")]
    assert max(sizes) < 60_000
    assert sum(sizes) < 900_000


@pytest.mark.parametrize("name", SHOWN)
def test_a_picture_is_drawn_as_it_is_shown(drawing: ModuleType, name: str) -> None:
    figure = drawing.drawn(name)
    expected = figure.get_size_inches() * figure.dpi
    with Image.open(DOCS / "checkerboard" / f"{name}.png") as shown:
        assert shown.size == pytest.approx(tuple(expected), abs=1)


def test_the_command_is_understood() -> None:
    (command,) = re.findall(r"^medseg artifacts .*$", PAGE, flags=re.MULTILINE)
    arguments = artifacts._parser().parse_args(shlex.split(command)[2:])
    assert arguments.spin
    assert arguments.labels == [Path("LABELS")]


def test_every_header_is_explained() -> None:
    headlines = {name: Estimate(mean=0.0, cases=1) for name in document._HEADLINES}
    record = ArtifactRecord(
        period=[2],
        layers=[LayerRow(layer="up", operator="")],
        gradients=[LayerRow(layer="down", operator="")],
        dilated=[LayerRow(layer="a", operator="")],
        cases=[CaseRow(case="1", values={"decision": {"dice": 1.0}})],
        means=headlines,
        prediction=PhaseLocked(cases=1),
    )
    explained = PAGE.split("## How to read")[1]
    tables = document.tables(record)
    heads = {head for head, _ in tables.values() for head in head if head}
    heads |= {row[0] for row in tables["Headline"][1]}
    assert {head for head in heads if f"\n| {head} |" not in explained} == set()
    assert {name for name in tables if f"**{name}**" not in explained} == set()


def test_the_page_ends_with_a_place_for_measurements() -> None:
    assert PAGE.count("\n## Measured\n") == 1
    assert PAGE.index("\n## Measured\n") > PAGE.index("\n## How to read")
