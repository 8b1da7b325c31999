"""A network applied to a grid that is larger than its patch."""

from collections.abc import Sequence

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn


def slide(
    network: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    *,
    overlap: float,
    windows_per_batch: int = 4,
    compute_on: torch.device | None = None,
) -> Tensor:
    """Logits of a whole grid, windows blended with Gaussian weights.

    Args:
        network: Image → logits. A 2-D one is applied to slices along the grid's last axis.
        image: `(1, channels, *grid)`, three axes; the result is gathered on its device.
        patch_size: The window in voxels; its length is the network's dimension.
        overlap: Share of a window that it has in common with the next, in [0, 1).
        windows_per_batch: Windows that are computed at once.
        compute_on: Device of the network, if not the image's.

    Returns:
        `(1, classes, *grid)`, float32.
    """
    flat = len(patch_size) == 2
    window = [*patch_size, 1] if flat else list(patch_size)

    def predict(windows: Tensor) -> Tensor:
        logits = network(windows.squeeze(-1)).unsqueeze(-1) if flat else network(windows)
        return logits.float()

    return sliding_window_inference(  # type: ignore[return-value]
        image,
        window,
        windows_per_batch,
        predict,
        overlap=overlap,
        mode="gaussian",
        sw_device=compute_on or image.device,
        device=image.device,
    )
