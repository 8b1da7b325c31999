"""The taps of one output on the grid that it reads, or of one input on the grid it paints."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from medseg.explain.board import Array, Panel, board, planes, terse
from medseg.explain.drawing import Drawing
from medseg.explain.example import (
    image_of,
    offsets_of,
    painted_by_input,
    small,
    weights_of_output,
    windowed,
)
from medseg.explain.operator import Operator, Sizes

_CHANNELS = 32


def draw_taps(operator: Operator) -> Drawing:
    """Which voxels one output reads with which weights; for an upsampling, what one input paints.

    Padding is dotted; slices without a tap are left out. Where channels are wired in a way of
    their own, that is drawn too.
    """
    cut = small(operator)
    if operator.about.family == "dense":
        return board([Panel(title="weights of one output", values=_flat(image_of(cut)[0, 0]))])
    panels = _painted(cut) if operator.about.upsamples else _read(cut)
    return board(panels + _wiring(operator))


def _read(cut: Operator) -> list[Panel]:
    """The padded input with the taps of the middle output, and that output."""
    padded = replace(
        cut,
        size=tuple(n + 2 * p for n, p in zip(cut.size, cut.padding, strict=True)),
        padding=(0,) * cut.dims,
    )
    moving = cut.kind == "deformable"
    source = cut if moving else padded
    middle = tuple(n // 2 for n in cut.output)
    weights = weights_of_output(windowed(source), middle).numpy()
    border = np.ones(source.size, dtype=bool)
    inside = (0,) * cut.dims if moving else cut.padding
    border[tuple(slice(p, n - p) for p, n in zip(inside, source.size, strict=True))] = False
    panels = [
        Panel(
            title=("input" if moving else "padded input" if any(cut.padding) else "input")
            + ", weights of one output" + name,
            values=plane,
            shade=0.6 * (plane != 0),
            words=[["" if moving else terse(value) for value in row] for row in plane],
            faint=_cells(pale),
            arrows=_moved(cut, middle) if moving else (),
        )
        for (name, plane), (_, pale) in zip(planes(weights), planes(border), strict=True)
        if plane.any()
    ]  # fmt: skip
    return panels + _marked_grid("output", cut.output, middle)


def _painted(cut: Operator) -> list[Panel]:
    """The input with one voxel marked, and the whole painted grid with what is trimmed pale."""
    zeros = (0,) * cut.dims
    trims = cut.about.family == "transposed"
    whole = replace(cut, padding=zeros, output_padding=zeros) if trims else cut
    front = cut.padding if trims else zeros
    middle = tuple((n - 1) // 2 for n in cut.size)
    weights = painted_by_input(whole, middle).numpy()
    gone = np.ones(whole.output, dtype=bool)
    gone[tuple(slice(p, p + n) for p, n in zip(front, cut.output, strict=True))] = False
    title = "what it paints, before trimming" if gone.any() else "what it paints on the output"
    painted = [
        Panel(
            title=title + name,
            values=plane,
            shade=0.6 * (plane != 0),
            words=[[terse(value) for value in row] for row in plane],
            faint=_cells(pale),
        )
        for (name, plane), (_, pale) in zip(planes(weights), planes(gone), strict=True)
        if plane.any()
    ]
    return _marked_grid("input", cut.size, middle) + painted


def _marked_grid(title: str, size: Sizes, place: Sequence[int]) -> list[Panel]:
    marks = np.zeros(size)
    marks[tuple(place)] = 1
    return [
        Panel(
            title=title + name,
            values=plane,
            shade=0.0 * plane,
            numbers=False,
            marked=_cells(plane > 0),
        )
        for name, plane in planes(marks)
        if plane.any()
    ]


def _moved(cut: Operator, middle: Sizes) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """From each tap's regular place to its displaced one; in 3-D the slices would hide them."""
    if cut.dims == 3:
        return []
    offsets = offsets_of(cut)[0][(..., *middle)].numpy()
    arrows = []
    for tap, offset in zip(np.ndindex(cut.kernel), offsets, strict=True):
        start = [m + t - (k - 1) // 2 for m, t, k in zip(middle, tap, cut.kernel, strict=True)]
        end = [float(s + o) for s, o in zip(start, offset, strict=True)]
        row, column = ([0, *start] if cut.dims == 1 else start)[:2]
        to_row, to_column = ([0.0, *end] if cut.dims == 1 else end)[:2]
        arrows.append(((row, column), (to_row, to_column)))
    return arrows


def _wiring(operator: Operator) -> list[Panel]:
    """Which input channels each output channel reads."""
    ins, outs = operator.in_channels, operator.out_channels
    if operator.groups == 1 or max(ins, outs) > _CHANNELS:
        return []
    per_in, per_out = ins // operator.groups, outs // operator.groups
    wired = np.kron(np.eye(operator.groups), np.ones((per_out, per_in)))
    title = f"channels: {outs} outputs (rows) read {ins} inputs (columns)"
    return [Panel(title=title, values=wired, shade=0.5 * wired, numbers=False, scale=0.2)]


def _cells(mask: Array) -> frozenset[tuple[int, int]]:
    return frozenset((int(row), int(column)) for row, column in np.argwhere(mask))


def _flat(values: object) -> Array:
    return np.atleast_2d(np.asarray(values, dtype=float).reshape(1, -1))
