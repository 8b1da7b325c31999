"""An operator on numbers small enough to follow: one channel, computed by torch, and drawn."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional

from medseg.errors import ConfigError
from medseg.explain.operator import Operator, full_grid
from medseg.layers.deformable import deformable_conv
from medseg.layers.ndim import linear_mode
from medseg.layers.resampling import Nails, depth_to_space
from medseg.plotting import AMOUNT, RULE, WIDTH, styled

COARSE = {1: 6, 2: 4, 3: 2}
FINE = {1: 12, 2: 8, 3: 5}
_ENTRIES = 16_000_000
_MOST_CELLS = 10_000
_CELL, _LEGIBLE = 0.3, 0.13  # inches; numbers are left out of smaller cells
_GAP, _LINE, _LETTER, _TITLE = 0.25, 0.16, 0.07, 1.2


class Panel(NamedTuple):
    """An array of 1 to 3 axes, and what is written into its cells instead of the values."""

    title: str
    values: np.ndarray
    texts: Sequence[Sequence[str]] | None = None


def small(operator: Operator, most: dict[int, int] | None = None) -> Operator:
    """The same operator, applied once, on a grid that can be drawn: cut down where it is larger.

    Args:
        operator: Any.
        most: Voxels per axis for each number of axes; None for the usual ones.

    Raises:
        ConfigError: even the smallest grid that its kernel fits on is too large.
    """
    o = operator
    most = most or (COARSE if o.about.upsamples else FINE)
    least = [1] * o.dims
    if o.about.family == "conv":
        windows = zip(o.kernel, o.dilation, o.padding, strict=True)
        least = [d * (k - 1) + 1 - 2 * p for k, d, p in windows]
    size = tuple(min(n, max(most[o.dims], m)) for n, m in zip(o.size, least, strict=True))
    cut = replace(o, size=size, times=1)
    voxels = math.prod(size)
    if max(voxels * max(voxels, math.prod(cut.output)), math.prod(cut.kernel)) > _ENTRIES:
        raise ConfigError(
            f"kernel={full_grid(o.kernel)} on {full_grid(size)} voxels is too large to draw; "
            "choose a smaller kernel or stride, or fewer dimensions"
        )
    return cut


def image_of(operator: Operator) -> Tensor:
    """`(1, 1, *S)`: 1, 2, 3 … in array order; for a maximum in a mixed order."""
    return _numbered(operator.size, mixed=operator.kind == "max_pool")


def kernel_of(operator: Operator) -> Tensor:
    """`(*kernel)`: 1, 2, 3 … in array order; for a separable one an outer product."""
    if operator.kind != "spatially_separable":
        return _numbered(operator.kernel)[0, 0]
    product = torch.ones((), dtype=torch.float64)
    for taps in operator.kernel:
        product = product[..., None] * _binomial(taps)
    return product


def apply(operator: Operator, x: Tensor) -> Tensor:
    """What the operator makes of images of one channel `(N, 1, *S)`, weighted by `kernel_of`."""
    o = operator
    window = {"stride": o.stride, "padding": o.padding}
    match o.kind:
        case "transposed":
            window |= {"output_padding": o.output_padding, "dilation": o.dilation}
            return _torch(o, "conv_transpose")(x, kernel_of(o)[None, None], **window)
        case "deformable":
            return _deformed(o, x)
        case "nearest":
            return functional.interpolate(x, size=list(o.output), mode="nearest")
        case "linear":
            mode = linear_mode(o.dims)
            return functional.interpolate(x, size=list(o.output), mode=mode, align_corners=False)
        case "bed_of_nails":
            return Nails(o.stride)(x)
        case "pixel_shuffle":
            return depth_to_space(_phases(o, x), o.stride)
        case "max_pool" | "average_pool":
            return _torch(o, o.kind.replace("average", "avg"))(x, o.kernel, **window)
        case "max_unpool":
            pooled = _numbered(o.output, mixed=True)
            _, places = _torch(o, "max_pool")(pooled, o.stride, return_indices=True)
            return _torch(o, "max_unpool")(x, places.expand(len(x), *places.shape[1:]), o.stride)
        case "dense":
            return (x * image_of(o)).flatten(1).sum(1).reshape(-1, 1, *o.output)
        case _:
            kernel = kernel_of(o)[None, None]
            return _torch(o, "conv")(x, kernel, dilation=o.dilation, **window)


def worked(operator: Operator) -> dict[str, Tensor]:
    """The arrays `(*S)` of an example by their titles, in order: input, weights, …, output."""
    o, image = operator, image_of(operator)
    found = {"input": image[0, 0]}
    if o.kind == "max_unpool":
        found["what the encoder pooled"] = _numbered(o.output, mixed=True)[0, 0]
    elif o.about.family in ("conv", "transposed") and "pool" not in o.kind:
        found["kernel"] = kernel_of(o)
    if o.kind == "transposed" and any(o.padding + o.output_padding):
        none = (0,) * o.dims
        whole = replace(o, padding=none, output_padding=none)
        found["sum before trimming"] = apply(whole, image)[0, 0]
    if o.kind == "pixel_shuffle":
        phases = enumerate(_phases(o, image)[0], start=1)
        found |= {f"channel {number}": phase for number, phase in phases}
    return found | {"output": apply(o, image)[0, 0]}


def draw_example(operator: Operator) -> Figure:
    """Draws the arrays of the worked example.

    Raises:
        ConfigError: the operator is too large to draw.
    """
    return draw([Panel(name, array.numpy()) for name, array in worked(small(operator)).items()])


@styled()
def draw(panels: Sequence[Panel]) -> Figure:
    """Draws arrays side by side as grids of numbers, to one scale; of a volume its slices.

    Raises:
        ConfigError: more cells than can be drawn.
    """
    planes = [plane for panel in panels for plane in _planes(panel)]
    cells = sum(plane.values.size for plane in planes)
    if cells > _MOST_CELLS:
        raise ConfigError(
            f"{cells} cells are too many to draw; choose a smaller size, kernel or stride"
        )
    tall, wide = np.max([plane.values.shape for plane in planes], axis=0)
    cell = min(_CELL, WIDTH / max(tall, wide))
    in_a_row = max(1, int((WIDTH + _GAP) / (max(wide * cell, _TITLE) + _GAP)))
    width = (WIDTH + _GAP) / in_a_row
    titles = [textwrap.wrap(plane.title, int((width - _GAP) / _LETTER)) for plane in planes]
    heading = _LINE * max(map(len, titles)) + 0.04
    rows = [planes[start : start + in_a_row] for start in range(0, len(planes), in_a_row)]
    heights = [heading + cell * max(len(p.values) for p in row) + _GAP for row in rows]
    whole = sum(heights)
    figure = Figure(figsize=(WIDTH, whole))
    for place, (plane, title) in enumerate(zip(planes, titles, strict=True)):
        row, column = divmod(place, in_a_row)
        height, length = np.multiply(plane.values.shape, cell)
        foot = whole - sum(heights[:row]) - heading - height
        box = (column * width / WIDTH, foot / whole, length / WIDTH, height / whole)
        axes = figure.add_axes(box, xticks=[], yticks=[])
        axes.set_title("\n".join(title), pad=3)
        _draw_cells(axes, plane, cell)
    return figure


def written(value: float) -> str:
    """Formats a number as short as it can be, with two decimals at most.

    >>> written(2.0), written(-0.25)
    ('2', '−0.25')
    """
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text.replace("-", "−")


def _planes(panel: Panel) -> list[Panel]:
    """The panel's 2-D slices, without those that are zero where others are not."""
    if panel.values.ndim < 3:
        return [panel._replace(values=np.atleast_2d(panel.values))]
    return [
        Panel(f"{panel.title}, slice {number} of {len(panel.values)}", plane)
        for number, plane in enumerate(panel.values, start=1)
        if plane.any() or not panel.values.any()
    ]


def _draw_cells(axes: Axes, panel: Panel, cell: float) -> None:
    values = np.asarray(panel.values, dtype=float)
    rows, columns = values.shape
    shade = np.abs(values) / max(float(np.abs(values).max()), 1e-12)
    axes.pcolormesh(shade, cmap=AMOUNT, vmin=0, vmax=3, edgecolors=RULE, linewidth=0.6)
    axes.set(xlim=(0, columns), ylim=(rows, 0))
    axes.spines[:].set_visible(False)
    if cell < _LEGIBLE:
        return
    for row, column in np.ndindex(rows, columns):
        value = float(values[row, column])
        number = written(value) if value else ""
        text = number if panel.texts is None else str(panel.texts[row][column])
        size = min(8.0, cell * 72 * 0.82 / max(2, len(text) * 0.62))
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center_baseline", size=size)


def _torch(operator: Operator, name: str):
    return getattr(functional, f"{name}{operator.dims}d")


def _numbered(size: Sequence[int], *, mixed: bool = False) -> Tensor:
    """`(1, 1, *size)`: 1, 2, 3 …; mixed, in an order that is always the same."""
    count = math.prod(size)
    numbers = torch.arange(count)
    if mixed:
        first = max(1, count * 5 // 8)
        step = next(s for s in range(first, 2 * count + 2) if math.gcd(s, count) == 1)
        numbers = numbers * step % count
    return (numbers + 1).double().reshape(1, 1, *size)


def _binomial(taps: int) -> Tensor:
    return torch.tensor([math.comb(taps - 1, i) for i in range(taps)], dtype=torch.float64)


def _deformed(o: Operator, x: Tensor) -> Tensor:
    """Taps displaced by quarters of a voxel between -3/4 and 3/4, always the same."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, math.prod(o.kernel), o.dims, *o.size)
    offsets = torch.randint(-3, 4, shape, generator=generator).double() / 4
    weight = kernel_of(o)[None, None]
    if o.dims > 1:
        return deformable_conv(x, weight, offsets.expand(len(x), *shape[1:]))
    # one row of a plane, since torch samples no lines
    plane = torch.cat([torch.zeros_like(offsets), offsets], dim=2)[:, :, :, None]
    plane = plane.expand(len(x), *plane.shape[1:])
    return deformable_conv(x[:, :, None], weight[:, :, None], plane)[:, :, 0]


def _phases(o: Operator, x: Tensor) -> Tensor:
    """What the convolution before a shuffle makes: taps that all weigh 1, 2, 3 … by channel."""
    gains = _numbered((math.prod(o.stride),))[0, 0]
    weight = gains.reshape(-1, *[1] * (o.dims + 1)).expand(-1, 1, *o.kernel)
    return _torch(o, "conv")(x, weight, padding=o.padding)
