"""Where in frequency the logits' residual has its power: a panel per arm."""

import math
from collections.abc import Collection, Sequence

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medseg.record.checkerboard import AxisSpectrum
from medseg.report.figures.style import (
    HIGHLIGHTS,
    RC,
    RULE,
    SERIES,
    SMALL,
    TEXT,
    WIDTH,
    bare,
    plain,
    shortened,
    svg,
)

_ABREAST = 3
_LETTERS = 19
_TICKS = {0.0: "0", 0.25: "¼", 0.5: "½"}


def spectra(rows: Sequence[tuple[int, str, Sequence[AxisSpectrum]]]) -> str:
    """Power by frequency along each axis, in dB over its mean, with one scale for all arms.

    Dots mark the harmonics of the lattice, `k / period`: a pattern locked to the strides stands
    out there, texture does not.

    Args:
        rows: Arm, label and spectra of its axes, of one run; the first 12 are drawn.

    Returns:
        SVG, or nothing where no arm has a spectrum.
    """
    known = [row for row in rows if row[2]]
    shown = known[:HIGHLIGHTS]
    if not shown:
        return ""
    abreast = min(_ABREAST, len(shown))
    lines = math.ceil(len(shown) / abreast)
    with rc_context(RC):
        height = 1.8 if lines == 1 else 1.15 * lines
        figure = Figure(figsize=(WIDTH, height + 0.7), layout="constrained")
        panels = figure.subplots(lines, abreast, sharex=True, sharey=True, squeeze=False)
        for panel, (arm, label, found) in zip(panels.flat, shown, strict=False):
            _draw(panel, found)
            letters = _LETTERS * _ABREAST // abreast
            panel.set_title(shortened(f"{arm} {label}", letters), loc="left", fontsize=SMALL)
        for index, panel in enumerate(panels.flat):
            if index >= len(shown):
                panel.set_axis_off()
            elif index + abreast >= len(shown):
                panel.tick_params(labelbottom=True)
                for label in panel.get_xticklabels():
                    label.set_in_layout(index // abreast == lines - 1)
        figure.supxlabel(_below(len(known)), fontsize=SMALL)
        _key(figure, {spectrum.axis for _, _, found in shown for spectrum in found})
        return svg(figure, "Power of the logits by frequency, by arm")


def over_mean(found: AxisSpectrum) -> NDArray[np.float64]:
    """Decibel over the mean power of all frequencies from −½ to ½ cycles per voxel.

    >>> over_mean(AxisSpectrum(axis=0, period=2, bins=4, decibel=[3.0, 3.0, 3.0])).round()
    array([0., 0., 0.])
    """
    decibel = np.array(found.decibel, dtype=float)
    frequencies = _frequencies(found)
    # all but 0 and 1/2 stand for their negative as well
    weights = np.where((frequencies == 0) | (frequencies == 0.5), 1, 2)
    return decibel - 10 * np.log10(np.average(10 ** (decibel / 10), weights=weights))


def _draw(panel: Axes, found: Sequence[AxisSpectrum]) -> None:
    bare(panel)
    panel.grid(axis="y", color=RULE, lw=0.6)
    for spectrum in found:
        frequencies, decibel = _frequencies(spectrum), over_mean(spectrum)
        colour = SERIES[spectrum.axis]
        panel.plot(frequencies, decibel, color=colour, lw=1.2)
        harmonics = _harmonics(spectrum)
        panel.plot(frequencies[harmonics], decibel[harmonics], "o", color=colour, ms=3.5)
    panel.set_xticks(list(_TICKS), list(_TICKS.values()))
    panel.yaxis.set_major_locator(MaxNLocator(nbins=4))
    panel.yaxis.set_major_formatter(lambda value, _: plain(value))


def _key(figure: Figure, axes: Collection[int]) -> None:
    lines = [Line2D([], [], color=SERIES[a], lw=1.2, label=f"axis {a}") for a in sorted(axes)]
    dot = Line2D([], [], color=TEXT, ls="", marker="o", ms=3.5, label="harmonic of the lattice")
    figure.legend(
        handles=[*lines, dot],
        loc="outside upper left",
        ncols=len(axes) + 1,
        frameon=False,
        fontsize=SMALL,
    )


def _frequencies(found: AxisSpectrum) -> NDArray[np.float64]:
    return np.arange(len(found.decibel)) / found.bins


def _harmonics(found: AxisSpectrum) -> list[int]:
    return [k * found.bins // found.period for k in range(1, found.period // 2 + 1)]


def _below(arms: int) -> str:
    left_out = f"\nThe first {HIGHLIGHTS} of {arms} arms" if arms > HIGHLIGHTS else ""
    return f"Power in dB over its mean, by cycles per voxel{left_out}"
