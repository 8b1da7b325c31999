"""What the figures share: stand-ins for the page's colours, empty charts, SVG for inlining."""

import hashlib
import io
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from medseg.report.collect import Arm

HIGHLIGHTS = 12
WIDTH = 4.7  # inches; at 390 px a unit is about one pixel
SMALL = 8.5

_COLOURS = 6
# Stand-ins that the SVG is drawn with; each is replaced by a colour of the page.
TEXT, SOFT, RULE, OTHER = "#0a0b0c", "#0a0b0f", "#0a0b0d", "#0a0b0e"
SERIES = tuple(f"#0a0c0{i}" for i in range(_COLOURS))
_PAGE = {
    TEXT: "currentColor",
    SOFT: "var(--soft)",
    RULE: "var(--rule)",
    OTHER: "var(--other)",
} | {colour: f"var(--s{i})" for i, colour in enumerate(SERIES)}

RC: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "medseg",
    "figure.dpi": 72,  # a pixel is a point
    "font.family": "DejaVu Sans",
    "font.size": SMALL,
    "text.color": TEXT,
    "text.parse_math": False,
    "axes.labelcolor": TEXT,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "xtick.labelcolor": TEXT,
    "ytick.labelcolor": TEXT,
    "hatch.color": OTHER,
    "hatch.linewidth": 0.8,
}

_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_TEXT_RULES = re.compile(r"font-family:[^;]*;?")
_REFERENCE = re.compile(r"#([\w.-]+)")
# XML 1.0 knows no way to write these.
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def styles(arms: Sequence[Arm], means: dict[int, float]) -> dict[int, int]:
    """Arm number → place in the palette, for the `HIGHLIGHTS` best arms; the others are grey."""
    ranked = sorted(arms, key=lambda arm: -means.get(arm.number, -math.inf))[:HIGHLIGHTS]
    kept = sorted(arm.number for arm in ranked)
    return {arm: place for place, arm in enumerate(kept)}


def stroke(place: int | None) -> tuple[str, str]:
    """Colour and dash of a place in the palette; grey without a place."""
    if place is None:
        return OTHER, "-"
    return SERIES[place % _COLOURS], "-" if place < _COLOURS else "--"


def chart(x: str, y: str, *, height: float = 3.1) -> tuple[Figure, Axes]:
    """An empty chart of the width of all figures, its y label above it; call it within `RC`."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    bare(axes)
    axes.set_xlabel(x)
    axes.set_title(y, loc="left", fontsize=SMALL + 0.5)
    axes.grid(axis="y", color=RULE, lw=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=x == "Epoch"))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: plain(value))
    axes.yaxis.set_major_formatter(lambda value, _: plain(value))
    return figure, axes


def bare(axes: Axes) -> None:
    """No frame but the line below, no ticks, the grid behind everything."""
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0)


def plain(value: float) -> str:
    """A number as short as it is, with a true minus: `0.3`, `−0.05`."""
    return f"{value:.6g}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """A difference with that many decimals and its sign: `+0.012`, `−0.003`, `0.000`."""
    text = f"{value:+.{digits}f}"
    return text.replace("-", "−") if float(text) else text[1:]


def digits_for(values: Iterable[float]) -> int:
    """Decimals that tell `values` apart to a tenth of their range, 1 to 4; 3 without a range."""
    finite = [value for value in values if math.isfinite(value)]
    span = max(finite) - min(finite) if finite else 0.0
    return min(4, max(1, 1 - math.floor(math.log10(span)))) if span > 0 else 3


def shortened(text: str, letters: int) -> str:
    """One line of at most `letters` characters.

    >>> shortened("a long name", 7)
    'a long…'
    """
    line = " ".join(text.split())
    return line if len(line) <= letters else f"{line[: letters - 1].rstrip()}…"


def settled(figure: Figure) -> Bbox:
    """Fixes the places of axes, so that labels can be put by points; the figure's box in points."""
    with warnings.catch_warnings():
        # Widths are guessed from a font that need not have every letter; the page has its own.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return Bbox.from_bounds(*figure.bbox.bounds)


def svg(figure: Figure, title: str) -> str:
    """The figure as an SVG element that inherits the font and the colours of its page.

    Ids carry a digest of the drawing: two figures share one only where they define the same.

    Args:
        figure: Drawn with `RC`.
        title: What a screen reader says.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    stream = io.StringIO()
    with warnings.catch_warnings(), rc_context(RC):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(stream, format="svg", metadata={"Date": None})
    drawn = ElementTree.fromstring(_UNWRITABLE.sub("", stream.getvalue()))
    prefix = hashlib.sha256(stream.getvalue().encode()).hexdigest()[:6]
    root = Element("svg", {"role": "img", "aria-label": _UNWRITABLE.sub("", title)})
    root.set("viewBox", _rounded(drawn.get("viewBox", "")))
    root.set("stroke-linejoin", "round")
    needed = {
        name
        for element in drawn.iter()
        for value in element.attrib.values()
        for name in _REFERENCE.findall(value)
    }
    root.extend(_light(list(drawn), needed, prefix))
    return ElementTree.tostring(root, encoding="unicode")


def _light(elements: Iterable[Element], needed: set[str], prefix: str) -> list[Element]:
    """The same drawing without names, groups and digits that nobody needs."""
    light = []
    for element in elements:
        tag = element.tag.rpartition("}")[2]
        if tag in ("metadata", "style"):
            continue
        kept = _attributes(element, needed, prefix)
        children = _light(element, needed, prefix)
        if tag in ("g", "defs") and not children:
            continue
        if tag == "g" and not kept:
            light += children
            continue
        new = Element(tag, kept)
        new.text = element.text if tag == "text" else None
        new.extend(children)
        light.append(new)
    return light


def _attributes(element: Element, needed: set[str], prefix: str) -> dict[str, str]:
    kept = {}
    for key, value in element.attrib.items():
        name = key.rpartition("}")[2]
        if name == "id":
            if value in needed:
                kept[name] = f"{prefix}{value}"
            continue
        if name == "transform" and value.startswith("rotate(-0 "):
            continue
        if name == "style":
            value = _TEXT_RULES.sub("", value)
            for drawn, shown in _PAGE.items():
                value = value.replace(drawn, shown)
            value = re.sub(r"\s*([:;])\s*", r"\1", value).strip("; ")
        if name == "href" or "url(#" in value:
            value = _REFERENCE.sub(rf"#{prefix}\1", value)
        kept[name] = _rounded(" ".join(value.split()))
    return kept


def _rounded(value: str) -> str:
    return _NUMBER.sub(lambda found: f"{float(found[0]):.2f}".rstrip("0").rstrip("."), value)
