"""The kernel that is read from a layer, against what the layer computes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from medseg.conversion.kernels import dense_taps, impulse_response, read_kernel
from medseg.layers.parallel import Sum
from medseg.layers.resampling import BoxBlur, Nails

CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
LAYERS = {1: (nn.Conv1d, nn.ConvTranspose1d), 2: (nn.Conv2d, nn.ConvTranspose2d)}


def per_axis(dims: int, least: int, most: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(least, most)] * dims)


@st.composite
def convolutions(draw) -> tuple:
    dims = draw(st.integers(1, 3))
    groups = draw(st.integers(1, 2))
    weight = torch.randn(2 * groups, draw(st.integers(1, 2)), *draw(per_axis(dims, 1, 3)))
    options = {"stride": draw(per_axis(dims, 1, 3)), "dilation": draw(per_axis(dims, 1, 2))}
    return weight.double(), groups, options


@settings(max_examples=30)
@given(convolutions())
def test_groups_and_gaps_are_zeros_of_a_dense_kernel(drawn) -> None:
    weight, groups, options = drawn
    dims = weight.ndim - 2
    image = torch.randn(1, groups * weight.shape[1], *[6] * dims).double()
    dense = dense_taps(weight, groups, options["dilation"])
    assert dense.count_nonzero() == weight.count_nonzero()
    torch.testing.assert_close(
        CONV[dims](image, dense, stride=options["stride"]),
        CONV[dims](image, weight, groups=groups, **options),
    )


@settings(max_examples=30)
@given(
    st.integers(1, 2), st.sampled_from([1, 3, 5]), st.integers(1, 3), st.integers(1, 6),
    st.sampled_from([1, 2]),
)  # fmt: skip
def test_layers_in_turn_answer_to_an_impulse(dims, first, scale, dilation, groups) -> None:
    conv, transposed = LAYERS[dims]
    layer = nn.Sequential(
        conv(2, 4, first, padding=first // 2, groups=groups),
        transposed(4, 2, scale, scale),
        conv(2, 2, 3, padding=dilation, dilation=dilation),
    ).double()
    for bias in (p for name, p in layer.named_parameters() if name.endswith("bias")):
        nn.init.zeros_(bias)
    taps, start = impulse_response(layer, 2, (scale,) * dims)
    middle = 2 + first // 2 + dilation
    impulse = torch.zeros(1, 2, *[2 * middle + 1] * dims).double()
    impulse[(0, 1, *[middle] * dims)] = 1
    answer = layer(impulse)[0].detach()
    own = [slice(middle * scale + a, middle * scale + a + n)
           for a, n in zip(start, taps.shape[2:], strict=True)]  # fmt: skip
    torch.testing.assert_close(answer[(slice(None), *own)], taps[1])
    assert answer.abs().sum() == pytest.approx(float(taps[1].abs().sum()))


def test_branches_are_added_where_they_are() -> None:
    branches = nn.ConvTranspose1d(1, 1, 2, 2), nn.ConvTranspose1d(1, 1, 4, 2, 1)
    for branch in branches:
        nn.init.ones_(branch.weight)
    taps, start = impulse_response(Sum(*branches).double(), 1, (2,))
    assert (taps.flatten().tolist(), start) == ([1, 2, 2, 1], (-1,))


def test_what_sees_everything_has_no_kernel() -> None:
    class LessItsMean(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x - x.mean()

    with pytest.raises(ValueError, match="reaches"):
        impulse_response(LessItsMean(), 1, (1,))


def test_a_blur_at_the_end_is_set_apart_and_elsewhere_refused() -> None:
    nails, blur = nn.Sequential(nn.Conv2d(1, 1, 1), Nails((2, 2))), BoxBlur((2, 2))
    kernel = read_kernel(nn.Sequential(nails, blur), "upsample", 1, (2, 2))
    assert kernel.blur
    assert kernel.taps.shape == (1, 1, 1, 1)
    with pytest.raises(ValueError, match="border"):
        read_kernel(nn.Sequential(blur, nails), "upsample", 1, (2, 2))
