"""The fast depthwise convolution against torch's own, values and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.fast_conv import DepthwiseConv2d, DepthwiseConv3d, Geometry, fast_conv

from ..pairwise import pairwise_cells

CONV = {2: functional.conv2d, 3: functional.conv3d}
NATIVE = {2: nn.Conv2d, 3: nn.Conv3d}
OURS = {2: DepthwiseConv2d, 3: DepthwiseConv3d}
LAST = {2: torch.channels_last, 3: torch.channels_last_3d}
GRIDS = {2: (11, 13), 3: (7, 5, 8)}
KERNELS = {2: [1, 2, 3, 4, 5, 7], 3: [1, 2, 3, 4, 5]}


def fast_depthwise_conv(x, weight, stride, padding, dilation):
    return fast_conv(x, weight, Geometry(stride, padding, dilation, x.shape[1]))


def draw(grid, kernel, *, batch=2, channels=2, multiplier=1) -> tuple[Tensor, Tensor]:
    x = torch.randn(batch, channels, *grid, dtype=torch.float64)
    weight = torch.randn(channels * multiplier, 1, *kernel, dtype=torch.float64)
    return x, weight


def results(make, x: Tensor, weight: Tensor, wanted=(True, True)) -> list[Tensor | None]:
    """Output and gradients, by a gradient of the output that is the same for every `make`."""
    inputs = [t.detach().requires_grad_(w) for t, w in zip((x, weight), wanted, strict=True)]
    out = make(*inputs)
    seed = torch.arange(out.numel(), dtype=out.dtype).reshape(out.shape).sin()
    out.backward(seed)
    return [out.detach(), *(t.grad for t in inputs)]


def assert_equals_torch(x, weight, stride, padding, dilation, wanted=(True, True)) -> None:
    native = CONV[x.ndim - 2]
    expected = results(
        lambda a, w: native(a, w, None, stride, padding, dilation, a.shape[1]), x, weight, wanted
    )
    ours = results(
        lambda a, w: fast_depthwise_conv(a, w, stride, padding, dilation), x, weight, wanted
    )
    for mine, theirs, present in zip(ours, expected, (True, *wanted), strict=True):
        assert (mine is not None) == (theirs is not None) == present
        if present:
            torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-10)


OPTIONS = {
    "stride": [1, 2, 3],
    "padding": [0, 1, 2, 4],
    "dilation": [1, 2, 3],
    "multiplier": [1, 2],
}
CELLS = [
    (dims, *cell.values())
    for dims, kernels in KERNELS.items()
    for cell in pairwise_cells({"kernel": kernels, **OPTIONS})
]


@pytest.mark.parametrize(
    ("dims", "kernel", "stride", "padding", "dilation", "multiplier"), CELLS, ids=str
)
def test_it_is_torchs_grouped_convolution(
    dims, kernel, stride, padding, dilation, multiplier
) -> None:
    extent = dilation * (kernel - 1) + 1
    grid = tuple(max(size, extent - 2 * padding) for size in GRIDS[dims])
    x, weight = draw(grid, (kernel,) * dims, multiplier=multiplier)
    assert_equals_torch(x, weight, *((n,) * dims for n in (stride, padding, dilation)))


@st.composite
def geometries(draw_one):
    dims = draw_one(st.sampled_from([2, 3]))

    def axes(low: int, high: int) -> tuple[int, ...]:
        return tuple(draw_one(st.integers(low, high)) for _ in range(dims))

    kernel, dilation, padding, stride = axes(1, 5), axes(1, 3), axes(0, 4), axes(1, 4)
    spare = axes(0, 4)
    grid = tuple(
        max(1, d * (k - 1) + 1 - 2 * p) + extra
        for k, d, p, extra in zip(kernel, dilation, padding, spare, strict=True)
    )
    return grid, kernel, stride, padding, dilation


@settings(max_examples=60)
@given(
    geometry=geometries(),
    batch=st.integers(1, 3),
    channels=st.integers(1, 4),
    multiplier=st.integers(1, 3),
    last=st.booleans(),
)
def test_any_geometry_is_torchs(geometry, batch, channels, multiplier, last) -> None:
    grid, kernel, *rest = geometry
    torch.manual_seed(0)
    x, weight = draw(grid, kernel, batch=batch, channels=channels, multiplier=multiplier)
    if last:
        x = x.contiguous(memory_format=LAST[len(grid)])
    assert_equals_torch(x, weight, *rest)


CONFIGURATIONS = [
    {"kernel_size": 7, "padding": 3},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1},
    {"kernel_size": 5, "padding": 2, "stride": 2},
    {"kernel_size": 5, "padding": 2, "bias": True},
    {"kernel_size": 5, "padding": 2, "padding_mode": "circular"},
]


def pair(dims: int, options: dict) -> tuple[nn.Module, nn.Module]:
    """Ours and torch's, with the same weights."""
    options = {"bias": False, **options}
    ours, native = (kind[dims](4, 8, groups=4, **options) for kind in (OURS, NATIVE))
    assert list(ours.state_dict()) == list(native.state_dict())
    ours.load_state_dict(native.state_dict())
    native.load_state_dict(ours.state_dict())
    return ours, native


def module_results(module, x: Tensor) -> list[Tensor]:
    """Output, gradient by the input, gradients by the parameters."""
    x = x.detach().requires_grad_()
    parameters = list(module.parameters())
    out = module(x)
    seed = torch.arange(out.numel(), dtype=torch.float64).reshape(out.shape).sin().to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [x, *parameters], seed)]


@pytest.mark.parametrize("options", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("dims", [2, 3])
class TestModule:
    def test_it_is_torchs_and_so_are_its_gradients(self, dims, options) -> None:
        x = torch.randn(2, 4, *GRIDS[dims], dtype=torch.float64)
        found = [module_results(module.double(), x) for module in pair(dims, options)]
        for mine, theirs in zip(*found, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-10, rtol=1e-10)

    def test_autocast_is_as_near_to_single_precision_as_torchs(self, dims, options) -> None:
        ours, native = pair(dims, options)
        x = torch.randn(2, 4, *GRIDS[dims])
        exact = module_results(native, x)
        with torch.autocast("cpu", torch.bfloat16):
            mine = module_results(ours, x)
        assert mine[0].dtype == torch.bfloat16
        for value, expected in zip(mine, exact, strict=True):
            bound = 0.02 * expected.abs().max() + 0.05
            assert (value.float() - expected).abs().max() < bound

    def test_it_works_without_gradients(self, dims, options) -> None:
        ours, native = pair(dims, options)
        x = torch.randn(2, 4, *GRIDS[dims])
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                torch.testing.assert_close(ours(x), native(x))

    def test_it_works_on_the_meta_device(self, dims, options) -> None:
        ours, native = pair(dims, options)
        x = torch.empty(2, 4, *GRIDS[dims], device="meta")
        assert ours.to("meta")(x).shape == native.to("meta")(x).shape


def test_it_is_the_fast_path_that_is_taken() -> None:
    x = torch.randn(1, 4, 6, 6, requires_grad=True)
    assert "FastConv" in type(DepthwiseConv2d(4, 4, 5, groups=4, bias=False)(x).grad_fn).__name__
    deep = torch.randn(1, 4, 6, 6, 6, requires_grad=True)
    layer = DepthwiseConv3d(4, 4, 3, groups=4, bias=False)
    assert "FastConv" in type(layer(deep).grad_fn).__name__


class TestUnusualUse:
    """What torch's own layer takes, this one takes too."""

    @pytest.mark.parametrize("options", [{"padding": "same"}, {"bias": True}], ids=str)
    def test_padding_by_name_and_a_bias(self, options) -> None:
        layer = DepthwiseConv3d(3, 3, 3, groups=3, **{"bias": False, **options})
        reference = nn.Conv3d(3, 3, 3, groups=3, **{"bias": False, **options})
        reference.load_state_dict(layer.state_dict())
        x = torch.randn(1, 3, 6, 5, 4)
        torch.testing.assert_close(layer(x), reference(x))

    def test_autocast_leaves_double_alone(self) -> None:
        layer = DepthwiseConv3d(3, 3, 3, padding=1, groups=3, bias=False).double()
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(torch.randn(1, 3, 4, 4, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("wanted", [(True, False), (False, True)], ids=["input", "weight"])
def test_only_the_gradient_that_is_wanted_is_given(dims, wanted) -> None:
    x, weight = draw(GRIDS[dims], (5,) * dims, batch=3, channels=3, multiplier=2)
    assert_equals_torch(x, weight, (1,) * dims, (2,) * dims, (1,) * dims, wanted)
