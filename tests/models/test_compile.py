"""Networks through torch.export and torch.compile."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medseg.models.description import build_network

from .networks import block, unet

SIZE = (7, 6, 9)  # padded


def separable(dims: int = 3) -> nn.Module:
    """Depthwise-separable convolutions and instance norms: both have layers of their own."""
    description = unet(
        dims,
        conv=block("conv.DepthwiseSeparable"),
        unit=block("unit.Plain", norm=block("norm.Instance")),
    )
    return build_network(description)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_exported_network_gives_the_same_logits(dims: int) -> None:
    network = separable(dims).eval()
    image = torch.randn(1, 1, *SIZE[:dims])
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image))
    other = torch.randn_like(image)
    torch.testing.assert_close(exported(other), network(other))


@pytest.mark.parametrize("decoder", ["nested", "full_scale"])
def test_the_other_decoders_can_be_exported(decoder: str) -> None:
    upsample = block("upsample.Interpolate")
    network = build_network(unet(decoder=decoder, upsample=upsample)).eval()
    image = torch.randn(1, 1, 13, 18)
    exported = torch.export.export(network, (image,)).module()
    torch.testing.assert_close(exported(image), network(image))


# torch's tracer makes an instance of every autograd.Function that it meets
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function:DeprecationWarning")
def test_a_compiled_network_gives_the_same_logits_and_gradients() -> None:
    network = separable().train()
    image = torch.randn(2, 1, *SIZE)
    weight = torch.randn(2, 3, *SIZE)

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
