"""Images of any size for networks that take only multiples."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks.sizes import Size, checked_size, per_axis


class Padded(nn.Module):
    """A network of another library under the contract of this one: any size goes in.

    Sizes that are no multiple are padded with zeros at the far end, and the logits cropped.

    Args:
        network: Image → logits of the same size.
        multiple: What sizes must be a multiple of, per axis or one number.
    """

    def __init__(self, *, network: nn.Module, multiple: Size):
        super().__init__()
        self.network = network
        self.multiple = checked_size("multiple", multiple)

    def forward(self, image: Tensor) -> Tensor:
        """Logits `(N, num_classes, *S)`."""
        multiple = per_axis("multiple", self.multiple, image.ndim - 2)
        padded = pad_far_end(image, missing_to(multiple, image))
        return crop_far_end(self.network(padded), image.shape[2:])


def missing_to(multiple: Sequence[int], image: Tensor) -> list[int]:
    """Voxels that each axis lacks to the next multiple."""
    return [-size % step for size, step in zip(image.shape[2:], multiple, strict=True)]


def pad_far_end(image: Tensor, voxels: Sequence[int]) -> Tensor:
    """The image with so many zeros after each axis."""
    if not any(voxels):
        return image
    return functional.pad(image, [side for count in reversed(voxels) for side in (0, count)])


def crop_far_end(logits: Tensor, size: Sequence[int]) -> Tensor:
    """The first `size` voxels of each axis."""
    for axis, length in enumerate(size, start=2):
        logits = logits.narrow(axis, 0, length)
    return logits
