"""Colours of figures, and figures as PNG, as SVG and as part of a page."""

import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

INK, SOFT, RULE = "#1b1f24", "#5c6570", "#b9c1ca"
ACCENT, MARK = "#0072b2", "#d55e00"
_PAGE = {
    INK: "currentColor",
    SOFT: "var(--soft)",
    RULE: "var(--other)",
    ACCENT: "var(--s0)",
    MARK: "var(--s1)",
}
_RC: dict[Any, Any] = {"svg.hashsalt": "medseg", "font.family": "DejaVu Sans"}
_DPI = 200


def as_png(figure: Figure) -> bytes:
    """PNG on white."""
    return _saved(figure, "png", dpi=_DPI, facecolor="white")


def as_svg(figure: Figure) -> bytes:
    """SVG on white whose letters are outlines, so that it looks alike everywhere."""
    return _saved(figure, "svg", facecolor="white", metadata={"Date": None})


def inline_svg(figure: Figure, *, prefix: str, title: str) -> str:
    """An SVG element whose ids are its own and whose colours and letters are the page's.

    It has its natural width, which a narrow page shrinks.
    """
    figure.patch.set_visible(False)
    raw = _saved(figure, "svg", {"svg.fonttype": "none"}, metadata={"Date": None}).decode()
    text = raw[raw.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\s(width|height)="[\d.]+pt"', "", text, count=2)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{prefix}-", text)
    for drawn, shown in _PAGE.items():
        text = text.replace(drawn, shown)
    width = figure.get_figwidth()
    attributes = f'role="img" aria-label="{title}" style="width: {width * 1.35:.2f}in"'
    return text.replace("<svg", f"<svg {attributes}", 1).strip()


def _saved(figure: Figure, form: str, settings: dict[Any, Any] | None = None, **how: Any) -> bytes:
    stream = io.BytesIO()
    with rc_context({**_RC, **(settings or {})}):
        figure.savefig(stream, format=form, **how)
    return stream.getvalue()
