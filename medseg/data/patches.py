"""Training patches: where they are cut, how they are varied."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.data.meta_obj import get_track_meta, set_track_meta
from monai.transforms.compose import Compose
from monai.transforms.croppad.dictionary import RandCropByLabelClassesd, SpatialPadd
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandFlipd
from monai.transforms.transform import Randomizable, Transform
from monai.transforms.utility.dictionary import SqueezeDimd
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from medseg.data.cache import PreparedCase
from medseg.data.preprocess import BODY_AXES

_KEYS = ("image", "label")


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random variation of a training patch; probabilities in [0, 1], 0 switches a step off.

    Args:
        flip: Probability of mirroring, for each axis of `flip_axes`.
        flip_axes: Ways of the body that may be mirrored: `left-right`, `anterior-posterior`,
            `head-foot`; one that runs across the slices of a 2-D network is not. A number is an
            axis of the patch.
        side_pairs: Pairs of classes, by name or number, that are swapped where left and right
            are. None: nothing is swapped, and left and right are not mirrored where classes are
            named by side.
        affine: Probability of rotation and scaling.
        rotation: Largest angle in degrees, about every axis.
        scale: Largest relative change of size.
        noise: Probability of Gaussian noise (σ up to 0.1).
        smooth: Probability of Gaussian smoothing (σ from 0.5 to 1 voxel).
        brightness: Probability of scaling the intensities by 0.75 to 1.25.
        contrast: Probability of a gamma curve (γ from 0.7 to 1.5).

    Kinds and magnitudes follow Isensee et al. 2021 (nnU-Net), supplementary note 4.
    """

    flip: float = 0.5
    flip_axes: Sequence[int | str] = ()
    side_pairs: Sequence[Sequence[int | str]] | None = None
    affine: float = 0.2
    rotation: float = 15.0
    scale: float = 0.2
    noise: float = 0.1
    smooth: float = 0.1
    brightness: float = 0.15
    contrast: float = 0.15

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "noise", "smooth", "brightness", "contrast"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a probability in [0, 1]")

        if not all(axis in BODY_AXES or type(axis) is int for axis in self.flip_axes):
            raise ValueError(f"flip_axes={list(self.flip_axes)} must be of {', '.join(BODY_AXES)}")
        pairs = self.side_pairs or ()
        are_pairs = all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
        if not are_pairs or len({item for pair in pairs for item in pair}) < 2 * len(pairs):
            raise ValueError(
                f"side_pairs={self.side_pairs} must be pairs of classes, each in one pair, as in "
                "[[kidney_left, kidney_right]]"
            )

    def transforms(self, spatial_dims: int) -> list[Any]:
        """MONAI transforms of a `{"image", "label"}` sample, in order.

        Axes and classes are numbers by now (`medseg.data.sides.resolve_flips`).
        """
        angle = np.deg2rad(self.rotation)
        rotations = 1 if spatial_dims == 2 else 3
        steps: list[tuple[float, Any]] = [
            (self.flip, _Mirror(axis, self.flip, self.side_pairs or () if axis == 0 else ()))
            for axis in self.flip_axes
        ]
        steps += [
            (
                self.affine,
                RandAffined(
                    _KEYS,
                    prob=self.affine,
                    rotate_range=[angle] * rotations,
                    scale_range=[self.scale] * spatial_dims,
                    mode=("bilinear", "nearest"),
                    padding_mode="border",
                ),
            ),
            (self.noise, RandGaussianNoised("image", prob=self.noise, std=0.1)),
            (
                self.smooth,
                RandGaussianSmoothd("image", (0.5, 1.0), (0.5, 1.0), (0.5, 1.0), prob=self.smooth),
            ),
            (self.brightness, RandScaleIntensityd("image", factors=0.25, prob=self.brightness)),
            (
                self.contrast,
                RandAdjustContrastd(
                    "image", prob=self.contrast, gamma=(0.7, 1.5), retain_stats=True
                ),
            ),
        ]
        return [transform for probability, transform in steps if probability > 0]


class _Mirror(RandFlipd):
    """Mirrors image and label along an axis, and swaps classes where it does.

    Args:
        axis: Of the patch.
        probability: In [0, 1].
        pairs: Numbers of the classes that are swapped.
    """

    def __init__(self, axis: Any, probability: float, pairs: Sequence[Sequence[Any]]):
        super().__init__(_KEYS, prob=probability, spatial_axis=axis)
        self.pairs = pairs

    def __call__(self, data: Any, lazy: bool | None = None) -> dict:
        mirrored: dict[Any, Tensor] = super().__call__(data, lazy)
        if self._do_transform and self.pairs:
            label = mirrored["label"]
            swapped = label.clone()
            for left, right in self.pairs:
                swapped[label == left], swapped[label == right] = right, left
            mirrored["label"] = swapped
        return mirrored


class PatchDataset(Dataset):
    """One random patch of a case per item: `{"image": (C, *patch), "label": (1, *patch)}`.

    The patch's centre lies on a foreground class, each of the case's equally likely, with
    probability `foreground_fraction`, else on the background; where the case has none of these,
    on the other.

    Args:
        cases: Prepared cases.
        patch_size: Size in voxels; in 2-D a slice is cut along the grid's last axis.
        foreground_fraction: In [0, 1].
        augmentation: Random variation, or None.
    """

    def __init__(
        self,
        cases: Sequence[PreparedCase],
        *,
        patch_size: Sequence[int],
        foreground_fraction: float,
        augmentation: Augmentation | None,
    ):
        self.cases = list(cases)
        self.indices = [case.class_indices() for case in self.cases]
        flat = len(patch_size) == 2
        size = [*patch_size, 1] if flat else list(patch_size)
        self.transform = Compose(
            [
                _CentreClasses(foreground_fraction),
                RandCropByLabelClassesd(
                    _KEYS,
                    label_key="label",
                    spatial_size=size,
                    indices_key="indices",
                    allow_smaller=True,
                    warn=False,
                ),
                *([SqueezeDimd(_KEYS, dim=-1)] if flat else []),
                SpatialPadd(_KEYS, spatial_size=list(patch_size)),
                *(augmentation.transforms(len(patch_size)) if augmentation else []),
            ]
        )

    def seed(self, seed: int) -> None:
        """Restarts the random numbers of cropping and augmentation."""
        self.transform.set_random_state(seed)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        case = self.cases[index]
        sample = {"image": case.image, "label": case.label, "indices": self.indices[index]}
        with _plain_tensors():
            patch: Any = self.transform(sample)[0]
        return {key: patch[key] for key in _KEYS}


class _CentreClasses(Randomizable, Transform):
    """Leaves, of the indices per class, those of the classes on which a patch may be centred."""

    def __init__(self, foreground_fraction: float):
        self.foreground_fraction = foreground_fraction

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        background, *foreground = sample["indices"]
        drawn = foreground if self.R.random() < self.foreground_fraction else [background]
        present = [flat for flat in drawn if len(flat)]
        return sample | {"indices": present or [flat for flat in sample["indices"] if len(flat)]}


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """MONAI's transforms on plain tensors: the affine, not needed, takes most of their time."""
    former = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(former)


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
