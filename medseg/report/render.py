"""The page as HTML (self-contained) and as Markdown."""

import base64
import hashlib
import re
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from medseg.report.cells import Table

_TABLE_ROWS = 1000
_STYLES = ("page.css", "parts.css", "cases.css", "print.css")


def render_html(content: dict[str, Any]) -> str:
    """The page; the policy in its head forbids everything that is not inside the file."""
    page = Environment(
        loader=PackageLoader("medseg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("report.js")
    hashes = [_digest(text) for text in (script, *content["cases"].scripts)]
    return page.get_template("report.html.j2").render(
        **content,
        css=Markup("\n".join(_asset(name) for name in _STYLES)),
        script=Markup(script),
        script_sources=" ".join(f"'sha256-{found}'" for found in hashes),
        most_rows=_TABLE_ROWS,
    )


def render_markdown(content: dict[str, Any]) -> str:
    """The same tables and sections without pictures; every value is escaped."""
    page = Environment(
        loader=PackageLoader("medseg.report"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: value if isinstance(value, Markup) else _escaped(str(value)),
    )
    page.filters["table"] = _markdown_table
    text = page.get_template("report.md.j2").render(**content)
    return re.sub(r"\n{3,}", "\n\n", text)


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _asset(name: str) -> str:
    folder = resources.files("medseg.report") / "templates"
    return (folder / name).read_text(encoding="utf-8").strip()


def _escaped(text: str) -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))


def _markdown_table(table: Table) -> Markup:
    heads = [f"{c.title} ({c.unit})" if c.unit else c.title for c in table.columns]
    marks = ["---:" if column.numeric else "---" for column in table.columns]
    rows = [
        [f"{cell.text} ({cell.note})" if cell.note else cell.text for cell in row.cells]
        for row in table.rows
    ]
    lines = [map(_escaped, heads), marks, *(map(_escaped, row) for row in rows)]
    return Markup("\n".join(f"| {' | '.join(line)} |" for line in lines))
