"""The U-Net: an encoder, a decoder and a head."""

import math
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks.ndim import conv_nd
from medseg.models.decoder import Decoder
from medseg.models.encoder import Encoder


@runtime_checkable
class MultiscaleNetwork(Protocol):
    """A network that can be trained with deep supervision."""

    def multiscale_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of every head, finest first."""
        ...


class UNet(nn.Module):
    """Image `(N, in_channels, *S)` → logits `(N, num_classes, *S)`, for any size S.

    Sizes that the strides do not divide are padded with zeros at the far end, and the logits
    cropped again: the grid's origin, and with it the lattice of the strides, stays in place.

    Args:
        encoder: The descending half.
        decoder: The ascending half.
        num_classes: Classes, background included.
        deep_supervision: Heads on the coarser decoder stages too, for `multiscale_logits`.

    Reference: Ronneberger, Fischer & Brox 2015, "U-Net", figure 1.
    """

    def __init__(
        self,
        *,
        encoder: Encoder,
        decoder: Decoder,
        num_classes: int,
        deep_supervision: bool = False,
    ):
        super().__init__()
        if tuple(encoder.channels[:-1]) != decoder.channels:
            raise ValueError(
                f"decoder channels={decoder.channels} must mirror the encoder's "
                f"{encoder.channels[:-1]}"
            )
        if encoder.strides != decoder.strides:
            raise ValueError(
                f"decoder strides={decoder.strides} must mirror the encoder's {encoder.strides}"
            )
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes} must be at least 2, background included")
        self.encoder = encoder
        self.decoder = decoder
        self.total_stride = tuple(math.prod(steps) for steps in zip(*decoder.strides, strict=True))
        levels = len(decoder.channels) if deep_supervision else 1
        head = conv_nd(len(self.total_stride))
        self.heads = nn.ModuleList(head(c, num_classes, 1) for c in decoder.channels[:levels])

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, num_classes, *S)`."""
        features = self.decoder(self.encoder(self._pad(image)))
        return _crop(self.heads[0](features[0]), image.shape[2:])

    def multiscale_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of every head, finest first, on the grids of their decoder stages.

        Raises:
            ValueError: the strides do not divide the image, so that the grids do not nest.
        """
        if any(n % step for n, step in zip(image.shape[2:], self.total_stride, strict=True)):
            nearest = [
                -(-n // s) * s for n, s in zip(image.shape[2:], self.total_stride, strict=True)
            ]
            raise ValueError(
                f"patch_size={list(image.shape[2:])} must be a multiple of the total stride "
                f"{list(self.total_stride)} for deep supervision; choose {nearest}"
            )
        features = self.decoder(self.encoder(image))
        return [head(f) for head, f in zip(self.heads, features, strict=False)]

    def _pad(self, image: Tensor) -> Tensor:
        missing = [
            -size % step for size, step in zip(image.shape[2:], self.total_stride, strict=True)
        ]
        if not any(missing):
            return image
        return functional.pad(image, [side for m in reversed(missing) for side in (0, m)])


def _crop(logits: Tensor, size: Sequence[int]) -> Tensor:
    for axis, length in enumerate(size, start=2):
        logits = logits.narrow(axis, 0, length)
    return logits
