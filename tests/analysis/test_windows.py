"""Windows against what torch's own functions look at, for any geometry."""

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from .functions import assert_looks_where_poking_shows, assert_looks_where_the_gradient_is

DIMS = st.integers(1, 3)
SIZES = st.integers(1, 11)
THOROUGH = settings(max_examples=15)
CONV = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
TRANSPOSED = {
    1: functional.conv_transpose1d,
    2: functional.conv_transpose2d,
    3: functional.conv_transpose3d,
}
MAX_POOL = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
MEAN_POOL = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
ADAPTIVE_MEAN = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
ADAPTIVE_MAX = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


def each(dims: int, low: int, high: int) -> st.SearchStrategy[tuple[int, ...]]:
    return st.tuples(*[st.integers(low, high)] * dims)


@st.composite
def geometries(draw: st.DrawFn) -> dict[str, Any]:
    dims = draw(DIMS)
    return {
        "size": draw(each(dims, 1, 11 if dims < 3 else 5)),
        "kernel": draw(each(dims, 1, 5)),
        "stride": draw(each(dims, 1, 4)),
        "padding": draw(each(dims, 0, 3)),
        "dilation": draw(each(dims, 1, 3)),
    }


def axes(g: dict[str, Any]) -> Any:
    return zip(*g.values(), strict=True)


@THOROUGH
@given(geometries(), st.integers(1, 2))
def test_a_convolution(g: dict[str, Any], groups: int) -> None:
    assume(all(n + 2 * p >= d * (k - 1) + 1 for n, k, _, p, d in axes(g)))
    dims = len(g["size"])
    weight = torch.ones(2, 2 // groups, *g["kernel"])
    assert_looks_where_the_gradient_is(
        lambda x: CONV[dims](
            x, weight.to(x), None, g["stride"], g["padding"], g["dilation"], groups
        ),
        g["size"],
        channels=2,
    )


@THOROUGH
@given(geometries(), st.data())
def test_a_transposed_convolution(g: dict[str, Any], data: st.DataObject) -> None:
    limits = [max(s, d) - 1 for _, _, s, _, d in axes(g)]
    extra = tuple(data.draw(st.integers(0, limit)) for limit in limits)
    sizes = zip(axes(g), extra, strict=True)
    assume(all((n - 1) * s - 2 * p + d * (k - 1) + e >= 0 for (n, k, s, p, d), e in sizes))
    dims = len(g["size"])
    weight = torch.ones(1, 2, *g["kernel"])
    assert_looks_where_the_gradient_is(
        lambda x: TRANSPOSED[dims](
            x, weight.to(x), None, g["stride"], g["padding"], extra, 1, g["dilation"]
        ),
        g["size"],
    )


@THOROUGH
@given(geometries(), st.booleans(), st.booleans())
def test_pooling(g: dict[str, Any], ceil: bool, default_stride: bool) -> None:
    kernel = tuple(min(k, n) for n, k, *_ in axes(g))
    padding = tuple(min(p, k // 2) for p, k in zip(g["padding"], kernel, strict=True))
    spans = zip(g["size"], kernel, padding, g["dilation"], strict=True)
    dilation = tuple(d if d * (k - 1) + 1 <= n + 2 * p else 1 for n, k, p, d in spans)
    dims = len(g["size"])
    stride = None if default_stride else g["stride"]
    assert_looks_where_the_gradient_is(
        lambda x: MEAN_POOL[dims](x, kernel, stride, padding, ceil_mode=ceil), g["size"]
    )
    assert_looks_where_poking_shows(
        lambda x: MAX_POOL[dims](x, kernel, stride, padding, dilation, ceil), g["size"]
    )


@pytest.mark.parametrize("dims", [1, 2, 3])
@settings(max_examples=15)
@given(data=st.data())
def test_adaptive_pooling(dims: int, data: st.DataObject) -> None:
    size, wanted = data.draw(each(dims, 1, 9)), data.draw(each(dims, 1, 9))
    assert_looks_where_the_gradient_is(lambda x: ADAPTIVE_MEAN[dims](x, wanted), size)
    assert_looks_where_poking_shows(lambda x: ADAPTIVE_MAX[dims](x, wanted), size)


@pytest.mark.parametrize("align_corners", [False, True])
@settings(max_examples=15)
@given(data=st.data())
def test_interpolation_between_voxels(align_corners: bool, data: st.DataObject) -> None:
    dims = data.draw(DIMS)
    size, wanted = data.draw(each(dims, 1, 9)), data.draw(each(dims, 1, 12))
    name = LINEAR[dims]
    assert_looks_where_the_gradient_is(
        lambda x: functional.interpolate(x, wanted, mode=name, align_corners=align_corners), size
    )


@THOROUGH
@given(data=st.data())
def test_interpolation_by_the_nearest_voxel(data: st.DataObject) -> None:
    dims = data.draw(DIMS)
    size, wanted = data.draw(each(dims, 1, 9)), data.draw(each(dims, 1, 12))
    assert_looks_where_the_gradient_is(lambda x: functional.interpolate(x, wanted), size)


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@settings(max_examples=15)
@given(size=each(2, 2, 9), factors=st.tuples(*[st.sampled_from([0.5, 1.5, 2.0, 3.0, 2.7])] * 2))
def test_interpolation_by_a_factor(
    mode: str, size: tuple[int, ...], factors: tuple[float, ...]
) -> None:
    assert_looks_where_the_gradient_is(
        lambda x: functional.interpolate(x, scale_factor=factors, mode=mode), size
    )
