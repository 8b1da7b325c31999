"""The last layer of a network, applied after windows are blended rather than before.

It is linear and sees one voxel at a time: the weighted mean of logits is the last layer of the
weighted mean of features. With more outputs than features that takes less memory and less time.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from medseg.inference.mirroring import Mirrored
from medseg.models.unet import UNet


@dataclass(frozen=True, kw_only=True)
class Head:
    """A convolution of one voxel.

    Args:
        weight: `(outputs, features)`.
        bias: `(outputs,)`.
    """

    weight: Tensor
    bias: Tensor

    @property
    def features(self) -> int:
        """Channels that it takes."""
        return self.weight.shape[1]

    @torch.no_grad()
    def __call__(self, features: Tensor) -> Tensor:
        """Features `(features, *S)` → logits `(outputs, *S)`, float32."""
        weight, bias = self.weight.to(features.device), self.bias.to(features.device)
        logits = torch.addmm(bias[:, None], weight, features.float().flatten(1))
        return logits.reshape(-1, *features.shape[1:])

    def of_windows(self, features: Tensor) -> Tensor:
        """The same for `(n, features, *S)`."""
        return torch.stack([self(each) for each in features])


class Features(nn.Module):
    """Image → what the last layer of a U-Net takes, on the image's grid."""

    def __init__(self, network: UNet):
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Image `(N, channels, *S)` → features `(N, features, *S)`."""
        return self.network.features(image)


def parted(network: nn.Module) -> tuple[nn.Module, Head | None]:
    """What is computed of each window, and what of their blend; a head only where it pays.

    Args:
        network: Image → logits, mirrored or not. Where classes change sides when it is mirrored,
            its logits are no function of the mean of its features, and it is left whole.
    """
    inner = network.network if isinstance(network, Mirrored) else network
    if not isinstance(inner, UNet) or (isinstance(network, Mirrored) and network.changes_sides):
        return network, None
    last = inner.heads[0]
    weight, bias = last.get_parameter("weight"), last.get_parameter("bias")
    outputs, features = weight.shape[:2]
    if outputs <= features:
        return network, None
    body: nn.Module = Features(inner)
    if isinstance(network, Mirrored):
        body = network.of(body)
    return body.eval(), Head(weight=weight.float().flatten(1), bias=bias.float())
