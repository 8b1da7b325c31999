"""The receptive field of an operator applied several times in a row."""

from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from medseg.analysis.closed_form import jump, receptive_field
from medseg.errors import ConfigError
from medseg.explain.board import Array, Panel, board
from medseg.explain.drawing import WIDTH, Drawing, stacked
from medseg.explain.example import matrix, windowed
from medseg.explain.operator import Operator, size_chain
from medseg.explain.palette import ACCENT, INK, RULE

_USUAL = {True: 2, False: 3}
_COARSE = 5
_LONGEST = 400
_LABELS = 1.0
_PITCH = 0.24
_STOREY = 0.5
_NUMBERED = 15
_MAPPED = 64
_STAND_INS = {"deformable": "conv", "max_unpool": "nearest"}


@dataclass(frozen=True, kw_only=True, eq=False)
class _Storey:
    """One grid of the chain along an axis; where its voxels are, in voxels of the input."""

    start: float
    spacing: float
    seen: Array


def draw_field(operator: Operator) -> Drawing:
    """What one output of a chain sees: a cone along the first axis, and a map of the input.

    It is an output near the middle; the map counts the paths from each input voxel to it. A
    chain of one is drawn as three in a row, of an upsampling as two, or as many as can be drawn.

    Raises:
        ConfigError: the field is too long to draw.
    """
    if operator.times > 1:
        return _field(operator, operator.times)
    for times in range(_USUAL[operator.about.upsamples], 1, -1):
        with suppress(ConfigError):
            return _field(operator, times)
    return _field(operator, 1)


def _field(operator: Operator, times: int) -> Drawing:
    lines = [_lines(operator, axis, times) for axis in range(operator.dims)]
    paths = [storeys[0].seen for storeys in lines]
    field = _map(paths)
    if max(field.values.shape) > _MAPPED:
        return _cone(lines[0])
    return stacked([_cone(lines[0]), board([field])])


def _lines(operator: Operator, axis: int, times: int) -> list[_Storey]:
    """The storeys along one axis, the input first."""
    line = replace(
        operator,
        **{
            name: (getattr(operator, name)[axis],)
            for name in ("size", "kernel", "stride", "padding", "output_padding", "dilation")
        },
        kind=_STAND_INS.get(operator.kind, operator.kind),
        times=times,
    )
    layers = [line.layer(0)] * times
    size = line.size[0]
    if line.about.upsamples:
        size = _COARSE
    elif line.about.family == "conv":
        size = receptive_field(layers) + 2 * jump(layers)
    if size > _LONGEST:
        raise ConfigError(
            f"times={times}: the receptive field of {receptive_field(layers)} voxels is too long "
            "to draw; choose a smaller times, kernel or dilation"
        )
    sizes = [n for (n,) in size_chain(replace(line, size=(size,)))]
    if sizes[-1] > _LONGEST:
        raise ConfigError(
            f"times={times}: {sizes[-1]} voxels are too many to draw; choose a smaller times"
        )
    uses = [matrix(windowed(replace(line, size=(n,)))).numpy() != 0 for n in sizes[:-1]]
    return _placed(line, _paths(uses, sizes[-1]))


def _paths(uses: list[Array], outputs: int) -> list[Array]:
    """Paths from every voxel of every grid to the output near the middle that sees most."""
    chains = []
    for output in range(outputs // 4, outputs - outputs // 4):
        chain = [np.eye(outputs)[output]]
        for use in reversed(uses):
            chain.append(chain[-1] @ use)
        chains.append(chain[::-1])
    middle = (len(chains) - 1) / 2
    order = sorted(range(len(chains)), key=lambda i: abs(i - middle))
    return max((chains[i] for i in order), key=lambda chain: int((chain[0] > 0).sum()))


def _placed(line: Operator, counts: list[Array]) -> list[_Storey]:
    start, spacing = 0.0, 1.0
    storeys = []
    (stride,), (padding,), (span,) = line.stride, line.padding, line.span
    for seen in counts:
        storeys.append(_Storey(start=start, spacing=spacing, seen=seen))
        if line.about.family == "conv":
            start += ((span - 1) / 2 - padding) * spacing
            spacing *= stride
        elif line.about.family == "transposed":
            start += spacing * (padding - (span - 1) / 2) / stride
            spacing /= stride
        elif line.about.upsamples:
            start += spacing * (1 / stride - 1) / 2
            spacing /= stride
        else:
            start = (len(counts[0]) - 1) / 2
    return storeys


def _cone(storeys: list[_Storey]) -> Drawing:
    low = min(s.start for s in storeys)
    high = max(s.start + s.spacing * (len(s.seen) - 1) for s in storeys)
    tightest = min(s.spacing for s in storeys)
    unit = min(_PITCH / tightest, (WIDTH - _LABELS - 0.15) / max(high - low, 1))
    dot = min(5.0, unit * tightest * 72 * 0.75)

    def draw(axes: Axes, top: float) -> None:
        places = [
            (
                _LABELS + 0.08 + (s.start - low + s.spacing * np.arange(len(s.seen))) * unit,
                top + 0.1 + _STOREY * level,
            )
            for level, s in enumerate(reversed(storeys))
        ]
        places.reverse()
        for ((xs, y), below), ((tops, high_y), above) in pairwise(
            zip(places, storeys, strict=True)
        ):
            _draw_fan(axes, (xs[below.seen > 0], y), (tops[above.seen > 0], high_y))
        for number, ((xs, y), storey) in enumerate(zip(places, storeys, strict=True)):
            axes.text(0, y, _label(number, storey), va="center", size=8, color=INK)
            reached = storey.seen > 0
            axes.plot(xs, np.full(len(xs), y), "o", ms=dot, mfc="none", mec=RULE, mew=0.7)
            axes.plot(xs[reached], np.full(int(reached.sum()), y), "o", ms=dot, color=ACCENT)

    width = _LABELS + 0.16 + (high - low) * unit
    return Drawing(width=width, height=_STOREY * (len(storeys) - 1) + 0.2, draw=draw)


def _draw_fan(axes: Axes, below: tuple[Array, float], above: tuple[Array, float]) -> None:
    """The outline of what goes from one storey to the next."""
    (xs, y), (tops, top) = below, above
    if len(xs) and len(tops):
        axes.fill(
            [xs[0], xs[-1], tops[-1], tops[0]], [y, y, top, top], color=ACCENT, alpha=0.15, lw=1.5
        )


def _label(number: int, storey: _Storey) -> str:
    seen = int((storey.seen > 0).sum())
    return f"{'input' if number == 0 else f'after {number}'}: {seen} of {len(storey.seen)}"


def _map(paths: list[Array]) -> Panel:
    """Paths from the input voxels that are seen; of a volume the middle slice."""
    fields = [np.trim_zeros(axis) for axis in paths]
    extent = " × ".join(str(len(field)) for field in fields)
    title = f"receptive field {extent}: paths from each input voxel to the output"
    if len(fields) == 1:
        return Panel(title=title, values=fields[0])
    plane = np.outer(*fields[-2:])
    if len(fields) == 3:
        plane = plane * fields[0][len(fields[0]) // 2]
        title += " (middle slice)"
    return Panel(title=title, values=plane, numbers=max(plane.shape) <= _NUMBERED)
