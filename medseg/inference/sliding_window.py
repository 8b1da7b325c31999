"""A network applied to a grid that is larger than its patch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn

WINDOWS_PER_BATCH = 4

Observer = Callable[[Tensor, Tensor, list[tuple[int, ...]]], None]
"""Windows `(n, channels, *window)`, their logits `(n, classes, *window)`, and where each starts on
the grid; below 0 where the grid is shorter than the window and was padded."""


def slide(
    network: nn.Module,
    image: Tensor,
    patch_size: Sequence[int],
    *,
    overlap: float,
    windows_per_batch: int = WINDOWS_PER_BATCH,
    compute_on: torch.device | None = None,
    observe: Observer | None = None,
) -> Tensor:
    """Logits of a whole grid, windows blended with Gaussian weights.

    Args:
        network: Image → logits. A 2-D one is applied to slices along the grid's last axis.
        image: `(1, channels, *grid)`, three axes; the result is gathered on its device.
        patch_size: The window in voxels; its length is the network's dimension.
        overlap: Share of a window that it has in common with the next, in [0, 1).
        windows_per_batch: Windows that are computed at once.
        compute_on: Device of the network, if not the image's.
        observe: Is shown every window before it is blended with others.

    Returns:
        `(1, classes, *grid)`, float32.
    """
    flat = len(patch_size) == 2
    window = [*patch_size, 1] if flat else list(patch_size)

    padded = _padding_before(image.shape[2:], window)

    def predict(windows: Tensor, places: list[tuple[slice, ...]], *_: Any) -> Tensor:
        seen = windows.squeeze(-1) if flat else windows
        logits = network(seen).float()
        if observe is not None:
            starts = [_starts(place, padded) for place in places]
            observe(seen, logits, starts)
        return logits.unsqueeze(-1) if flat else logits

    return sliding_window_inference(  # type: ignore[return-value]
        image,
        window,
        windows_per_batch,
        predict,
        overlap=overlap,
        mode="gaussian",
        sw_device=compute_on or image.device,
        device=image.device,
        with_coord=True,
    )


def windows_along(size: int, window: int, overlap: float) -> int:
    """How many windows of `slide` lie along one axis.

    Args:
        size: Voxels of the grid.
        window: Voxels of the window.
        overlap: Share of a window that it has in common with the next, in [0, 1).

    >>> windows_along(10, 4, 0.5), windows_along(2, 4, 0.5)
    (4, 1)
    """
    step = max(1, int(window * (1 - overlap)))
    return 1 + max(0, -(-(size - window) // step))


def _padding_before(size: Sequence[int], window: Sequence[int]) -> list[int]:
    return [max(0, w - n) // 2 for n, w in zip(size, window, strict=True)]


def _starts(place: tuple[slice, ...], padded: Sequence[int]) -> tuple[int, ...]:
    # the first two slices are of the batch and the channels
    return tuple(part.start - p for part, p in zip(place[2:], padded, strict=True))
