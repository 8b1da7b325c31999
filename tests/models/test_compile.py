"""Networks through torch.export and torch.compile."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.models.description import build_network

from .networks import DECODERS, block, unet

SIZES = {2: [(16, 16), (13, 18)], 3: [(8, 8, 8), (7, 6, 9)]}
CASES = [(dims, size) for dims, sizes in SIZES.items() for size in sizes]


def separable(dims: int, **options: Any) -> nn.Module:
    """Depthwise-separable convolutions and instance norms: both have layers of their own."""
    description = unet(
        dims,
        conv=block("conv.DepthwiseSeparable"),
        unit=block("unit.Plain", norm=block("norm.Instance")),
        **options,
    )
    return build_network(description)


@pytest.mark.parametrize(("dims", "size"), CASES)
def test_an_exported_network_gives_the_same_logits(dims: int, size: tuple[int, ...]) -> None:
    network = separable(dims).eval()
    image = torch.randn(1, 1, *size)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image))
    other = torch.randn_like(image)
    torch.testing.assert_close(exported(other), network(other))


@pytest.mark.parametrize("decoder", DECODERS)
def test_every_decoder_can_be_exported(decoder: str) -> None:
    upsample = block("upsample.Interpolate")
    network = build_network(unet(decoder=decoder, upsample=upsample)).eval()
    image = torch.randn(1, 1, 13, 18)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image))


# torch's tracer makes an instance of every autograd.Function that it meets
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function:DeprecationWarning")
@pytest.mark.parametrize(("dims", "size"), CASES)
def test_a_compiled_network_gives_the_same_logits_and_gradients(
    dims: int, size: tuple[int, ...]
) -> None:
    network = separable(dims).train()
    image = torch.randn(2, 1, *size)
    weight = torch.randn(2, 3, *size)

    def gradients(forward: Any) -> tuple[Tensor, list[Tensor]]:
        network.zero_grad()
        logits = forward(image)
        (logits * weight).sum().backward()
        return logits.detach(), [p.grad.clone() for p in network.parameters()]

    expected_logits, expected = gradients(network)
    torch._dynamo.reset()
    logits, got = gradients(torch.compile(network, backend="aot_eager"))
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
