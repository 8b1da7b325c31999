"""Training patches: where they are cut, and what they are varied by."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, Sampler, get_worker_info

from medseg.data.augmentation import Augmentation
from medseg.data.cache import PreparedCase
from medseg.data.variation import Variation

Samples = dict[str, list]


class EpochSampler(Sampler):
    """Yields `(epoch, index)`: all that a patch is drawn from, besides the seed.

    Args:
        batches: In an epoch.
        batch_size: Patches in a batch.
        share: Which patches of every batch are drawn; of one process, all.
        epoch: Tells how many epochs are done; asked whenever one begins.
    """

    def __init__(self, batches: int, batch_size: int, share: range, epoch: Callable[[], int]):
        self.batches = batches
        self.batch_size = batch_size
        self.share = share
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self.epoch()
        return (
            (epoch, batch * self.batch_size + place)
            for batch in range(self.batches)
            for place in self.share
        )

    def __len__(self) -> int:
        return self.batches * len(self.share)


class PatchDataset(Dataset):
    """One random patch per index in an epoch, and the variation that it is to get.

    The patch's centre lies on a foreground class, each of the case's equally likely, with
    probability `foreground_fraction`, else on the background; where the case has none of these,
    on the other. Cases are drawn with replacement.

    `patches[epoch, index]` is `{"image": (channels, *region), "label": (1, *region), "middle",
    "variation"}`: what the variation reads, and where in it the patch's middle is, in voxels.
    `varied` makes a batch of such.

    Args:
        cases: Prepared cases.
        patch_size: Size in voxels; in 2-D a slice is cut along the grid's last axis.
        foreground_fraction: In [0, 1].
        augmentation: Random variation, or None.
        per_epoch: Patches of an epoch.
        seed: Of everything that is drawn.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        patch_size: Sequence[int],
        foreground_fraction: float,
        augmentation: Augmentation | None,
        per_epoch: int,
        seed: int = 0,
    ):
        self.cases = list(cases)
        self.patch_size = tuple(patch_size)
        self.foreground_fraction = foreground_fraction
        self.augmentation = augmentation
        self.per_epoch = per_epoch
        self.seed = seed
        voxels = sum(math.prod(case.shape[1:]) for case in self.cases)
        self._a_pass = voxels / math.prod(self.patch_size)

    def __getitem__(self, sample: tuple[int, int]) -> dict[str, Any]:
        rng = np.random.default_rng([self.seed, *sample])
        case = self.cases[rng.integers(len(self.cases))]
        dims = len(self.patch_size)
        centre = np.unravel_index(self._voxel(rng, case), case.shape[1:])
        variation = Variation()
        if self.augmentation:
            drawn = self.augmentation.draw(
                rng,
                patch_size=self.patch_size,
                spacing=case.spacing[:dims],
                channels=case.shape[0],
            )
            # drawn last, so that the others are as they would be without a ramp
            if rng.random() < self._varied_share(*sample):
                variation = drawn
        size, grid = np.array(self.patch_size), np.array(case.shape[1 : dims + 1])
        start = np.clip(centre[:dims] - size // 2, 0, np.maximum(grid - size, 0))
        middle = start + (np.minimum(size, grid) - 1) / 2
        region = variation.region(middle.tolist(), self.patch_size, grid.tolist())
        if dims == 2:
            depth = int(centre[2])
            image, label = (
                part[..., 0] for part in case.region([*region, slice(depth, depth + 1)])
            )
        else:
            image, label = case.region(region)
        first = [along.start for along in region]
        lacking = np.maximum(size - grid, 0)
        return {
            "image": _padded(image, lacking),
            "label": _padded(label, lacking),
            "middle": np.where(lacking, (size - 1) / 2, middle - first).tolist(),
            "variation": variation,
        }

    @property
    def ramp_epochs(self) -> float:
        """Epochs until every patch is varied."""
        varied_by = self.augmentation
        ramp = varied_by.ramp if varied_by and varied_by.varies else 0.0
        return ramp * self._a_pass / self.per_epoch

    def _varied_share(self, epoch: int, index: int) -> float:
        end = self.ramp_epochs
        return min(1.0, (epoch + index / self.per_epoch) / end) if end else 1.0

    def _voxel(self, rng: np.random.Generator, case: PreparedCase) -> int:
        """Flat index of the voxel on which a patch is centred."""
        background, *foreground = every = range(len(case.counts))
        drawn = foreground if rng.random() < self.foreground_fraction else [background]
        present = [c for c in drawn if case.counts[c]] or [c for c in every if case.counts[c]]
        label = present[rng.integers(len(present))]
        return case.centre(label, int(rng.integers(case.counts[label])))


def as_lists(samples: Sequence[Mapping[str, Any]]) -> Samples:
    """A batch of samples whose regions differ in size."""
    if get_worker_info() is not None:
        # else a thread would do it later: where there is no room, it drops the batch and says so
        # on the terminal alone, and training waits for ever
        for sample in samples:
            for tensor in (sample["image"], sample["label"]):
                tensor.share_memory_()
    return {key: [sample[key] for sample in samples] for key in samples[0]}


def varied(samples: Mapping[str, Any], patch_size: Sequence[int]) -> dict[str, Tensor]:
    """Carries the variations of a batch out, where its tensors are.

    Returns:
        `{"image": (N, channels, *patch), "label": (N, 1, *patch)}`.
    """
    each = zip(*(samples[key] for key in ("variation", "image", "label", "middle")), strict=True)
    patches = [
        variation.apply(image, label, middle, patch_size)
        for variation, image, label, middle in each
    ]
    images, labels = zip(*patches, strict=True)
    return {"image": torch.stack(images), "label": torch.stack(labels)}


def central_patch(image: Tensor, patch_size: Sequence[int]) -> Tensor:
    """The middle `(channels, *patch_size)` of `(channels, *grid)`, zeros where the grid ends.

    Of a patch with two axes, the middle slice along the grid's third.
    """
    size = [*patch_size, *[1] * (image.ndim - 1 - len(patch_size))]
    for axis, length in enumerate(size, start=1):
        missing = max(0, length - image.shape[axis])
        image = functional.pad(image, [*[0] * (2 * (image.ndim - axis) - 1), missing])
        image = image.narrow(axis, (image.shape[axis] - length) // 2, length)
    return image.reshape(len(image), *patch_size)


def _padded(region: Tensor, lacking: np.ndarray) -> Tensor:
    """A region with zeros on both sides of the axes that lack voxels."""
    sides = [[int(n) // 2, int(n) - int(n) // 2] for n in lacking]
    if not lacking.any():
        return region
    return functional.pad(region, [n for pair in reversed(sides) for n in pair])
