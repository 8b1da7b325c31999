"""Rearrangements, sums and products against the support of the gradient of torch's functions."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from medseg.analysis.trace import trace

from .functions import (
    Function,
    assert_looks_where_poking_shows,
    assert_looks_where_the_gradient_is,
    seen,
)

CHEQUERED = torch.arange(30).view(6, 5) % 2
BRIEF = settings(max_examples=20)


def mixed(x: Tensor) -> Tensor:
    """Tells the axes and the directions apart."""
    taps = torch.ones(x.shape[1], 1, 2, 1).to(x)
    return functional.conv2d(functional.pad(x, (0, 0, 2, 0)), taps, groups=x.shape[1])[..., 1:, :]


def into(upper: Tensor, lower: Tensor) -> Tensor:
    """Two parts written one below the other into an empty tensor."""
    rows = upper.shape[2] + lower.shape[2]
    whole = upper.new_empty(*upper.shape[:2], rows, upper.shape[3])
    whole[:, :, : upper.shape[2]].copy_(upper)
    whole[:, :, upper.shape[2] :].copy_(lower)
    return whole


LINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "permute": lambda x: mixed(x.permute(3, 0, 2, 1)).permute(1, 3, 2, 0),
    "transpose": lambda x: mixed(x.transpose(2, 3)).transpose(-1, -2),
    "movedim": lambda x: mixed(x.movedim(3, 1)).movedim(1, -1),
    "select": lambda x: x.select(3, 1).unsqueeze(3).expand_as(x),
    "slice with a step": lambda x: x[:, :, 1:6:2, ::3],
    "slice from a negative start": lambda x: x[:, :, -3:, -100:2],
    "split": lambda x: torch.cat(x.split(2, dim=2)[::-1], dim=2),
    "unbind": lambda x: torch.stack(x.unbind(2)[1:4], dim=2),
    "cat": lambda x: torch.cat([x[:, :, :2], mixed(x), x[:, :, 3:]], dim=2),
    "cat of nothing": lambda x: torch.cat([x.new_empty(0), x], dim=2),
    "stack": lambda x: torch.stack([x, mixed(x)], dim=2).flatten(2, 3),
    "merge and split evenly": lambda x: x.reshape(1, 1, 3, 2, 5).sum(3),
    "space to channels": lambda x: x.reshape(1, 3, 2, 5).sum(2, keepdim=True),
    "repeat": lambda x: mixed(x.repeat(1, 1, 2, 3)),
    "expand": lambda x: mixed(x.mean(2, keepdim=True).expand(2, 1, 4, 5)),
    "flip": lambda x: mixed(x.flip(2, -1)),
    "roll": lambda x: mixed(x.roll((1, -2), (2, 3))),
    "copy": lambda x: mixed(x).clone().contiguous() + x.detach(),
    "copy of a repeated value": lambda x: torch.zeros_like(x).copy_(x.sum(2, keepdim=True)),
    "fill": lambda x: x.clone().zero_() + x[:, :, :1],
    "where": lambda x: torch.where(
        torch.arange(30, device=x.device).view(6, 5) % 2 > 0, mixed(x), x[..., :1]
    ),
    "broadcast": lambda x: mixed(x) * 2 + x[:, :, 1:2] + x[0, 0, 0],
    "mean": lambda x: x.mean((1, 3), keepdim=True) + x,
    "sum of negative axes": lambda x: mixed(x).sum(-2).unsqueeze(2),
    "linear": lambda x: functional.linear(x, torch.ones(4, 5).to(x), torch.ones(4).to(x)),
    "matmul": lambda x: mixed(x) @ torch.ones(5, 2).to(x),
    "matmul with itself": lambda x: x.mT[..., :5, :] @ mixed(x),
}


@pytest.mark.parametrize("name", LINEAR)
def test_it_looks_where_the_gradient_is(name: str) -> None:
    assert_looks_where_the_gradient_is(LINEAR[name], (6, 5))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: into(x[:, :, 1:3], x[:, :, :4]),
        lambda x: mixed(x.flatten(2).unflatten(2, (10, 3))).reshape(x.shape),
        lambda x: mixed(x).reshape(1, 1, 2, 15).roll(1, 2).reshape(x.shape),
        lambda x: x.roll(3),
    ],
)
def test_no_voxel_is_missed_where_axes_are_torn_or_memory_is_shared(
    function: Callable[[Tensor], Tensor],
) -> None:
    assert_looks_where_the_gradient_is(function, (6, 5), at_least=True)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.amax(2, keepdim=True) + x,
        lambda x: x.max(2, keepdim=True).values + x,
        lambda x: mixed(x).max(3).values.unsqueeze(3),
        lambda x: x.softmax(2),
        lambda x: x.log_softmax(-1),
        lambda x: x.logsumexp(3, keepdim=True),
        lambda x: x.std(2, keepdim=True),
        lambda x: torch.var_mean(x, 3, keepdim=True)[1],
        lambda x: functional.relu(x - 0.5),
        lambda x: torch.maximum(x, mixed(x)),
    ],
)
def test_it_looks_at_whatever_changes_it(function: Callable[[Tensor], Tensor]) -> None:
    assert_looks_where_poking_shows(function, (6, 5))


@BRIEF
@given(
    size=st.tuples(st.integers(4, 7), st.integers(4, 7)),
    pads=st.tuples(*[st.integers(-2, 3)] * 4),
    mode=st.sampled_from(["constant", "replicate", "reflect"]),
)
def test_padding(size: tuple[int, int], pads: tuple[int, ...], mode: str) -> None:
    if mode == "constant":
        assume(size[0] + pads[2] + pads[3] > 0 < size[1] + pads[0] + pads[1])
        assert_looks_where_the_gradient_is(lambda x: functional.pad(x, pads), size)
    else:
        widths = tuple(map(abs, pads))
        assert_looks_where_the_gradient_is(lambda x: functional.pad(x, widths, mode), size)
        assert_looks_where_the_gradient_is(
            lambda x: functional.pad(x[..., 0], widths[:2], mode).unsqueeze(3).repeat(1, 1, 1, 4),
            size,
        )


@BRIEF
@given(data=st.data())
def test_slices(data: st.DataObject) -> None:
    steps = st.integers(1, 4)
    cuts = [
        slice(data.draw(st.integers(-9, 5)), data.draw(st.integers(6, 9)), data.draw(steps))
        for _ in range(2)
    ]
    assume(all(range(n)[cut] for n, cut in zip((6, 7), cuts, strict=True)))
    assert_looks_where_the_gradient_is(lambda x: x[:, :, cuts[0], cuts[1]], (6, 7))


@BRIEF
@given(scale=st.integers(1, 3), size=st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_channels_and_space_are_exchanged(scale: int, size: tuple[int, int]) -> None:
    fine = (size[0] * scale, size[1] * scale)
    assert_looks_where_the_gradient_is(
        lambda x: functional.pixel_shuffle(x, scale), size, channels=2 * scale**2
    )
    assert_looks_where_the_gradient_is(lambda x: functional.pixel_unshuffle(x, scale), fine, 2)
    assert_looks_where_the_gradient_is(lambda x: functional.channel_shuffle(x, scale), size, 6)


def test_groups_look_only_at_their_own_channels() -> None:
    def function(x: Tensor) -> Tensor:
        first = functional.pad(x[:, :1], (0, 0, 0, 3))[:, :, 3:]
        both = torch.cat([first, x[:, 1:]], dim=1)
        taps = torch.ones(2, 1, 1, 1).to(x)
        return functional.conv2d(both, taps, groups=2)[:, 1:]

    assert_looks_where_the_gradient_is(function, (6, 5), channels=2)


def test_nothing_is_seen_of_what_does_not_count() -> None:
    traced = trace(Function(lambda x: torch.ones_like(x)), 1, (4, 4))
    assert not seen(traced, 0, range(4)).any()


@pytest.mark.parametrize("function", [lambda x: x.sort(2).values, lambda x: x.cumsum(2)])
def test_an_unknown_operation_sees_everything(function: Callable[[Tensor], Tensor]) -> None:
    found = seen(trace(Function(function), 1, (4, 4)), 0, range(4))
    np.testing.assert_array_equal(found, np.ones((4, 4), dtype=bool))
