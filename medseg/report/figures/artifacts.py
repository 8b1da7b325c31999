"""Slices whose pixels are voxels: the response to a constant, and what moves with the grid."""

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from medseg.plotting import DIVERGING, INK, ORANGE, new_figure, styled
from medseg.record.figure_data import FigureData

_CROP = 64
_GLOW = LinearSegmentedColormap.from_list("glow", [(*to_rgb(ORANGE), 0.0), (*to_rgb(ORANGE), 1.0)])


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
