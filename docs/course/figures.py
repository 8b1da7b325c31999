"""Figures of an operator beside its example: taps, overlaps, its matrix, its receptive field."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from course.closed_form import Layer, jump, receptive_field
from medseg.errors import ConfigError
from medseg.explain.example import FINE, Panel, apply, draw, image_of, small, worked
from medseg.explain.operator import SIZED, Operator

_LONGEST = 400
_PERIODS = {1: 6, 2: 5, 3: 3}
_MATRIX_UP, _MATRIX, _MATRIX_STRIDED = {1: 5, 2: 2, 3: 2}, {1: 8, 2: 4, 3: 3}, {1: 8, 2: 4, 3: 4}
_USUAL_TIMES = {True: 2, False: 3}
# their own matrix depends on values; these have the same windows
_SAME_WINDOWS = {"deformable": "conv", "max_unpool": "nearest"}


def matrix(operator: Operator) -> Tensor:
    """`(output voxels, input voxels)`: the operator as a matrix.

    Of a maximum, which is not linear, the derivative at `image_of`: the choice that it makes.
    """
    if operator.kind == "max_pool":
        image = image_of(operator)
        jacobian = torch.autograd.functional.jacobian(lambda x: apply(operator, x), image)
        return torch.as_tensor(jacobian).reshape(-1, image.numel())
    units = torch.eye(math.prod(operator.size), dtype=torch.float64)
    return apply(operator, units.reshape(-1, 1, *operator.size)).flatten(1).T


def windows(operator: Operator) -> Tensor:
    """The matrix of what the operator looks at: of a maximum its whole window."""
    if operator.kind == "max_pool":
        operator = replace(operator, kind="average_pool")
    return matrix(operator)


def example(operator: Operator) -> list[Panel]:
    """The arrays of the worked example."""
    return [Panel(name, values.numpy()) for name, values in worked(small(operator)).items()]


def taps(operator: Operator) -> list[Panel]:
    """Weights with which one output reads the input; of an upsampling, what one input adds."""
    cut = small(operator)
    entries, size = windows(cut).numpy(), cut.output
    if cut.about.upsamples:
        place = tuple((n - 1) // 2 for n in cut.size)
        weights = entries[:, np.ravel_multi_index(place, cut.size)].reshape(size)
        return [_marked("one input", cut.size, place), Panel("its share of the output", weights)]
    place = tuple(n // 2 for n in size)
    weights = entries[np.ravel_multi_index(place, size)].reshape(cut.size)
    return [Panel("weights of the input in one output", weights), _marked("output", size, place)]


def overlap(operator: Operator) -> list[Panel]:
    """How many inputs reach each output voxel; for others, how many outputs read each input."""
    if operator.about.upsamples:  # on a grid that is large enough for its pattern
        operator = replace(operator, size=(_PERIODS[operator.dims],) * operator.dims)
        cut = small(operator, _PERIODS)
        counts = (windows(cut) != 0).sum(1).reshape(cut.output)
        return [Panel("inputs that reach each output voxel", counts.numpy())]
    cut = small(operator, FINE)
    counts = (windows(cut) != 0).sum(0).reshape(cut.size)
    return [Panel("outputs that read each input voxel", counts.numpy())]


def as_matrix(operator: Operator) -> list[Panel]:
    """The operator as a matrix on a small input: rows are outputs, columns inputs."""
    strided = max(operator.stride) > 1
    most = _MATRIX_UP if operator.about.upsamples else _MATRIX_STRIDED if strided else _MATRIX
    cut = small(operator, most)
    entries = windows(cut).numpy()
    return [Panel(f"matrix, {entries.shape[0]}×{entries.shape[1]}", entries)]


def field(operator: Operator) -> list[Panel]:
    """Paths from the input voxels to one output of a chain, as far as any lead there.

    A chain of one is drawn as three in a row, of an upsampling as two, or as many as can be drawn.

    Raises:
        ConfigError: the field is too long to draw.
    """
    chains = [operator.times]
    if operator.times == 1:
        chains = range(_USUAL_TIMES[operator.about.upsamples], 0, -1)
    for times in chains:
        try:
            axes = [np.trim_zeros(_paths(_along(operator, a), times)) for a in range(operator.dims)]
        except ConfigError:
            if times == chains[-1]:
                raise
            continue
        product = axes[0]
        for axis in axes[1:]:
            product = product[..., None] * axis
        if len(axes) == 3:
            product = product[len(product) // 2]
        middle = ", middle slice" if len(axes) == 3 else ""
        return [Panel(f"paths from the input to one output after {times}{middle}", product)]
    raise AssertionError


FIGURES: dict[str, Callable[[Operator], list[Panel]]] = {
    "example": example,
    "taps": taps,
    "overlap": overlap,
    "matrix": as_matrix,
    "field": field,
}


def draw_operator(operator: Operator, name: str) -> Figure:
    """Draws a figure of `FIGURES`.

    Raises:
        ConfigError: the operator is too large to draw.
    """
    return draw(FIGURES[name](operator))


def _marked(title: str, size: Sequence[int], place: Sequence[int]) -> Panel:
    marks = np.zeros(size)
    marks[tuple(place)] = 1
    return Panel(title, marks)


def _paths(line: Operator, times: int) -> np.ndarray:
    """Paths along one axis from every input voxel to the output near the middle that sees most."""
    line = replace(line, kind=_SAME_WINDOWS.get(line.kind, line.kind), times=times)
    (kernel,), (stride,), (dilation,) = line.kernel, line.stride, line.dilation
    layers = [Layer(kernel=kernel, stride=stride, dilation=dilation)] * times
    size = line.size[0]
    if line.about.upsamples:
        size = _PERIODS[2]
    elif line.about.family == "conv":
        size = receptive_field(layers) + 2 * jump(layers)
    if size > _LONGEST:
        raise ConfigError(
            f"times={times}: the receptive field of {receptive_field(layers)} voxels is too long "
            "to draw; choose a smaller times, kernel or dilation"
        )
    sizes = [n for (n,) in replace(line, size=(size,)).sizes]
    if sizes[-1] > _LONGEST:
        raise ConfigError(
            f"times={times}: {sizes[-1]} voxels are too many to draw; choose a smaller times"
        )
    paths = np.eye(sizes[-1])
    for n in reversed(sizes[:-1]):
        paths = paths @ (windows(replace(line, size=(n,))).numpy() != 0)
    quarter = len(paths) // 4
    chosen = paths[quarter : len(paths) - quarter]
    middle = (len(chosen) - 1) / 2
    order = sorted(range(len(chosen)), key=lambda i: abs(i - middle))
    return max((chosen[i] for i in order), key=np.count_nonzero)


def _along(operator: Operator, axis: int) -> Operator:
    """The same operator of one axis."""
    return replace(operator, **{name: (getattr(operator, name)[axis],) for name in SIZED})
