"""The memory that a prediction takes beside the volume and the weights, foreseen from shapes."""

import math
from collections.abc import Sequence

from medseg.data.preprocess import Preprocessing
from medseg.volumes import Volume
from medseg.volumes.container import FLOAT32_BYTES

_HEAP = 80 << 20  # freed bytes that glibc keeps, up to 64 MiB, and libraries
_SCATTERED = 1.25  # freed blocks lie between others; measured


def prediction_bytes(
    volume: Volume,
    preprocessing: Preprocessing,
    *,
    classes: int,
    scoring: int,
    probabilities: bool = False,
    held: int = 0,
) -> int:
    """Most bytes that are taken at once from the volume to its labels.

    Args:
        volume: The volume.
        preprocessing: Its way onto the network's grid and back.
        classes: Background included.
        scoring: Bytes of `scoring_bytes`.
        probabilities: Those of every class are wanted, too.
        held: Maps of all classes that exist besides.
    """
    shape = preprocessing.grid_shape(volume)
    channels, own, grid = len(volume.array), volume.array[0].size, math.prod(shape)
    is_resampled = shape != preprocessing.own_shape(volume)
    preparing = channels * own + (3 * channels + 1) * grid  # re-oriented; resampled, normalised
    restored = own * (5 if is_resampled else 3)  # two classes compared, which wins, and the labels
    if probabilities:
        restored = max(restored, own + is_resampled * 2 * classes * own)
    restoring = (channels + classes + held * classes) * grid + restored
    return max(FLOAT32_BYTES * max(preparing, restoring) + _HEAP, scoring)


def scoring_bytes(
    shape: Sequence[int],
    patch_size: Sequence[int],
    *,
    channels: int,
    classes: int,
    windows: int,
    activations: int,
    held: int = 0,
) -> int:
    """Most bytes that are taken at once while windows slide over an image, up to the softmax.

    Args:
        shape: Of the image, three axes.
        patch_size: Of a window, as many axes as the network has.
        channels: Of the image.
        classes: Background included.
        windows: That are computed at once.
        activations: Bytes that the network takes for them.
        held: Maps of all classes that exist besides.
    """
    window = (*patch_size, 1)[:3]
    grid = math.prod(shape)
    padded = math.prod(max(sizes) for sizes in zip(shape, window, strict=True))
    image = channels * (grid + (padded if padded > grid else 0))
    sums = (classes + 1) * padded  # of scores and of the windows' weights
    tiles = windows * (channels + classes) * math.prod(window)
    sliding = FLOAT32_BYTES * (image + sums + tiles) + round(_SCATTERED * activations)
    softmax = FLOAT32_BYTES * (image + classes * (padded + grid))
    return max(sliding, softmax) + FLOAT32_BYTES * held * classes * grid + _HEAP
