"""A page of sections: HTML in one file that needs no network, and Markdown without figures."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib import resources
from typing import Any

import matplotlib.figure
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medseg.formatting import printable
from medseg.plotting import inline_svg, svg_file, svg_text
from medseg.report.tables import Table, plain_markdown, to_markdown

ROWS = 1000  # of a table on the page; the files beside it have all
_STYLES = ("page.css", "parts.css", "cases.css", "print.css")


class Note(str):
    """A paragraph of small print."""


@dataclass(frozen=True)
class Figure:
    """A figure with its caption.

    Args:
        drawn: By matplotlib, or SVG; None or empty where there was nothing to draw.
        title: What a screen reader says of it.
        caption: Below it.
        wide: Whether it stands alone, over the whole width.
    """

    drawn: matplotlib.figure.Figure | str | None
    title: str = ""
    caption: str = ""
    wide: bool = False

    def __bool__(self) -> bool:
        return bool(self.drawn)

    @property
    def svg(self) -> Markup:
        """The figure as inline SVG."""
        if isinstance(self.drawn, matplotlib.figure.Figure):
            return Markup(inline_svg(self.content, self.title))
        return Markup(self.drawn or "")

    @cached_property
    def content(self) -> str:
        """What matplotlib drew as SVG; drawn once for the page and for the file beside it."""
        return svg_text(self.drawn) if isinstance(self.drawn, matplotlib.figure.Figure) else ""


@dataclass(frozen=True)
class Html:
    """Markup of one's own, and the scripts in it, which the page's policy then allows."""

    markup: Markup
    scripts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A title and its parts, from top to bottom.

    A part is a paragraph (`str`, or `Note` for small print), a list of sentences, a dict of facts
    (name → text), a `Table`, a `Figure` or a list of figures that stand side by side, `Html`, or
    a section within this one.

    Args:
        title: Its heading.
        parts: Empty ones are left out.
        key: Its anchor on the page; sections within another need none.
        folded: Whether a section within another is closed until the reader opens it.
        about: Small print after the title of a folded one.
        legend: Whether the colours of the arms stand above the parts.
    """

    title: str
    parts: Sequence[Any] = ()
    key: str = ""
    folded: bool = False
    about: str = ""
    legend: bool = False

    @property
    def scripts(self) -> list[str]:
        """Every script in its parts."""
        found: list[str] = []
        for part in self.parts:
            found += part.scripts if isinstance(part, Html | Section) else []
        return found


@dataclass(frozen=True)
class Page:
    """What stands around the sections.

    Args:
        title: Of the page.
        about: The line below it.
        arms: Number, label and place in the palette (None for grey) of every arm.
    """

    title: str
    about: str = ""
    arms: Sequence[tuple[int, str, int | None]] = field(default_factory=tuple)


def render_html(page: Page, sections: Sequence[Section]) -> str:
    """Writes the page; the policy in its head forbids whatever is not inside the file."""
    script = asset("report.js")
    allowed = [script, *(text for section in sections for text in section.scripts)]
    hashes = (hashlib.sha256(text.encode()).digest() for text in allowed)
    digests = [base64.b64encode(found).decode() for found in hashes]
    text = (
        environment()
        .get_template("page.html.j2")
        .render(
            page=page,
            sections=sections,
            style={number: place for number, _, place in page.arms},
            css=Markup("\n".join(map(asset, _STYLES))),
            script=Markup(script),
            script_sources=" ".join(f"'sha256-{digest}'" for digest in digests),
            most_rows=ROWS,
        )
    )
    return printable(text)


def render_markdown(page: Page, sections: Iterable[Section]) -> str:
    """Writes the same sections without figures; every value is escaped."""
    lines = [f"# {plain_markdown(page.title)}", plain_markdown(page.about)]
    for section in sections:
        lines += _markdown(section, 2)
    return printable("\n\n".join(filter(None, lines)) + "\n")


def vector_files(sections: Iterable[Section]) -> dict[str, str]:
    """Every figure that matplotlib drew as SVG, by a file name of its section and title."""
    found: dict[str, str] = {}
    for section in sections:
        for figure in _figures(section.parts):
            if figure.content:
                name = re.sub(r"[^a-z0-9]+", "-", f"{section.key} {figure.title}".lower())
                name = name.strip("-")[:80]
                same = sum(other.startswith(name) for other in found)
                found[f"{name}-{same + 1}.svg" if same else f"{name}.svg"] = svg_file(
                    figure.content
                )
    return found


@cache
def environment() -> Environment:
    """The environment of every template of the package; all text is escaped."""
    found = Environment(
        loader=PackageLoader("medseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.tests["part"] = lambda part, kind: _kind(part) == kind
    return found


def asset(name: str) -> str:
    """The text of a file beside the templates."""
    folder = resources.files("medseg.report") / "templates"
    return (folder / name).read_text(encoding="utf-8").strip()


def _kind(part: Any) -> str:
    if isinstance(part, list) and part and isinstance(part[0], Figure):
        return "figures" if any(part) else ""
    if not isinstance(part, Html | Section) and not part:
        return ""
    kinds = ((Note, "note"), (str, "text"), (Mapping, "facts"), (Table, "table"))
    kinds += ((Figure, "figure"), (Html, "html"), (Section, "section"))
    for kind, name in kinds:
        if isinstance(part, kind):
            return name
    return "list"


def _markdown(section: Section, level: int) -> list[str]:
    lines = [f"{'#' * level} {plain_markdown(section.title)}"]
    for part in section.parts:
        match _kind(part):
            case "note" | "text":
                lines.append(plain_markdown(part))
            case "list":
                lines.append("\n".join(f"- {plain_markdown(line)}" for line in part))
            case "facts":
                pairs = ((plain_markdown(k), plain_markdown(v)) for k, v in part.items())
                lines.append("\n".join(f"- {name}: {text}" for name, text in pairs))
            case "table":
                lines.append(to_markdown(part))
            case "section":
                lines += _markdown(part, level + 1)
    return lines if lines[1:] else []


def _figures(parts: Iterable[Any]) -> Iterator[Figure]:
    for part in parts:
        if isinstance(part, Figure):
            yield part
        elif isinstance(part, Section | list):
            yield from _figures(part.parts if isinstance(part, Section) else part)
