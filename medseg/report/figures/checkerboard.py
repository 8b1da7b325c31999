"""Checkerboard patterns: gain of each phase, power by frequency, slices of voxels."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from medseg.formatting import significant
from medseg.plotting import (
    DIVERGING,
    HIGHLIGHTS,
    INK,
    ORANGE,
    SERIES,
    SMALL,
    new_figure,
    plain_ticks,
    shortened,
    styled,
)
from medseg.record.checkerboard import AxisSpectrum, FigureData, PhaseMap

_CROP = 64
_GLOW = LinearSegmentedColormap.from_list("glow", [(*to_rgb(ORANGE), 0.0), (*to_rgb(ORANGE), 1.0)])
_ABREAST = 3
_LEAST_SPAN = 1.0  # percent: smaller departures stay pale
_WRITTEN = 16  # cells of a map that have their number

Array = NDArray[np.float64]


@styled()
def constant_response(data: FigureData) -> Figure | None:
    """Response to a constant image, one cell a voxel, white at its mean; at most 64 × 64 voxels."""
    if data.constant is None:
        return None
    shown = data.constant[:_CROP, :_CROP]
    mean = float(np.nanmean(shown))
    half = float(np.nanmax(np.abs(shown - mean)))
    half = half if half > 1e-9 * max(1.0, abs(mean)) else 1.0  # rounding has no colour
    figure = new_figure(1.0 + 3.6 * min(1.5, shown.shape[0] / shown.shape[1]))
    axes = figure.add_subplot()
    image = axes.imshow(
        shown, cmap=DIVERGING, vmin=mean - half, vmax=mean + half, interpolation="none"
    )
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=30, shrink=0.9)
    bar.set_label("logit")
    bar.outline.set_visible(False)
    return figure


@styled()
def cycle_spin_overlay(data: FigureData) -> Figure | None:
    """Departure of the logits from their mean over shifts, over the image, with outlines."""
    if data.image is None or data.deviation is None:
        return None
    rows, columns = data.image.shape
    figure = new_figure(1.35 + min(5.5, 4.0 * rows / columns))
    axes = figure.add_subplot()
    axes.imshow(data.image, cmap="gray", interpolation="nearest")
    image = axes.imshow(data.deviation, cmap=_GLOW, vmin=0, interpolation="nearest")
    axes.set_axis_off()
    rim = [withStroke(linewidth=2.4, foreground=INK)]
    handles = []
    for name, colour, dash, labels in (
        ("truth", "#56b4e9", "-", data.truth),
        ("prediction", "#f0e442", "--", data.prediction),
    ):
        if labels is None:
            continue
        for label in np.unique(labels)[1:]:
            lines = axes.contour(labels == label, levels=[0.5], colors=colour, linestyles=dash)
            lines.set(linewidth=1.2, path_effects=rim)
        line = Line2D([], [], color=colour, ls=dash, lw=1.6, label=name, path_effects=rim)
        handles.append(line)
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=2, handlelength=3)
    bar = figure.colorbar(image, ax=axes, location="bottom", aspect=30, shrink=0.9)
    bar.set_label("departure from the mean over shifts, logit")
    bar.outline.set_visible(False)
    return figure


@styled()
def phase_maps(rows: Sequence[tuple[int, str, PhaseMap]]) -> Figure | None:
    """Departure of each phase's gain from the mean over phases, in percent, on one scale for all.

    White without a pattern. The scale is symmetric and no finer than ±1 %. Of three axes the
    planes along the first stand beside each other.

    Args:
        rows: Arm, label and map; the first 12 are drawn. Learned patterns differ between the
            seeds of an arm, so a map is that of one run, never a mean over runs.

    Raises:
        ValueError: a map with another number of values than phases.
    """
    shown = rows[:HIGHLIGHTS]
    if not shown:
        return None
    maps = [100 * (_by_phase(found) - 1) for _, _, found in shown]
    span = max(_LEAST_SPAN, *(float(np.abs(values).max()) for values in maps))
    pictures = [side_by_side(values) for values in maps]
    flattest = max(picture.shape[0] / picture.shape[1] for picture in pictures)
    figure, panels = _panels(len(shown), height=0.3 + min(1.4, 1.4 * flattest), extra=0.6)
    for panel, (arm, label, found), values, picture in zip(
        panels, shown, maps, pictures, strict=True
    ):
        panel.imshow(
            np.ma.masked_invalid(picture), cmap=DIVERGING, vmin=-span, vmax=span,
            interpolation="none",
        )  # fmt: skip
        rms = f"RMS {significant(float(np.sqrt(np.square(values).mean())))} %"
        chance = "" if found.noise is None else f", chance {significant(100 * found.noise)} %"
        panel.set_title(f"{_name(arm, label, len(shown))}\n{rms}{chance}", fontsize=SMALL)
        panel.set(xticks=[], yticks=[])
        panel.spines[:].set_visible(True)
        if picture.size <= _WRITTEN:
            _write_numbers(panel, picture, span)
    bar = figure.colorbar(panels[0].images[0], ax=panels, location="bottom", aspect=40, shrink=0.9)
    bar.set_label("gain of a phase over the mean gain, %" + _left_out(len(rows)))
    bar.ax.xaxis.set_major_formatter(plain_ticks())
    bar.outline.set_visible(False)
    return figure


@styled()
def spectra(rows: Sequence[tuple[int, str, Sequence[AxisSpectrum]]]) -> Figure | None:
    """Power by frequency along each axis, in dB over its mean, with one scale for all arms.

    Dots mark the harmonics of the stride grid, `k / period`: a pattern locked to the strides
    stands out there, texture does not.

    Args:
        rows: Arm, label and spectra of its axes, of one run; the first 12 are drawn.
    """
    known = [row for row in rows if row[2]]
    shown = known[:HIGHLIGHTS]
    if not shown:
        return None
    figure, panels = _panels(len(shown), height=1.35, extra=0.75)
    for panel, (arm, label, found) in zip(panels, shown, strict=True):
        for spectrum in found:
            frequencies = np.arange(len(spectrum.decibel)) / spectrum.bins
            decibel, colour = over_mean(spectrum), SERIES[spectrum.axis]
            panel.plot(frequencies, decibel, color=colour, lw=1.2)
            harmonics = [
                k * spectrum.bins // spectrum.period for k in range(1, spectrum.period // 2 + 1)
            ]
            panel.plot(frequencies[harmonics], decibel[harmonics], "o", color=colour, ms=3.5)
        panel.set_title(_name(arm, label, len(shown)), fontsize=SMALL)
        panel.set_xticks([0, 0.25, 0.5], ["0", "¼", "½"])
        panel.grid(axis="y")
        panel.yaxis.set_major_locator(MaxNLocator(nbins=4))
        panel.yaxis.set_major_formatter(plain_ticks())
    limits = np.array([panel.get_ylim() for panel in panels])
    for panel in panels:
        panel.set_ylim(limits[:, 0].min(), limits[:, 1].max())
    label = "power in dB over its mean, by cycles per voxel" + _left_out(len(known))
    figure.supxlabel(label, fontsize=8.5)
    axes = sorted({spectrum.axis for _, _, found in shown for spectrum in found})
    figure.legend(
        handles=[
            *(Line2D([], [], color=SERIES[axis], label=f"axis {axis}") for axis in axes),
            Line2D(
                [], [], color=INK, ls="", marker="o", ms=3.5, label="harmonic of the stride grid"
            ),
        ],
        loc="outside upper left",
        ncols=len(axes) + 1,
    )
    return figure


def over_mean(found: AxisSpectrum) -> Array:
    """Decibel over the mean power of all frequencies from −½ to ½ cycles per voxel.

    >>> over_mean(AxisSpectrum(axis=0, period=2, bins=4, decibel=[0.0, 0.0, 0.0])).tolist()
    [0.0, 0.0, 0.0]
    """
    decibel = np.array(found.decibel, dtype=float)
    frequencies = np.arange(len(decibel)) / found.bins
    # all but 0 and 1/2 stand for their negative as well
    weights = np.where((frequencies == 0) | (frequencies == 0.5), 1, 2)
    return decibel - 10 * np.log10(np.average(10 ** (decibel / 10), weights=weights))


def side_by_side(values: Array) -> Array:
    """Planes of three axes beside each other with an empty column between; fewer axes as rows.

    >>> side_by_side(np.ones((2, 1, 1))).tolist()
    [[1.0, nan, 1.0]]
    """
    if values.ndim < 3:
        return np.atleast_2d(values)
    gapped = np.pad(values, [(0, 0), (0, 0), (0, 1)], constant_values=np.nan)
    return gapped.transpose(1, 0, 2).reshape(values.shape[1], -1)[:, :-1]


def _by_phase(found: PhaseMap) -> Array:
    if len(found.values) != math.prod(found.period):
        raise ValueError(
            f"{len(found.values)} values are no map of the period {tuple(found.period)}; give one "
            "for each phase"
        )
    return np.reshape(np.array(found.values, dtype=float), found.period)


def _panels(count: int, *, height: float, extra: float) -> tuple[Figure, list[Axes]]:
    """At most three panels in a row, each so high, and so much room for what surrounds them."""
    abreast = min(_ABREAST, count)
    rows = math.ceil(count / abreast)
    figure = new_figure(rows * height + extra)
    return figure, [figure.add_subplot(rows, abreast, place + 1) for place in range(count)]


def _name(arm: int, label: str, count: int) -> str:
    return shortened(f"{arm} {label}", 66 // min(_ABREAST, count))


def _left_out(arms: int) -> str:
    return f"\nThe first {HIGHLIGHTS} of {arms} arms" if arms > HIGHLIGHTS else ""


def _write_numbers(panel: Axes, picture: Array, span: float) -> None:
    digits = 0 if span >= 10 else 1
    for (row, column), value in np.ndenumerate(picture):
        if math.isfinite(value):
            text = f"{value:+.{digits}f}".replace("-", "−") if round(value, digits) else "0"
            panel.text(column, row, text, ha="center", va="center", fontsize=SMALL)
