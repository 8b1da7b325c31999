"""Pages: of an operator, of a lecture; each one file that fetches nothing."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medseg.errors import ConfigError
from medseg.explain.drawing import Drawing, render
from medseg.explain.example import small
from medseg.explain.figures import FIGURES, draw_example
from medseg.explain.formulas import Formula, formulas
from medseg.explain.operator import Operator
from medseg.explain.palette import inline_svg
from medseg.explain.text import chain_of, example_title, grid_of, heading_of

CAPTIONS = {
    "example": "Values computed by torch; {example}.",
    "taps": "The taps of the kernel on the grid. Dotted cells are padding, or what is trimmed.",
    "overlap": "How often each voxel is used. An uneven count is a checkerboard built in.",
    "matrix": "The same operator as a matrix; rows are outputs, columns inputs, in array order.",
    "field": "What one output sees through the operator in a row with itself.",
}


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure that is no operator's own."""

    caption: str
    draw: Callable[[], Drawing]


@dataclass(frozen=True, kw_only=True)
class Work:
    """An operator worked through, with figures out of `example` and `FIGURES`."""

    operator: Operator
    figures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A figure on a page."""

    svg: Markup
    caption: str


@dataclass(frozen=True, kw_only=True)
class Worked:
    """An operator on a page."""

    title: str
    law: str
    source: str
    chain: str
    formulas: Sequence[Formula]
    figures: Sequence[Shown]


def operator_page(operator: Operator) -> str:
    """HTML with the operator's formulas and all of its figures; one too large says so instead."""
    work = Work(operator=operator, figures=("example", *FIGURES))
    return _rendered("operator.html.j2", work=_worked(work, formulas(operator), _prefixes()))


def _worked(work: Work, lines: Sequence[Formula], prefixes: Iterator[str]) -> Worked:
    operator = work.operator
    return Worked(
        title=heading_of(operator),
        law=operator.about.law,
        source=operator.about.source,
        chain=chain_of(operator),
        formulas=lines,
        figures=[_figure(operator, name, prefixes) for name in work.figures],
    )


def _figure(operator: Operator, name: str, prefixes: Iterator[str]) -> Shown:
    draw = draw_example if name == "example" else FIGURES[name]
    try:
        return _svg(draw(operator), _caption(operator, name), prefixes)
    except ConfigError as error:
        return Shown(svg=Markup(""), caption=f"{name.capitalize()} not drawn: {error}.")


def _caption(operator: Operator, name: str) -> str:
    example = example_title(operator)
    caption = CAPTIONS[name].format(example=example[0].lower() + example[1:])
    cut = small(operator).size
    if name == "taps" and cut != operator.size:
        caption += f" Drawn on {grid_of(cut, equal=False)} voxels."
    return caption


def _shown(picture: Picture, prefixes: Iterator[str]) -> Shown:
    return _svg(picture.draw(), picture.caption, prefixes)


def _svg(drawing: Drawing, caption: str, prefixes: Iterator[str]) -> Shown:
    svg = inline_svg(render(drawing), prefix=next(prefixes), title=caption)
    return Shown(svg=Markup(svg), caption=caption)


def _prefixes() -> Iterator[str]:
    return (f"f{number}" for number in count(1))


def _rendered(template: str, **content: object) -> str:
    page = Environment(
        loader=PackageLoader("medseg.explain"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = resources.files("medseg.explain").joinpath("templates", "page.css")
    return page.get_template(template).render(
        **content, css=Markup(css.read_text(encoding="utf-8"))
    )
