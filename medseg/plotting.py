"""Figures: one matplotlib style, one palette, SVG for a page and files for papers.

Figures are drawn in dark ink on a transparent background. A page in dark mode inverts them with one
CSS filter, `invert(1) hue-rotate(180deg)`, which keeps their hues; nothing is drawn twice. A map
whose light and dark mean something has the gid `AS_DRAWN`, and its numbers too: never inverted.
"""

import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from matplotlib import rc_context
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from medseg.files import write_bytes, write_text

WIDTH = 4.7  # inches; a point is about a pixel of a phone
SMALL = 7.5  # points, of notes
AS_DRAWN = "as-drawn"

INK, SOFT, RULE, OTHER, PALE = "#1b1f24", "#5c6570", "#dfe3e8", "#b6bdc6", "#e6e9ed"
# Okabe and Ito's hues, told apart by the colour-blind, darkened until each is seen on white.
BLUE, ORANGE, GREEN, PURPLE = "#0072b2", "#d55e00", "#009e73", "#b5579a"
HIGHLIGHTS = 12  # lines with a colour and a dash that tell them apart
SERIES = (BLUE, ORANGE, GREEN, PURPLE, "#c98a00", "#3fa4dc")
DIVERGING, AMOUNT = (
    LinearSegmentedColormap.from_list(name, shades).with_extremes(bad=PALE)
    for name, shades in (
        ("deviation", [BLUE, "white", ORANGE]),
        ("amount", ["white", BLUE, "#00263c"]),
    )
)

STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # names of arms and cases may hold a dollar sign
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": OTHER,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "hatch.color": OTHER,
    "hatch.linewidth": 0.8,
    "figure.dpi": 72,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
}

_DPI = 200
_FILES: dict[Any, Any] = {
    "svg.hashsalt": "medseg",  # the same figure gives the same bytes
    "pdf.fonttype": 42,  # letters stay letters, as journals ask
}
# Characters that XML 1.0 and matplotlib cannot hold, though a name may.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def styled() -> Any:
    """The style as a context or a decorator: `@styled()` above a function that draws."""
    return rc_context(STYLE)


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure, in inches, that finds the places of its axes by itself."""
    return Figure(figsize=(width, height), layout="constrained")


def line_style(place: int | None) -> dict[str, Any]:
    """Colour and dash of a line's place in the palette; grey without a place.

    >>> line_style(7)
    {'color': '#d55e00', 'linestyle': '--'}
    """
    if place is None:
        return {"color": OTHER, "linestyle": "-"}
    dashes = ("-", "--", ":")
    return {
        "color": SERIES[place % len(SERIES)],
        "linestyle": dashes[place // len(SERIES) % len(dashes)],
    }


def plain_ticks() -> FuncFormatter:
    """Tick labels as short as the numbers are, with a true minus: `0.3`, `−0.05`."""
    return FuncFormatter(lambda value, _: f"{value:.6g}".replace("-", "−"))


def shortened(text: str, letters: int) -> str:
    """A name for a figure: one line of at most `letters` characters that fonts and XML can hold.

    >>> shortened("a long name", 7)
    'a long…'
    """
    line = " ".join(_UNWRITABLE.sub("", text).split())
    return line if len(line) <= letters else f"{line[: letters - 1].rstrip()}…"


def inline_svg(content: str, title: str) -> str:
    """An SVG as an element of a page, with the page's font, as wide as the page lets it be.

    Args:
        content: Of `svg_text`.
        title: Read by a screen reader.
    """
    digest = hashlib.sha256((content + title).encode(errors="replace")).hexdigest()[:8]
    for pattern, replacement in (
        (r"<(metadata|style)\b.*?</\1>", ""),
        (r'<g id="[^"]*"', "<g"),
        (r'\sxmlns(:\w+)?="[^"]*"', ""),
        (r"xlink:href=", "href="),
        (r'(\bid="|href="#|url\(#)', rf"\g<1>f{digest}"),  # no two figures share an id
        (r"font-family:[^;\"]*;", ""),
        (r'\s(width|height)="[\d.]+pt"', ""),  # the page's width decides
    ):
        content = re.sub(pattern, replacement, content, flags=re.DOTALL)
    label = quoteattr(shortened(title, 200))
    attributes = f'role="img" aria-label={label} stroke-linejoin="round"'
    return content[content.index("<svg") :].replace("<svg", f"<svg {attributes}", 1).strip()


def svg_file(content: str) -> str:
    """An SVG of `svg_text` on white, as a file."""
    white = '<rect width="100%" height="100%" fill="white"/>'
    return re.sub(r"(<svg\b[^>]*>)", rf"\1{white}", content, count=1)


def save(figure: Figure, path: Path) -> None:
    """Writes a `.pdf`, `.svg` or `.png` file on white, wholly or not at all.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    path = Path(path)
    if path.suffix == ".svg":
        write_text(path, svg_file(svg_text(figure)))
        return
    stream = io.BytesIO()
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else None
    _draw(figure, stream, format=path.suffix[1:], facecolor="white", metadata=metadata)
    write_bytes(path, stream.getvalue())


def svg_text(figure: Figure) -> str:
    """The figure as matplotlib writes it as SVG: transparent, with its letters as text."""
    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none"}):
        _draw(figure, stream, format="svg", metadata={"Date": None}, transparent=True)
    return stream.getvalue().replace(f'id="{AS_DRAWN}"', f'class="{AS_DRAWN}"')


def _draw(figure: Figure, stream: Any, **options: Any) -> None:
    with warnings.catch_warnings(), rc_context(_FILES):
        # Widths are guessed from a font that need not have every letter; the page has its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        engine = figure.get_layout_engine()
        if engine is not None:
            engine.execute(figure)  # finds the places of the axes, which savefig would do twice
            figure.set_layout_engine(None)
        figure.savefig(stream, dpi=_DPI, **options)
