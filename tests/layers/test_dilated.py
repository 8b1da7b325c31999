"""The 3-D convolution whose weight gradient is put together from planes."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from medseg.layers.fast_conv import DilatedConv3d

AXES = st.tuples(*[st.integers(1, 3)] * 3)


def pair(groups: int = 1, **options) -> tuple[nn.Module, nn.Module]:
    ours = DilatedConv3d(4, 6, groups=groups, bias=False, **options).double()
    torchs = nn.Conv3d(4, 6, groups=groups, bias=False, **options).double()
    torchs.load_state_dict(ours.state_dict())
    return ours, torchs


def assert_equal(ours: nn.Module, torchs: nn.Module, x: torch.Tensor) -> None:
    x.requires_grad_()
    expected = torchs(x)
    found = ours(x)
    torch.testing.assert_close(found, expected)
    seed = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(found, [x, *ours.parameters()], seed),
        torch.autograd.grad(expected, [x, *torchs.parameters()], seed),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@settings(max_examples=25)
@given(
    kernel=AXES,
    stride=AXES,
    dilation=AXES,
    padding=st.tuples(*[st.integers(0, 4)] * 3),
    groups=st.sampled_from([1, 2]),
    batch=st.integers(1, 3),
)
def test_value_and_gradients_are_torchs(kernel, stride, dilation, padding, groups, batch) -> None:
    grid = (5, 6, 4)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    assume(all(r <= n + 2 * p for r, n, p in zip(reach, grid, padding, strict=True)))
    options = {"stride": stride, "dilation": dilation, "padding": padding}
    assert_equal(
        *pair(groups, kernel_size=kernel, **options), torch.randn(batch, 4, *grid).double()
    )


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_one_gradient_alone(needs) -> None:
    layer, _ = pair(kernel_size=3, dilation=2, padding=2)
    layer.weight.requires_grad_(needs[1])
    x = torch.randn(2, 4, 5, 5, 5, dtype=torch.float64, requires_grad=needs[0])
    layer(x).sum().backward()
    assert (x.grad is not None, layer.weight.grad is not None) == needs


@pytest.mark.parametrize(
    "options", [{"padding": "same"}, {"bias": True}, {"padding_mode": "circular", "padding": 2}]
)
def test_what_torchs_layer_takes_this_one_takes(options) -> None:
    options = {"kernel_size": 3, "dilation": 2, "bias": False} | options
    ours, torchs = DilatedConv3d(4, 4, **options), nn.Conv3d(4, 4, **options)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 6, 5, 7)
    torch.testing.assert_close(ours(x), torchs(x))
    torch.testing.assert_close(ours(x[0]), torchs(x[0]))


def test_autocast_computes_in_bfloat16() -> None:
    layer = DilatedConv3d(4, 4, 3, padding=2, dilation=2, bias=False)
    x = torch.randn(1, 4, 6, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer(x), atol=0.05, rtol=0.05)
