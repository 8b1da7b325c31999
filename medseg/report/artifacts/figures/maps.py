"""Figures whose pixels are voxels: what is printed on a constant, what moves with the grid."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Num
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from medseg.report.artifacts.figures.panels import (
    Look,
    amounts,
    colour_bar,
    diverging,
    mean_of,
    ticks,
    written,
)
from medseg.report.artifacts.figures.style import (
    DPI,
    INK,
    ORANGE,
    RULE,
    STYLE,
    WIDTH,
    Array,
    Values,
    finite,
    page,
    plane_of,
    times,
)

_PIXELS, _LEFT, _TOP, _BOTTOM, _FRAME = 760, 90, 130, 170, 3
_CROP = 64
_TRUTH, _PREDICTION = "#56b4e9", "#f0e442"
_GLOW = LinearSegmentedColormap.from_list("glow", [(*to_rgb(ORANGE), 0.0), (*to_rgb(ORANGE), 1.0)])


@rc_context(STYLE)
def constant_response(
    response: Num[Tensor, "rows columns"] | Array, period: Sequence[int] | None = None
) -> Figure:
    """What a network prints on a constant, each voxel `m × m` pixels of one colour, m whole.

    Colours are centred at the mean; nothing is resampled. Of a larger map the first 64 × 64 voxels.

    Args:
        response: One channel of the logits, in 3-D a slice.
        period: Voxels per axis after which the pattern repeats; ticks are set that far apart.

    Raises:
        ValueError: another number of axes, or no voxels.

    >>> figure = constant_response(np.zeros((8, 16)))
    >>> figure.axes[0].get_window_extent().size.tolist()  # 47 pixels per voxel
    [752.0, 376.0]
    """
    whole = plane_of(response, "response")
    crop = whole[:_CROP, :_CROP]
    rows, columns = crop.shape
    scale = _PIXELS // max(rows, columns)
    width, height = WIDTH * DPI, _TOP + scale * rows + _BOTTOM
    figure = page(height / DPI, "What the network prints on a constant", fixed=True)
    box = (_LEFT / width, _BOTTOM / height, scale * columns / width, scale * rows / height)
    axes, look = figure.add_axes(box), diverging(crop, mean_of(crop))
    axes.imshow(np.ma.masked_invalid(crop), cmap=look.colours, norm=look.norm, interpolation="none")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=2)
    steps = tuple(period or (max(1, rows // 8), max(1, columns // 8)))
    axes.set_xticks(_marks(columns, steps[-1]))
    axes.set_yticks(_marks(rows, steps[0]))
    axes.set_title(_told(whole, crop, scale), loc="left")
    edge = (box[0] - _FRAME / width, box[1] - _FRAME / height)
    size = (box[2] + 2 * _FRAME / width, box[3] + 2 * _FRAME / height)
    figure.add_artist(Rectangle(edge, *size, color=RULE, lw=0, zorder=-1))
    strip = figure.add_axes((0.1, 92 / height, 0.84, 16 / height))
    colour_bar(figure, look, "logit", cax=strip)
    return figure


@rc_context(STYLE)
def residual_overlay(
    image: Num[Tensor, "rows columns"] | Array,
    deviation: Num[Tensor, "rows columns"] | Array,
    truth: Values | None = None,
    prediction: Values | None = None,
) -> Figure:
    """`|y − ȳ|` over the grey image, the outlines of truth and prediction on top.

    Args:
        image: Intensities of a slice.
        deviation: How far the logits depart from their mean over shifts, in logits.
        truth: True labels of the slice.
        prediction: Predicted labels of the slice.

    Raises:
        ValueError: maps that are not of one shape with two axes.

    >>> figure = residual_overlay(np.zeros((2, 2)), -np.eye(2))
    >>> figure.axes[0].images[1].get_array().tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    under, over = plane_of(image, "image"), np.abs(plane_of(deviation, "deviation"))
    outlines = [
        (name, colour, dash, plane_of(labels, name))
        for name, colour, dash, labels in (
            ("truth", _TRUTH, "-", truth),
            ("prediction", _PREDICTION, "--", prediction),
        )
        if labels is not None
    ]
    _require_one_shape([under, over, *(labels for *_, labels in outlines)])
    rows, columns = under.shape
    figure = page(1.35 + min(5.5, 4.0 * rows / columns), "Where the prediction moves with the grid")
    axes, look = figure.add_subplot(), Look(amounts(over).norm, _GLOW)
    axes.imshow(np.ma.masked_invalid(under), cmap="gray", interpolation="nearest")
    axes.imshow(np.ma.masked_invalid(over), cmap=look.colours, norm=look.norm)
    axes.set_axis_off()
    for _, colour, dash, labels in outlines:
        _outline(axes, labels, colour, dash)
    if outlines:
        _explain(axes, [(name, colour, dash) for name, colour, dash, _ in outlines])
    unit = "departure from the mean over shifts, logit"
    colour_bar(figure, look, unit, ax=axes, aspect=30, shrink=0.9)
    return figure


def _marks(count: int, step: int) -> range:
    """Multiples of a step that are far enough apart to be written."""
    starts = range(0, count, step)
    return range(0, count, step * ticks(len(starts), _PIXELS / DPI / 2).step)


def _told(whole: Array, crop: Array, scale: int) -> str:
    known = finite(crop)
    spread = float(np.ptp(known)) if known.size else 0.0
    sizes = [times(map_.shape) for map_ in (crop, whole)]
    size = sizes[0] if crop.shape == whole.shape else f"the first {sizes[0]} of {sizes[1]}"
    spread = spread if spread > 1e-12 * abs(mean_of(crop)) else 0.0
    printed = f"from lowest to highest {written(spread, spread)} logit" if spread else "nothing"
    return f"{size} voxels, each {times((scale, scale))} pixels\nPrinted: {printed}"


def _outline(axes: Axes, labels: Array, colour: str, dash: str) -> None:
    """The border of each label but the smallest, with a dark rim that shows on white."""
    for label in np.unique(finite(labels))[1:]:
        lines = axes.contour(labels == label, levels=[0.5], colors=colour, linestyles=dash)
        lines.set(linewidth=1.2, path_effects=[withStroke(linewidth=2.2, foreground=INK)])


def _explain(axes: Axes, lines: Sequence[tuple[str, str, str]]) -> None:
    rim = [withStroke(linewidth=3, foreground=INK)]
    handles = [
        Line2D([], [], color=colour, ls=dash, lw=1.6, label=name, path_effects=rim)
        for name, colour, dash in lines
    ]
    axes.legend(
        handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=2, handlelength=3
    )


def _require_one_shape(maps: Sequence[Array]) -> None:
    shapes = {values.shape for values in maps}
    if len(shapes) > 1:
        raise ValueError(
            f"maps of shapes {sorted(shapes)} must cover the same slice; cut all alike"
        )
