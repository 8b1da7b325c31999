"""Small kernels on small images, each computed in two ways that a lecture says are one."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from course.closed_form import Layer, receptive_field
from medseg.explain.example import Panel, draw
from medseg.report.page import Figure


def counted(size: int, *, first: int = 1) -> Tensor:
    """`(1, 1, size, size)`: `first`, `first + 1` … in array order."""
    numbers = torch.arange(first, first + size * size, dtype=torch.float64)
    return numbers.reshape(1, 1, size, size)


def with_zeros_between(dilation: int) -> Tensor:
    """A 7×7 image under a 3×3 kernel that has zeros between its taps."""
    span = receptive_field([Layer(kernel=3, dilation=dilation)])
    kernel = torch.zeros(1, 1, span, span, dtype=torch.float64)
    kernel[..., ::dilation, ::dilation] = counted(3)
    return torch.conv2d(counted(7, first=0), kernel)[0, 0]


def dilated(dilation: int) -> Tensor:
    """The same image and taps with torch's dilation."""
    return torch.conv2d(counted(7, first=0), counted(3), dilation=dilation)[0, 0]


def at_once() -> Tensor:
    """A 5×5 image under the outer product of (1, 2, 1) with itself."""
    factor = _binomial()
    kernel = torch.outer(factor, factor)[None, None]
    return torch.conv2d(counted(5), kernel, padding=1)[0, 0]


def by_axes() -> Tensor:
    """The same image under (1, 2, 1) along the one axis, then along the other."""
    factor = _binomial()
    down = torch.conv2d(counted(5), factor.reshape(1, 1, 3, 1), padding=(1, 0))
    return torch.conv2d(down, factor.reshape(1, 1, 1, 3), padding=(0, 1))[0, 0]


def _binomial() -> Tensor:
    return torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)


def summed(first: NDArray[Any], second: NDArray[Any]) -> tuple[int, ...]:
    """`Σᵢ f(i) g(t − i)`, written out; both are 0 outside their arrays."""
    return tuple(
        sum(int(f) * int(second[t - i]) for i, f in enumerate(first) if 0 <= t - i < len(second))
        for t in range(len(first) + len(second) - 1)
    )


def summed_2d(first: NDArray[Any], second: NDArray[Any], *, misprint: bool = False) -> tuple:
    """`Σₘ Σₙ f(m, n) g(i − m, j − n)`; a misprint has `i − n` for `j − n`."""
    rows, columns = np.add(first.shape, second.shape) - 1

    def entry(i: int, j: int) -> int:
        pairs = (((m, n), (i - m, (i if misprint else j) - n)) for m, n in np.ndindex(first.shape))
        return sum(int(first[a] * second[b]) for a, b in pairs if _inside(b, second))

    return tuple(tuple(entry(i, j) for j in range(columns)) for i in range(rows))


def correlated(image: Any, kernel: Any) -> Tensor:
    """What torch calls a convolution."""
    x, weight = (torch.tensor(values, dtype=torch.float64) for values in (image, kernel))
    return torch.conv2d(x[None, None], weight[None, None])[0, 0]


def _inside(place: tuple[int, int], array: NDArray[Any]) -> bool:
    return all(0 <= index < size for index, size in zip(place, array.shape, strict=True))


def grids(caption: str, *named: tuple[str, Any]) -> Figure:
    """Arrays side by side, each below its name."""
    panels = [Panel(name, np.asarray(values, dtype=float)) for name, values in named]
    return Figure(draw(panels), title=caption, caption=caption, wide=True)
