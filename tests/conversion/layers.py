"""Random layers of torch in 1-D to 3-D, for hypothesis."""

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSE = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}


def sizes(dims: int, smallest: int, largest: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(smallest, largest)] * dims)


def odd_sizes(dims: int, largest: int = 5) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.sampled_from(range(1, largest + 1, 2))] * dims)


def random_tensor(*size: int) -> Tensor:
    return torch.randn(*size, dtype=torch.float64)


def reach_of(taps: Sequence[int], dilation: Sequence[int]) -> list[int]:
    return [d * (k - 1) + 1 for k, d in zip(taps, dilation, strict=True)]


@st.composite
def convolutions(draw) -> tuple[Tensor, Tensor, dict]:
    """An image, a kernel and torch's options, which fit each other."""
    dims = draw(st.integers(1, 3))
    groups, of_each, per_group = (draw(st.integers(1, 2)) for _ in range(3))
    taps, grid = draw(sizes(dims, 1, 3)), draw(sizes(dims, 1, 5))
    stride, dilation = draw(sizes(dims, 1, 3)), draw(sizes(dims, 1, 2))
    reach = reach_of(taps, dilation)
    needed = [max(0, (r - n + 1) // 2) for r, n in zip(reach, grid, strict=True)]
    padding = tuple(draw(st.integers(n, n + 2)) for n in needed)
    image = random_tensor(1, groups * per_group, *grid)
    weight = random_tensor(groups * of_each, per_group, *taps)
    return image, weight, {
        "stride": stride, "padding": padding, "dilation": dilation, "groups": groups,
    }  # fmt: skip


@st.composite
def whole_upsamplings(draw) -> tuple[Tensor, Tensor, Tensor, dict]:
    """An image, kernel, bias and options of a transposed convolution that multiplies the grid."""
    dims = draw(st.integers(1, 3))
    stride, grid = draw(sizes(dims, 1, 3)), draw(sizes(dims, 1, 4))
    padding = draw(sizes(dims, 0, 3))
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    taps = [s + 2 * p - e for s, p, e in zip(stride, padding, extra, strict=True)]
    into, out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    options = {"stride": stride, "padding": padding, "output_padding": extra}
    return (
        random_tensor(1, into, *grid),
        random_tensor(into, out, *taps),
        random_tensor(out),
        options,
    )
