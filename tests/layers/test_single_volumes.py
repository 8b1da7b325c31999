"""The convolution of single small volumes against torch's in double precision."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from medseg.layers.fast_conv import Conv3d, DilatedConv3d

LAYOUTS = (torch.contiguous_format, torch.channels_last_3d)
GRID = (6, 5, 7)


@pytest.mark.parametrize("kind", [Conv3d, DilatedConv3d])
@given(
    channels=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(*[st.integers(1, 3)] * 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 2),
    dilation=st.integers(1, 2),
    bias=st.booleans(),
    layout=st.sampled_from(LAYOUTS),
    batch=st.integers(1, 2),
)
def test_values_and_gradients_are_torchs(
    kind, channels, kernel, stride, padding, dilation, bias, layout, batch
) -> None:
    torch.manual_seed(0)
    how: dict[str, Any] = {"stride": stride, "padding": padding, "dilation": dilation, "bias": bias}
    inputs, outputs = channels
    ours = kind(inputs, outputs, kernel, **how)
    theirs = nn.Conv3d(inputs, outputs, kernel, **how).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(batch, inputs, *GRID).to(memory_format=layout)
    single, double = x.clone().requires_grad_(), x.double().requires_grad_()
    out, expected = ours(single), theirs(double)
    seed = torch.randn_like(out)
    out.backward(seed)
    expected.backward(seed.double())
    with torch.no_grad():
        assert_close(ours(x), expected)
    assert_close(out, expected)
    assert_close(single.grad, double.grad)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert_close(mine.grad, other.grad)


def assert_close(ours: Tensor | None, theirs: Tensor | None) -> None:
    assert ours is not None
    assert theirs is not None
    torch.testing.assert_close(ours.double(), theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_layout_in_memory_is_kept(layout: torch.memory_format) -> None:
    conv, x = Conv3d(4, 8, 3, padding=1), torch.randn(1, 4, *GRID).to(memory_format=layout)
    assert conv.takes_over(x)
    with torch.no_grad():
        assert conv(x).is_contiguous(memory_format=layout)


def test_what_torch_computes_by_the_library_stays_torchs() -> None:
    conv = Conv3d(4, 8, 3, padding=1)
    assert conv.takes_over(torch.randn(1, 4, *GRID))
    assert not conv.takes_over(torch.randn(2, 4, *GRID))
    assert not conv.takes_over(torch.randn(1, 4, 64, 81, 1))  # large enough
    assert not conv.takes_over(torch.randn(1, 4, *GRID, dtype=torch.float64))
    assert not Conv3d(4, 8, 3, padding=1, groups=2).takes_over(torch.randn(1, 4, *GRID))
    assert not Conv3d(4, 8, 3, padding_mode="reflect", padding=1).takes_over(
        torch.randn(1, 4, *GRID)
    )
    with torch.autocast("cpu", torch.bfloat16):
        assert not conv.takes_over(torch.randn(1, 4, *GRID))
