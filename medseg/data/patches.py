"""Training patches: where they are cut, how they are varied."""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
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

log = logging.getLogger(__name__)

_KEYS = ("image", "label")
_SIDES = {  # spelled out, these also count within a word
    "left": "right",
    "sinister": "dexter",
    "sinistra": "dextra",
    "sinistrum": "dextrum",
    "links": "rechts",
    "gauche": "droit",
}
_ABBREVIATED_SIDES = {"l": "r", "lh": "rh", "lt": "rt", "lft": "rgt", "sin": "dex"}


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random variation of a training patch; probabilities in [0, 1], 0 switches a step off.

    Args:
        flip: Probability of mirroring, for each axis of `flip_axes`.
        flip_axes: Axes of the patch that may be mirrored.
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
    flip_axes: Sequence[int] = ()
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

    def transforms(self, spatial_dims: int) -> list[Any]:
        """MONAI transforms of a `{"image", "label"}` sample, in order."""
        angle = np.deg2rad(self.rotation)
        rotations = 1 if spatial_dims == 2 else 3
        steps: list[tuple[float, Any]] = [
            (self.flip, RandFlipd(_KEYS, prob=self.flip, spatial_axis=axis))
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


def side_pairs(classes: Sequence[str]) -> list[tuple[str, str]]:
    """Finds the classes whose names differ in the side of the body alone.

    Case and punctuation do not matter; an abbreviation must stand alone.

    >>> side_pairs(["Kidney_Left", "kidney (right)", "liver", "l. lung", "R Lung", "L1", "R1"])
    [('Kidney_Left', 'kidney (right)'), ('l. lung', 'R Lung')]
    """
    plain = {_plain_name(name): name for name in classes}
    pairs = {}
    for left, right in (_SIDES | _ABBREVIATED_SIDES).items():
        pattern = left if left in _SIDES else rf"\b{left}\b"
        for name in plain:
            mirrored = re.sub(pattern, right, name)
            if mirrored != name and mirrored in plain:
                pairs[plain[name]] = plain[mirrored]
    return list(pairs.items())


def keep_sides(
    augmentation: Augmentation, classes: Sequence[str], left_right: int | None
) -> Augmentation:
    """Switches the left-right flip off where the mirrored labels would be wrong.

    Mirrored, the left kidney looks like the right one but keeps its label. Labels are not swapped
    instead: a heart's ventricles are a pair by name, and no mirror images of each other. A name
    with a side but without its counterpart, as in "left atrium", only gives a warning.

    Args:
        augmentation: As configured.
        classes: Names of the foreground classes.
        left_right: Axis of the patch that runs from left to right; None: none does.
    """
    if not augmentation.flip or left_right not in augmentation.flip_axes:
        return augmentation
    if pairs := side_pairs(classes):
        log.warning(
            "patches are not mirrored along axis %d, left and right: classes are named by side, "
            "%r and %r; to silence this, leave %d out of augmentation.flip_axes",
            left_right,
            *pairs[0],
            left_right,
        )
        axes = tuple(axis for axis in augmentation.flip_axes if axis != left_right)
        return replace(augmentation, flip_axes=axes)
    words = {*_SIDES, *_SIDES.values()}
    if sided := [name for name in classes if words & {*_plain_name(name).split()}]:
        log.warning(
            "patches are mirrored along axis %d, left and right, although a class is called %r; "
            "leave %d out of augmentation.flip_axes if the other side looks like it",
            left_right,
            sided[0],
            left_right,
        )
    return augmentation


def _plain_name(name: str) -> str:
    """Words in lower case, one space between them; `kidneyLeft` is two words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return " ".join(re.findall(r"[^\W_]+", words)).casefold()


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
