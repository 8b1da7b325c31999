"""Predicted peaks of memory against measured ones, and what a prediction leaves alone."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from medseg.analysis.audit import INSIDE, audit
from medseg.analysis.audit_document import markdown
from medseg.analysis.memory import network_peak_bytes, peak_memory_bytes, predicted_memory
from medseg.errors import ConfigError
from medseg.hardware import computes_in_bf16
from medseg.models.description import build_network

from ..models.networks import preset, unet
from ..pairwise import pairwise_cells
from .functions import Function

SIZES = {2: (96, 128), 3: (24, 32, 24)}


def assert_predicted(network: nn.Module, size: Sequence[int], *, batch: int, **how: bool) -> None:
    measured = network_peak_bytes(network, (batch, 1, *size), **how)
    predicted = predicted_memory(network, 1, size, batch=batch, **how)
    assert predicted.peak == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    "cell",
    pairwise_cells(
        {
            "option": ["unet", "resenc_unet", "monai_dynunet"],
            "dims": [2, 3],
            "batch": [1, 2],
            "training": [True, False],
        }
    ),
    ids=str,
)
def test_the_peak_in_full_precision_is_within_a_tenth(cell: dict[str, Any]) -> None:
    option, dims = cell.pop("option"), cell.pop("dims")
    assert_predicted(build_network(preset(option, dims)), SIZES[dims], **cell, bf16=False)


@pytest.mark.skipif(
    not computes_in_bf16(torch.device("cpu")),
    reason="torch computes bf16 in fp32 on this processor",
)
@pytest.mark.parametrize(
    ("option", "batch", "dims", "training"),
    [
        ("unet", 1, 2, True),
        ("unet", 1, 3, False),
        ("resenc_unet", 2, 3, True),
        ("mednext", 1, 2, True),
        ("vnet", 2, 2, True),
        ("attention_unet", 1, 3, True),
    ],
)
def test_the_peak_in_half_precision_is_within_a_tenth(
    option: str, batch: int, dims: int, training: bool
) -> None:
    assert_predicted(
        build_network(preset(option, dims)), SIZES[dims], batch=batch, training=training, bf16=True
    )


BLOCKS = {
    "depthwise": {"conv": {"name": "blocks.conv.DepthwiseSeparable"}},
    "dilated": {"conv": {"name": "blocks.conv.Dilated"}},
    "pooled": {"downsample": {"name": "blocks.downsample.MaxPool"}},
    "interpolated": {"upsample": {"name": "blocks.upsample.Interpolate"}},
    "shuffled": {"upsample": {"name": "blocks.upsample.PixelShuffle"}},
    "residual": {"unit": {"name": "blocks.unit.Residual"}, "skip": {"name": "blocks.skip.Add"}},
    "nested": {"decoder": "nested"},
}


@pytest.mark.parametrize("name", BLOCKS)
def test_the_peak_of_swapped_operators_is_within_a_tenth(name: str) -> None:
    network = build_network(unet(2, channels=(16, 32, 64), **BLOCKS[name]))
    assert_predicted(network, (128, 160), batch=2, training=True, bf16=False)


def test_a_chain_holds_input_and_output_of_one_layer_at_a_time() -> None:
    chain = nn.Sequential(*(nn.Sigmoid() for _ in range(4)))
    size = 100 * 4
    inference = predicted_memory(chain, 1, (10, 10))
    assert (inference.peak, inference.kept) == (2 * size, 0)
    network = nn.Sequential(nn.Conv2d(1, 1, 1), *chain)
    training = predicted_memory(network, 1, (10, 10), training=True)
    assert training.kept == 4 * size + 4  # what every sigmoid made, and the loss
    assert (training.weights, training.gradients) == (8, 8)


def test_weights_and_gradients_are_those_of_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    network[0].weight.requires_grad_(False)
    inference = predicted_memory(network, 1, (8, 8))
    assert inference.gradients == 0
    assert inference.weights == 4 * (18 + 2 + 2 + 2 + 2 + 2) + 8  # and a counter of batches
    assert predicted_memory(network, 1, (8, 8), training=True).gradients == 4 * (2 + 2 + 2)


def test_a_prediction_takes_no_memory() -> None:
    network = build_network(unet(3, channels=(4, 8), strides=(1, 2))).eval()
    huge = predicted_memory(network, 1, (1024,) * 3, training=True)
    assert huge.peak > 2**36
    assert all(type(value) is Tensor for value in network.state_dict().values())


def test_the_peak_grows_with_the_batch_and_shrinks_with_half_precision() -> None:
    network = build_network(unet(2, channels=(16, 32), strides=(1, 2)))
    one, two = (predicted_memory(network, 1, (64, 64), batch=b, training=True) for b in (2, 4))
    half = predicted_memory(network, 1, (64, 64), batch=2, training=True, bf16=True)
    assert two.kept == pytest.approx(2 * one.kept, rel=0.01)
    assert half.kept < one.kept
    assert half.peak < one.peak < two.peak


def test_a_size_that_does_not_pass_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"size=\[8, 8\] with 2 channels does not pass Conv2d"):
        predicted_memory(nn.Conv2d(1, 1, 3), 2, (8, 8))


def test_what_was_freed_before_does_not_count() -> None:
    def call() -> None:
        first = torch.empty(4 * 2**20, dtype=torch.uint8)
        second = torch.empty(2 * 2**20, dtype=torch.uint8)
        del first
        third = torch.empty(3 * 2**20, dtype=torch.uint8)
        del second, third

    assert peak_memory_bytes(call, torch.device("cpu")) == 6 * 2**20


def test_temporaries_inside_an_operation_count() -> None:
    x = torch.ones(2**20, dtype=torch.float32)

    def call() -> None:
        (x + 1).mul(2).sum()

    assert peak_memory_bytes(call, torch.device("cpu")) == pytest.approx(8 * 2**20, rel=0.01)


class Attention(nn.Module):
    """Every voxel of an image attends to all others."""

    def __init__(self, kind: str):
        super().__init__()
        self.layer = {
            "fused": nn.Identity(),
            "whole": nn.MultiheadAttention(8, 2, batch_first=True),
            "encoder layer": nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        }[kind]
        self.kind, self.scale = kind, nn.Parameter(torch.ones(8, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = (x * self.scale).flatten(2).transpose(1, 2)
        if self.kind == "fused":
            heads = tokens.unflatten(2, (2, 4)).transpose(1, 2)
            made = functional.scaled_dot_product_attention(heads, heads, heads)
            made = made.transpose(1, 2).flatten(2)
        elif self.kind == "whole":
            made = self.layer(tokens, tokens, tokens, need_weights=False)[0]
        else:
            made = self.layer(tokens)
        return made.transpose(1, 2).unflatten(2, x.shape[2:])


@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
@pytest.mark.parametrize("kind", ["fused", "whole", "encoder layer"])
@pytest.mark.parametrize("size", [(8, 16), (32, 32)], ids=str)
def test_what_attention_takes_inside_is_in_the_peak(
    size: tuple[int, int], kind: str, training: bool
) -> None:
    how: Any = {"training": training, "bf16": False}
    network = Attention(kind)
    predicted = predicted_memory(network, 1, size, **how)
    assert predicted.peak == pytest.approx(
        network_peak_bytes(network, (1, 1, *size), **how), rel=0.05
    )
    assert not predicted.unseen


def test_a_peak_is_a_lower_bound_where_an_operation_is_named() -> None:
    network = nn.Sequential(conv(1, 2), Function(lambda x: torch.fft.fft2(x).real))
    result = audit(network, (1, 1, 16, 16))
    memory = result.memory["inference"]["fp32"]
    measured = network_peak_bytes(network, (1, 1, 16, 16), training=False, bf16=False)
    assert memory.unseen
    assert memory.tensors <= measured
    assert {INSIDE + name for name in memory.unseen} <= result.not_known.keys()
    assert result.plain()["memory"]["inference"]["fp32"]["unseen"] == memory.unseen
    assert "at least" in markdown(result)


def test_a_squeezed_image_is_not_taken_for_one_with_channels_last() -> None:
    """A convolution of one voxel, as of squeeze and excitation."""
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(64, 256, 1), nn.Conv2d(256, 64, 1))
    how: Any = {"training": False, "bf16": False}
    measured = network_peak_bytes(network, (1, 64, 4, 4), **how)
    assert predicted_memory(network, 64, (4, 4), **how).peak <= 2 * measured


def _moved(x: Tensor) -> Tensor:
    return x.transpose(2, 3)


KINDS: dict[str, tuple[Callable[[], nn.Module], Sequence[int]]] = {
    "views of weights": (
        lambda: Calls(lambda x, a, b: b(a(x.flatten(2))), nn.Linear(256, 256), nn.Linear(256, 256)),
        (16, 16),
    ),
    "linear of tokens": (
        lambda: Calls(lambda x, a, b: b(a(x).flatten(2).mT), conv(1, 8), nn.Linear(8, 64)),
        (16, 16),
    ),
    "recurrence": (
        lambda: Calls(lambda x, a, b: b(a(x)[0].permute(1, 2, 0))[0], conv(1, 4), nn.GRU(4, 4)),
        (16, 16),
    ),
    "interpolated, small": (
        lambda: nn.Sequential(conv(1, 4), nn.Upsample(scale_factor=2, mode="bilinear")),
        (24, 32),
    ),
    "interpolated, corners aligned": (
        lambda: nn.Sequential(
            conv(1, 4), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        ),
        (32, 32),
    ),
    "channels last by a normalisation": (
        lambda: Calls(
            lambda x, a, b, c: c(b(a(x).movedim(1, -1)).movedim(-1, 1)),
            conv(1, 4),
            nn.LayerNorm(4),
            conv(4, 4),
        ),
        (32, 32),
    ),
    "transposed of tokens": (
        lambda: Calls(
            lambda x, a, b: b(a(x).flatten(2).mT.mul(2).mT.unflatten(2, x.shape[2:])),
            conv(1, 8),
            nn.ConvTranspose2d(8, 2, 4, 4),
        ),
        (16, 16),
    ),
    "depthwise": (lambda: nn.Sequential(conv(1, 24), conv(24, 24, 3, 24)), (32, 32)),
    "depthwise, large kernel": (lambda: nn.Sequential(conv(1, 24), conv(24, 24, 7, 24)), (32, 32)),
    "few channels": (lambda: nn.Sequential(conv(1, 8), conv(8, 4), conv(4, 12)), (64, 64)),
    "grouped": (lambda: nn.Sequential(conv(1, 24), conv(24, 12, 3, 4)), (32, 32)),
    "a mask": (lambda: Calls(lambda x, a: a(x) * (a(x) > 0), conv(1, 8)), (32, 32)),
    "rolled": (lambda: Calls(lambda x, a: a(x).roll((1, 1), (2, 3)), conv(1, 16)), (32, 32)),
    "softmax of moved axes": (
        lambda: Calls(lambda x, a: _moved(a(x)).softmax(1), conv(1, 16)),
        (32, 32),
    ),
    "pooled, of moved axes": (
        lambda: Calls(lambda x, a: functional.max_pool2d(_moved(a(x)), 2), conv(1, 16)),
        (32, 32),
    ),
    "batch normalisation": (
        lambda: nn.Sequential(conv(1, 16), nn.BatchNorm2d(16), nn.Sigmoid(), nn.BatchNorm2d(16)),
        (32, 32),
    ),
}


class Calls(nn.Module):
    """A function of an image and of layers."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def conv(channels: int, out: int, kernel: int = 3, groups: int = 1) -> nn.Module:
    return nn.Conv2d(channels, out, kernel, padding=kernel // 2, groups=groups)


@pytest.mark.skipif(
    torch.backends.cpu.get_cpu_capability() != "AVX2",
    reason="rules of grouped and transposed convolutions were measured with AVX2",
)
@pytest.mark.parametrize("training", [False, True], ids=["prediction", "training"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_peak_holds_what_kernels_copy_inside(kind: str, training: bool) -> None:
    build, size = KINDS[kind]
    how: Any = {"training": training, "bf16": False}
    network = build()
    measured = network_peak_bytes(network, (1, 1, *size), **how)
    assert predicted_memory(network, 1, size, **how).peak == pytest.approx(measured, rel=0.05)


@given(
    dims=st.sampled_from([2, 3]),
    channels=st.tuples(*[st.sampled_from([1, 3, 8, 12, 16, 32])] * 2),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.sampled_from([1, 2]),
    dilation=st.sampled_from([1, 2, 4]),
    transposed=st.booleans(),
    batch=st.sampled_from([1, 3]),
    is_last=st.booleans(),
    training=st.booleans(),
    data=st.data(),
)
@settings(max_examples=40, deadline=None)
def test_tensors_alone_are_never_more_than_measured(
    dims, channels, kernel, stride, dilation, transposed, batch, is_last, training, data
) -> None:
    first, second = channels
    groups = data.draw(
        st.sampled_from([g for g in (1, 2, 4, first) if not (first % g or second % g)])
    )
    make = getattr(nn, f"Conv{'Transpose' if transposed else ''}{dims}d")
    layer = make(first, second, kernel, stride, kernel // 2, groups=groups, dilation=dilation)
    layout = {2: torch.channels_last, 3: torch.channels_last_3d}[dims]

    scale = make(first, first, 1, groups=first)  # the layer's input needs a gradient then
    laid_out = Function(lambda x: x.contiguous(memory_format=layout) if is_last else x)
    network = nn.Sequential(scale, laid_out, layer)
    size = (20, 22, 19)[:dims]
    how: Any = {"training": training, "bf16": False}
    measured = network_peak_bytes(network, (batch, first, *size), **how)
    assert predicted_memory(network, first, size, batch=batch, **how).tensors <= measured
