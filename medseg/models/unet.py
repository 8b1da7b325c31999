"""The U-Net: an encoder, a decoder and a head."""

import math
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from medseg.layers.context import CHANNELS_LAST, runs_on_cpu
from medseg.layers.ndim import conv_nd
from medseg.models.decoder import FeatureDecoder
from medseg.models.encoder import Encoder
from medseg.models.padding import crop_far_end, missing_to, pad_far_end


@runtime_checkable
class MultiscaleNetwork(Protocol):
    """A network that can be trained with deep supervision."""

    total_stride: tuple[int, ...]  # of its coarsest stage, and the period of its upsamplings

    def multiscale_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of every head, finest first."""
        ...


class UNet(nn.Module):
    """Image `(N, in_channels, *S)` → logits `(N, num_classes, *S)`, for any size S.

    Sizes that the strides do not divide are padded with zeros at the far end, and the logits
    cropped again: the grid's origin, and with it the stride grid, stays in place. On a
    CPU all tensors have their channels last in memory, the faster layout there for every block.

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
        decoder: FeatureDecoder,
        num_classes: int,
        deep_supervision: bool = False,
    ):
        super().__init__()
        if encoder.channels != decoder.encoder_channels:
            raise ValueError(
                f"decoder channels={decoder.encoder_channels} must mirror the encoder's "
                f"{encoder.channels}"
            )
        if encoder.strides != decoder.strides:
            raise ValueError(
                f"decoder strides={decoder.strides} must mirror the encoder's {encoder.strides}"
            )
        if num_classes < 2:
            raise ValueError(f"num_classes={num_classes} must be at least 2, background included")
        _check_unpooling(encoder, decoder)
        self.encoder = encoder
        self.decoder = decoder
        self.total_stride = tuple(math.prod(steps) for steps in zip(*decoder.strides, strict=True))
        levels = len(decoder.channels) if deep_supervision else 1
        head = conv_nd(len(self.total_stride))
        self.heads = nn.ModuleList(head(c, num_classes, 1) for c in decoder.channels[:levels])

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, num_classes, *S)`."""
        return crop_far_end(self.heads[0](self._finest(image)), image.shape[2:])

    def features(self, image: Tensor) -> Tensor:
        """What the head classifies voxel by voxel, `(N, channels, *S)`."""
        return crop_far_end(self._finest(image), image.shape[2:])

    def multiscale_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of every head, finest first, on the grids of their decoder stages.

        Raises:
            ValueError: the strides do not divide the image, so that the grids do not nest.
        """
        fitting = [n + m for n, m in zip(image.shape[2:], self._missing(image), strict=True)]
        if fitting != list(image.shape[2:]):
            raise ValueError(
                f"patch_size={list(image.shape[2:])} must be a multiple of the total stride "
                f"{list(self.total_stride)} for deep supervision; choose {fitting}"
            )
        features = self.decoder(self.encoder(_laid_out(image)))
        return [head(f) for head, f in zip(self.heads, features, strict=False)]

    def _finest(self, image: Tensor) -> Tensor:
        return self.decoder(self.encoder(_laid_out(pad_far_end(image, self._missing(image)))))[0]

    def _missing(self, image: Tensor) -> list[int]:
        return missing_to(self.total_stride, image)


def _laid_out(image: Tensor) -> Tensor:
    if not runs_on_cpu(image):
        return image
    # an image of one channel is in both layouts at once; a clone has the strides of one
    return image.clone(memory_format=CHANNELS_LAST[image.ndim])


def _check_unpooling(encoder: Encoder, decoder: FeatureDecoder) -> None:
    for index in decoder.unpools:
        downsample = encoder.downsamples[index]
        if not isinstance(downsample, nn.MaxPool2d | nn.MaxPool3d):
            raise ValueError(
                f"upsample=MaxUnpool puts values back where the encoder's max pooling found "
                f"them, but the downsampling into stage {index} is {type(downsample).__name__}; "
                "choose downsample=max_pool"
            )
