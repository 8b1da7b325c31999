"""Functions as networks, and what they look at by two references."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from medseg.analysis.receptive_field import input_voxels
from medseg.analysis.trace import Trace, trace

from .positive import seen_by_gradient


class Function(nn.Module):
    """A function of an image as a network."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def seen(traced: Trace, axis: int, outputs: Sequence[int]) -> np.ndarray:
    """Which positions of the image some of the logits look at, `(outputs, positions)`."""
    return input_voxels(traced, axis, [(traced.logits, output) for output in outputs])


def seen_by_poking(
    function: Callable[[Tensor], Tensor], shape: Sequence[int], axis: int
) -> np.ndarray:
    """Which positions each output looks at, `(outputs, positions)`: those that change it."""
    rest = function(torch.zeros(shape))
    columns = []
    for place in range(shape[2 + axis]):
        poked = torch.zeros(shape)
        line = poked.select(2 + axis, place)
        line.copy_(torch.arange(1.0, 1 + line.numel()).view_as(line))
        changed = function(poked) != rest
        columns.append(changed.movedim(2 + axis, 0).flatten(1).any(1))
    return torch.stack(columns, dim=1).numpy()


def assert_looks_where_the_gradient_is(
    function: Callable[[Tensor], Tensor],
    size: Sequence[int],
    channels: int = 1,
    *,
    at_least: bool = False,
) -> None:
    """Along every axis, for every output; or there and elsewhere."""
    traced = trace(Function(function), channels, size)
    image = torch.rand(1, channels, *size, dtype=torch.float64)
    for axis in range(len(size)):
        outputs = range(traced.logits.shape[2 + axis])
        expected = seen_by_gradient(function, image, axis, outputs, least=1e-12)
        found = seen(traced, axis, outputs)
        if at_least:
            assert (found >= expected).all()
        else:
            np.testing.assert_array_equal(found, expected)


def assert_looks_where_poking_shows(
    function: Callable[[Tensor], Tensor], size: Sequence[int], channels: int = 1
) -> None:
    """Along every axis, for every output; for functions whose gradient picks one of several."""
    traced = trace(Function(function), channels, size)
    for axis in range(len(size)):
        expected = seen_by_poking(function, (1, channels, *size), axis)
        found = seen(traced, axis, range(traced.logits.shape[2 + axis]))
        np.testing.assert_array_equal(found, expected)
