"""Pages stand alone: no address outside, every topic, every fact, figures with ids of their own."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from medseg.errors import ConfigError
from medseg.explain.figures import draw_figure
from medseg.explain.operator import make_operator
from medseg.explain.page import operator_page
from medseg.explain.palette import as_svg, inline_svg
from medseg.explain.write import write_figure, write_operator_page


class Elements(HTMLParser):
    """Tags, ids and the open elements of a page."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href"):
                self.references.append(value or "")


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_page_of_an_operator_has_all_figures(dims: int) -> None:
    elements = Elements(operator_page(make_operator("transposed", dims=dims)))
    assert elements.tags.count("figure") == 5
    assert len(elements.ids) == len(set(elements.ids))
    assert all(reference.startswith("#") for reference in elements.references)


def test_a_figure_in_a_page_takes_its_colours_and_letters() -> None:
    figure = draw_figure(make_operator("conv"), "taps")
    svg = inline_svg(figure, prefix="a", title="taps")
    assert "currentColor" in svg
    assert "var(--s0)" in svg
    assert "<text" in svg
    assert 'aria-label="taps"' in svg


def test_the_same_figure_is_the_same_file() -> None:
    operator = make_operator("linear")
    assert as_svg(draw_figure(operator, "all")) == as_svg(draw_figure(operator, "all"))


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    operator = make_operator("conv")
    write_figure(operator, "taps", tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    for wrong in ("a.html", "a", "a.jpg"):
        with pytest.raises(ConfigError, match=r"give a name ending in \.png or \.svg"):
            write_figure(operator, "taps", tmp_path / wrong)
    with pytest.raises(ConfigError, match=r"give a name ending in \.html"):
        write_operator_page(operator, tmp_path / "a.svg")
    with pytest.raises(ConfigError, match="too long to draw"):
        write_figure(make_operator("conv", times=200), "all", tmp_path / "b.svg")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
