"""What a trace tells of a network, and that it leaves it alone."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.analysis.trace import WRITE_THROUGH_VIEW, abstracted, trace
from medseg.analysis.vocabulary import MAKERS
from medseg.errors import ConfigError
from medseg.models.description import build_network

from ..models.networks import unet
from .functions import Function, seen


def two_convs() -> nn.Sequential:
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)), nn.Conv2d(4, 2, 1)
    )


def test_every_operation_names_its_layer_and_every_layer_its_tensors() -> None:
    traced = trace(two_convs(), 1, (5, 6))
    computed = [step for step in traced.steps if step.operator not in MAKERS]
    named = [(step.operator, step.layer) for step in computed]
    assert named == [
        ("convolution", "0.0"),
        ("native_batch_norm", "0.1"),
        ("convolution", "1"),
    ]
    shapes = {call.layer: (call.inputs[0].shape, call.outputs[0].shape) for call in traced.calls}
    image, wide, logits = (1, 1, 5, 6), (1, 4, 5, 6), (1, 2, 5, 6)
    assert shapes == {
        "0.0": (image, wide),
        "0.1": (wide, wide),
        "0": (image, wide),
        "1": (wide, logits),
        "": (image, logits),
    }
    assert list(shapes) == ["0.0", "0.1", "0", "1", ""]
    ends = {call.layer: traced.steps[call.last - 1].operator for call in traced.calls}
    assert ends["0.0"] == ends["1"] == ends[""] == "convolution"
    assert ends["0.1"] == ends["0"] != "convolution"
    assert (traced.image.shape, traced.logits.shape) == (image, logits)


def test_every_step_reads_what_others_made_or_the_network_holds() -> None:
    traced = trace(build_network(unet(2)), 1, (8, 8))
    made = {traced.image.index}
    for step in traced.steps:
        assert all(value.is_weight or value.index in made for value in step.inputs)
        made |= {value.index for value in step.outputs}
    assert traced.logits.index in made


def test_weights_are_parameters_and_buffers() -> None:
    traced = trace(two_convs(), 1, (5, 6))
    weights = {
        value.index: value.bytes
        for step in traced.steps
        for value in step.inputs
        if value.is_weight
    }
    network = two_convs()
    held = (*network.parameters(), *network.buffers())
    used = [t for t in held if t.dtype != torch.int64]  # batches are counted in training alone
    assert sorted(weights.values()) == sorted(t.numel() * t.element_size() for t in used)
    assert not traced.image.is_weight
    assert traced.image.bytes == 5 * 6 * 4


def test_a_shared_layer_is_called_twice_and_has_one_weight() -> None:
    conv = nn.Conv2d(2, 2, 1)
    traced = trace(Function(lambda x: x), 1, (4, 4))
    assert not traced.steps
    traced = trace(nn.Sequential(conv, nn.ReLU(), conv), 2, (4, 4))
    first, _, second = traced.steps
    assert first.arguments["weight"] == second.arguments["weight"]
    assert first.arguments["input"] != second.arguments["input"]
    assert [call.layer for call in traced.calls].count("0") == 2


def test_a_parameter_of_two_layers_is_one_value() -> None:
    one, other = nn.Conv2d(2, 2, 1, bias=False), nn.Conv2d(2, 2, 1, bias=False)
    other.weight = one.weight
    first, second = trace(nn.Sequential(one, other), 2, (4, 4)).steps
    assert first.arguments["weight"] == second.arguments["weight"]
    assert (first.layer, second.layer) == ("0", "1")
    copied = abstracted(nn.Sequential(one, other))
    assert copied[0].weight is copied[1].weight


@pytest.mark.parametrize(
    ("network", "channels", "size", "words"),
    [
        (two_convs(), 2, (5, 6), r"size=\[5, 6\] with 2 channels does not pass 0\.0 \(Conv2d\)"),
        (nn.Conv2d(1, 1, 7), 1, (3, 9), r"does not pass Conv2d: .*[Kk]ernel size"),
        (Function(lambda x: 1 / 0), 1, (3, 9), "does not pass Function: division by zero"),
        (Function(lambda x: [None, "no"]), 1, (3, 9), r"Function returned no tensor.*'no'"),
    ],
)
def test_a_failure_names_size_layer_and_reason(
    network: nn.Module, channels: int, size: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        trace(network, channels, size)


@pytest.mark.parametrize(
    "wrap", [lambda y: y, lambda y: [y, y[:, :1]], lambda y: (y,), lambda y: {"out": y, "aux": [y]}]
)
def test_the_logits_are_the_first_tensor_given_back(wrap: Callable[[Tensor], Any]) -> None:
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 3, 1)

        def forward(self, x: Tensor) -> Any:
            return wrap(self.conv(x))

    traced = trace(Wrapped(), 1, (4, 5))
    assert traced.logits.shape == (1, 3, 4, 5)
    assert traced.logits == traced.steps[0].outputs[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.relu_(),
        lambda x: (x + 1).add_(x[:, :, :1]),
    ],
)
def test_an_overwritten_tensor_has_a_new_number(function: Callable[[Tensor], Tensor]) -> None:
    traced = trace(Function(function), 1, (4, 4))
    last = traced.steps[-1]
    assert last.operator.endswith("_")
    assert last.outputs[0] == traced.logits
    assert last.inputs[0].index != traced.logits.index
    assert last.inputs[0].shape == traced.logits.shape


def written_in_two_views(x: Tensor) -> Tensor:
    whole = x.new_zeros(x.shape)
    upper, lower = whole[:, :, :2], whole[:, :, 2:]
    upper.copy_(x[:, :, 2:])
    lower.add_(1)
    return whole


def written_below_an_older_view(x: Tensor) -> Tensor:
    whole = torch.zeros_like(x)
    view = whole[:, :, :2]
    whole.add_(x)
    return view


@pytest.mark.parametrize("function", [written_in_two_views, written_below_an_older_view])
def test_a_write_through_shared_memory_is_a_step_of_its_own(
    function: Callable[[Tensor], Tensor],
) -> None:
    traced = trace(Function(function), 1, (4, 4))
    assert WRITE_THROUGH_VIEW in [step.operator for step in traced.steps]
    assert seen(traced, 0, [0])[0].any()


def test_reading_a_view_that_was_overwritten_itself_is_no_such_step() -> None:
    traced = trace(Function(lambda x: (x + 1).flatten(1).relu_().view_as(x)), 1, (4, 4))
    assert WRITE_THROUGH_VIEW not in [step.operator for step in traced.steps]


def test_what_cannot_be_copied_is_refused_in_words() -> None:
    network = nn.Conv2d(1, 1, 3)
    network.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"Conv2d cannot be copied .*lock.*keep files, locks"):
        trace(network, 1, (8, 8))
