"""Figures whose cells are the phases of a lattice: patterns, gradients, kernels."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Num
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor

from medseg.checkerboard.phases import phase_sums
from medseg.report.artifacts.figures.panels import (
    Block,
    Look,
    Plane,
    amounts,
    array,
    diverging,
    draw_blocks,
    lay_out,
    mean_of,
    phase_planes,
    shaped,
    show,
    shown,
    written,
)
from medseg.report.artifacts.figures.style import (
    ORANGE,
    RULE,
    STYLE,
    WIDTH,
    Array,
    Values,
    page,
    times,
)

Layer = tuple[str, Float[Tensor, "inputs outputs *taps"], Sequence[int]]

_HATCHED = "Hatched: the 95 % interval over cases contains 0."
_PARTS = ("RMS of taps", "RMS of gain", "its departure", "taps per phase")
_SHEET = (
    "Orange lines part the cells of the stride. Gain: sum of the taps of a phase, its RMS over "
    "pairs of channels. Departure: of the gain from its mean over phases, all 0 without a "
    "checkerboard. Taps count where any is not 0."
)


@rc_context(STYLE)
def phase_heat_map(
    alpha: Num[Tensor, "*phases"] | Array,
    beta: Num[Tensor, "*phases"] | Array,
    period: Sequence[int],
    interval: Sequence[Values] | None = None,
) -> Figure:
    """The pattern `α_φ` about 0 and the gain `β_φ` about its mean, a cell per phase.

    Slices of a 3-D pattern share one scale; of more than 8 the first ones are drawn, as the note
    says. What is not finite is grey.

    Args:
        alpha: Offset of each phase in the units of the logits, in array order.
        beta: Gain of each phase, per unit of the smooth logits.
        period: Voxels per axis after which the pattern repeats, 1 to 3 axes.
        interval: Masks of α and of β, true where the 95 % interval over cases contains 0 (for β:
            0 departure from the mean); those cells are hatched.

    Raises:
        ValueError: another number of values than phases.

    >>> import torch
    >>> figure = phase_heat_map(torch.tensor([-0.5, 0.5]), torch.zeros(2), (2,))
    >>> figure.subfigs[0].axes[0].images[0].get_array().tolist()
    [[-0.5, 0.5]]
    """
    masks = interval or (None, None)
    hidden = [None if m is None else shaped(m, period, "interval") > 0 for m in masks]
    offset, gain = shaped(alpha, period, "alpha"), shaped(beta, period, "beta")
    blocks = [
        Block(
            title=title,
            planes=phase_planes(values, mask),
            look=diverging(values, centre),
            unit=unit,
            labels=_labels(period),
        )
        for title, values, mask, centre, unit in (
            ("Offset α of each phase", offset, hidden[0], 0.0, "logit"),
            ("Gain β of each phase", gain, hidden[1], mean_of(gain), "logit per smooth logit"),
        )
    ]
    notes = [_HATCHED] if interval else []
    return _drawn("Printed on the logits by phase", period, blocks, notes)


@rc_context(STYLE)
def gradient_table(
    mean: Num[Tensor, "*phases"] | Array,
    energy: Num[Tensor, "*phases"] | Array,
    period: Sequence[int],
) -> Figure:
    """`E[g]` about its mean over phases, and `E[g²]` from 0, of the input gradient g by phase.

    Args:
        mean: Mean gradient of each phase of the input grid, in logits per unit of intensity.
        energy: Mean squared gradient of each phase.
        period: Voxels per axis after which the pattern repeats, 1 to 3 axes.

    Raises:
        ValueError: another number of values than phases.

    >>> import torch
    >>> figure = gradient_table(torch.ones(2), torch.tensor([3.0, 1.0]), (2,))
    >>> figure.subfigs[1].axes[0].images[0].get_array().tolist()
    [[3.0, 1.0]]
    """
    signed, squared = shaped(mean, period, "mean"), shaped(energy, period, "energy")
    blocks = [
        Block(
            title="Mean gradient",
            planes=phase_planes(signed),
            look=diverging(signed, mean_of(signed)),
            unit="logit per unit of intensity",
            labels=_labels(period),
        ),
        Block(
            title="Mean squared gradient",
            planes=phase_planes(squared),
            look=amounts(squared),
            unit="(logit per unit of intensity)²",
            labels=_labels(period),
        ),
    ]
    return _drawn("Input gradient by phase", period, blocks, [])


@rc_context(STYLE)
def kernel_sheet(layers: Sequence[Layer]) -> Figure:
    """Taps of each upsampling on the grid of its strides, and by phase `‖G_φ‖`, `‖G_φ − Ḡ‖`, `n_φ`.

    Norms are root mean squares over pairs of channels; `G_φ` sums the taps of a phase. Slices of
    3-D taps stand beside each other. The scale of each panel runs from 0 to the number below it;
    gain and departure share one.

    Args:
        layers: Name, taps on the output grid as of `upsampling_kernel`, and stride per axis.

    Raises:
        ValueError: no layer, or a stride of another number of axes than the taps.

    >>> import torch
    >>> figure = kernel_sheet([("up", torch.ones(1, 1, 3), (2,))])
    >>> [axes.images[0].get_array().tolist() for axes in figure.subfigs[0].axes]
    [[[1.0, 1.0, 1.0]], [[2.0, 1.0]], [[0.5, 0.5]], [[2.0, 1.0]]]
    """
    _require_layers(layers)
    heights = [_sheet_height(kernel) for _, kernel, _ in layers]
    heading = "Taps of each upsampling, and what each phase gets"
    figure = page(1.2 + sum(heights), heading, note=_SHEET)
    parts = figure.subfigures(len(layers), 1, squeeze=False, height_ratios=heights)
    for part, (name, kernel, stride) in zip(parts.flat, layers, strict=True):
        steps = times(stride)
        part.suptitle(f"{name}, stride {steps}", x=0.04, ha="left", fontsize=9)
        _draw_layer(part, kernel.detach().cpu().double(), tuple(stride))
    return figure


def _drawn(
    heading: str, period: Sequence[int], blocks: Sequence[Block], notes: Sequence[str]
) -> Figure:
    height, _ = lay_out(0.4 + 0.3 * bool(notes), len(period), blocks)
    left_out = len(period) == 3 and shown(period[0]) < period[0]
    cut = f"The first {shown(period[0])} of {period[0]} slices along axis 0." if left_out else ""
    figure = page(
        height + 0.2 * left_out,
        f"{heading}, period {times(period)}",
        note=" ".join([*notes, *([cut] if cut else [])]),
    )
    draw_blocks(figure, len(period), blocks)
    return figure


def _labels(period: Sequence[int]) -> tuple[str, str]:
    last = len(period) - 1
    return (f"phase, axis {last - 1}" if last else "", f"phase, axis {last}")


def _draw_layer(part: SubFigure, kernel: Tensor, stride: tuple[int, ...]) -> None:
    gains = phase_sums(kernel, stride)
    rms = kernel.square().mean(dim=(0, 1)).sqrt()
    by_phase = (
        gains.square().mean(dim=(1, 2)).sqrt(),
        (gains - gains.mean(dim=0)).square().mean(dim=(1, 2)).sqrt(),
        phase_sums((rms != 0).double(), stride),
    )
    names = "abcd"
    stacked = len(stride) == 3
    panels = part.subplot_mosaic("aaa;bcd" if stacked else names)
    images = [array(rms), *(array(values.reshape(stride)) for values in by_phase)]
    own = [amounts(values) for values in images]
    looks = [own[0], own[1], own[1], own[3]]  # a departure counts beside its gain
    for name, title, values, look in zip(names, _PARTS, images, looks, strict=True):
        share = (1 if name == "a" else 3) if stacked else 4
        _draw_panel(panels[name], Plane(title, unrolled(values)), look, 0.9 * WIDTH / share)
    _draw_cells(panels["a"], rms.shape, stride)


def _draw_panel(axes: Axes, plane: Plane, look: Look, width: float) -> None:
    show(axes, plane, look, width)
    axes.set_title(plane.title, fontsize=8, pad=3)
    axes.set_xticks([])
    axes.set_yticks([])
    top = look.norm.vmax or 0.0
    axes.set_xlabel(f"0 to {written(top, top)}", fontsize=8)


def unrolled(values: Array) -> Array:
    """Slices of three axes beside each other with an empty column between; fewer axes as rows.

    >>> unrolled(np.ones((2, 1, 1))).tolist()
    [[1.0, nan, 1.0]]
    """
    if values.ndim < 3:
        return np.atleast_2d(values)
    gapped = np.pad(values, [(0, 0), (0, 0), (0, 1)], constant_values=np.nan)
    return gapped.transpose(1, 0, 2).reshape(values.shape[1], -1)[:, :-1]


def _draw_cells(axes: Axes, taps: Sequence[int], stride: Sequence[int]) -> None:
    """Thin lines between taps, thick ones where a cell of the stride begins."""
    rows, columns = (1, *taps)[-2:]
    starts = np.arange(math.prod(taps[:-2]))[:, None] * (columns + 1) - 0.5
    looks = (((1, 1), RULE, 0.4), ((1, *stride)[-2:], ORANGE, 1.4))
    for (down, across), colour, width in looks:
        axes.vlines(
            (starts + np.arange(0, columns + 1, across)).ravel(),
            -0.5,
            rows - 0.5,
            colors=colour,
            linewidths=width,
            clip_on=False,
        )
        for low in starts.ravel():
            edges = np.arange(0, rows + 1, down) - 0.5
            axes.hlines(edges, low, low + columns, colors=colour, linewidths=width, clip_on=False)


def _sheet_height(kernel: Tensor) -> float:
    taps = kernel.shape[2:]
    if len(taps) == 3:
        cells = taps[0] * (taps[2] + 1) - 1
        return 1.9 + min(2.0, 4.0 * taps[1] / cells)
    return 1.1 if len(taps) == 1 else 1.75


def _require_layers(layers: Sequence[Layer]) -> None:
    if not layers:
        raise ValueError("0 layers make no sheet; give at least one upsampling")
    for name, kernel, stride in layers:
        if kernel.ndim != 2 + len(stride) or not 1 <= len(stride) <= 3:
            raise ValueError(
                f"taps of {name} have the shape {tuple(kernel.shape)}, which does not fit the "
                f"stride {tuple(stride)}; give (inputs, outputs, *taps) and a stride per axis"
            )
