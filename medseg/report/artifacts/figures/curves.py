"""Figures of numbers along an axis: epochs, frequencies, phases of boundaries."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from medseg.report.artifacts.figures.panels import ticks
from medseg.report.artifacts.figures.style import (
    BLUE,
    INK,
    PALE,
    RULE,
    SERIES,
    SOFT,
    STYLE,
    Array,
    Values,
    array,
    finite,
    page,
)

_ZERO = 1e-6
_MARKERS = 25
_ROOM = 3.8  # inches that the phases of an axis have
_NOTE = "Log scale. The line 0 holds whatever is at most 10⁻⁶, the rounding of single precision."
_MEASURES = {
    "dc_gain": "DC-gain imbalance, any input",
    "dc_gain_mean": "DC-gain imbalance, mean input",
    "constant_response": "constant response",
    "cycle_spin": "cycle-spin residual",
}


@rc_context(STYLE)
def trajectory(rows: Sequence[Mapping[str, float | None]]) -> Figure:
    """Artifacts by epoch on a log scale with a line for 0, from which a drift is seen to start.

    Args:
        rows: By epoch: `epoch`, and `dc_gain`, `dc_gain_mean`, `constant_response` and
            `cycle_spin` where measured; None, NaN or absent otherwise; lines join
            what was measured.

    >>> figure = trajectory([{"epoch": 0, "dc_gain": 0.0}, {"epoch": 1, "dc_gain": 0.1}])
    >>> [text.get_text() for text in figure.axes[0].get_yticklabels()]
    ['0', '0.1', '1']
    """
    epochs = np.array([_number(row["epoch"]) for row in rows])
    columns = {key: np.array([_number(row.get(key)) for row in rows]) for key in _MEASURES}
    curves = {_MEASURES[key]: column for key, column in columns.items() if finite(column).size}
    figure = page(3.6, "Artifacts during training, as fractions by epoch", note=_NOTE)
    axes = figure.add_subplot()
    _draw_curves(axes, epochs, curves)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    return figure


@rc_context(STYLE)
def two_tone(frequencies: Float[Tensor, " points"] | Array, curves: Mapping[str, Values]) -> Figure:
    """Energy in images of a wave over energy at the wave itself, by the wave's frequency.

    Args:
        frequencies: Radians per voxel, within [0, π].
        curves: Name → imaging ratio at each frequency; NaN is left out.

    Raises:
        ValueError: a curve with another number of points.

    >>> figure = two_tone(np.array([1.0, 2.0]), {"nearest": np.array([0.1, 0.2])})
    >>> figure.axes[0].lines[0].get_ydata().tolist()
    [0.1, 0.2]
    """
    waves, values = array(frequencies), {name: array(curve) for name, curve in curves.items()}
    for name, curve in values.items():
        if curve.shape != waves.shape:
            raise ValueError(
                f"curve {name} of shape {curve.shape} must have a value for each of "
                f"{waves.shape} frequencies; measure both at the same waves"
            )
    figure = page(3.6, "Images of a wave, relative to the wave", note=_NOTE)
    axes = figure.add_subplot()
    _draw_curves(axes, waves, values)
    axes.set_xlabel("frequency, radians per voxel")
    axes.set_ylabel("energy ratio")
    axes.set_xticks(np.linspace(0, math.pi, 5), ["0", "π/4", "π/2", "3π/4", "π"])
    axes.set_xlim(-0.05, math.pi + 0.05)
    return figure


@rc_context(STYLE)
def crack_histogram(
    prediction: Sequence[Values | None], truth: Sequence[Values | None], names: Sequence[str]
) -> Figure:
    """Share of the label boundaries on each phase, of prediction and truth, a row per axis.

    Args:
        prediction: Counts by phase of each axis, as of `crack_histograms`; None: stride 1.
        truth: Counts of the true labels.
        names: Name of each axis.

    Raises:
        ValueError: not one histogram of each per name, of as many phases, or none at all.

    >>> figure = crack_histogram([np.array([4, 0])], [np.array([2, 2])], ["depth"])
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]  # truth, then prediction
    [0.5, 0.5, 1.0, 0.0]
    """
    rows = _rows(prediction, truth, names)
    heading = "Where label boundaries lie: share by phase"
    figure = page(0.95 + 1.35 * len(rows), heading)
    for axes, (name, *counts) in zip(
        figure.subplots(len(rows), 1, squeeze=False).flat, rows, strict=True
    ):
        _draw_shares(axes, [_shares(count) for count in counts])
        axes.set_title(f"along {name}", loc="left")
    figure.axes[-1].set_xlabel("phase, voxels past the lattice line")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)
    return figure


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _draw_curves(axes: Axes, places: Array, curves: Mapping[str, Array]) -> None:
    everything = finite(np.concatenate([np.ravel(curve) for curve in curves.values()] or [[]]))
    floor = _log_axis(axes, everything[everything > _ZERO])
    for number, (name, curve) in enumerate(curves.items()):
        colour, dash, _ = SERIES[number % len(SERIES)]
        marker = SERIES[(number + number // len(SERIES)) % len(SERIES)][2]
        shown = np.where(curve <= _ZERO, floor, curve)
        known = np.isfinite(curve)
        style = {"color": colour, "ls": dash, "marker": marker, "ms": 3.5, "lw": 1.5}
        every = 1 + int(known.sum()) // _MARKERS
        axes.plot(places[known], shown[known], markevery=every, label=name, **style)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color=PALE, lw=0.7)
    axes.set_axisbelow(True)
    if curves:
        axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=2, columnspacing=1.2)
    else:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", color=SOFT)


def _log_axis(axes: Axes, positive: Array) -> float:
    """Whole decades around the values, and below them a line for 0, whose height is returned."""
    low = math.floor(math.log10(positive.min())) if positive.size else -3
    top = max(low + 1, math.ceil(math.log10(positive.max())) if positive.size else 0)
    decades = range(low, top + 1, 1 + (top - low) // 8)
    floor = 10.0 ** (low - 0.12 * (top - low) - 0.1)
    axes.set_yscale("log")
    axes.set_ylim(floor / 10 ** (0.05 * (top - low)), 10.0**top * 1.2)
    axes.set_yticks([floor, *(10.0**d for d in decades)], ["0", *(_decade(d) for d in decades)])
    axes.minorticks_off()
    axes.axhspan(axes.get_ylim()[0], 10 ** ((low + math.log10(floor)) / 2), color=PALE, zorder=0)
    return floor


def _decade(exponent: int) -> str:
    return f"{10.0**exponent:g}".replace("e-0", "e−")


def _rows(
    prediction: Sequence[Values | None], truth: Sequence[Values | None], names: Sequence[str]
) -> list[tuple[str, Array, Array]]:
    if not len(prediction) == len(truth) == len(names):
        raise ValueError(
            f"{len(prediction)} and {len(truth)} histograms with {len(names)} names: one of each "
            "belongs to an axis; pass None for an axis of stride 1"
        )
    rows = [
        (name, array(ours), array(theirs))
        for ours, theirs, name in zip(prediction, truth, names, strict=True)
        if ours is not None and theirs is not None
    ]
    if not rows or any(ours.shape != theirs.shape for _, ours, theirs in rows):
        raise ValueError(
            f"histograms along {', '.join(names)} must have as many phases in prediction and "
            "truth, along at least one axis; count both with one period"
        )
    return rows


def _shares(counts: Array) -> Array:
    total = counts.sum()
    return counts / total if total > 0 else np.zeros_like(counts)


def _draw_shares(axes: Axes, shares: Sequence[Array]) -> None:
    phases = len(shares[0])
    looks = (("truth", RULE, INK, -0.2), ("prediction", BLUE, BLUE, 0.2))
    for (name, colour, edge, shift), share in zip(looks, reversed(shares), strict=True):
        places = np.arange(phases) + shift
        axes.bar(places, share, 0.38, color=colour, edgecolor=edge, lw=0.6, label=name)
        if not share.any():
            text = f"{name}: no boundary"
            axes.text(0.98, 0.95 - 0.9 * (shift > 0), text, transform=axes.transAxes, ha="right")
    axes.axhline(1 / phases, color=INK, ls="--", lw=1, label="no preference")
    axes.set(ylim=(0, 1.08 * max(2 / phases, *(share.max() for share in shares))))
    axes.set_xticks(ticks(phases, _ROOM))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=2)
