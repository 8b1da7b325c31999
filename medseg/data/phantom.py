"""Synthetic cases whose truth is known: nested ellipsoids under a bias field and noise."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

from medseg.data.building import build_folder, write_case, write_description
from medseg.errors import ConfigError

ORIENTATIONS = ("RAS", "LPS", "PIR", "LAS", "SRA", "AIL")
_RULE = 1  # raise it whenever other files would be written
_SCANNER = 1  # NIfTI's code of coordinates in the scanner
_BIAS = 0.15


@dataclass(frozen=True, kw_only=True)
class Phantom:
    """A dataset of synthetic cases, the same to the byte for the same parameters.

    The cases are stored in different orientations, as scans from different sites are.

    Attributes:
        root: receives the folder Phantom-<hash of the parameters>.
        cases: how many, at least 2.
        shape: voxels along the three axes of the RAS grid, each at least 16.
        spacing: mm along the same axes.
        classes: foreground classes, each inside the one before.
        channels: image channels; every second one has the contrast reversed.
        noise: standard deviation; two neighbouring classes differ by 1 / classes.
        seed: of everything random.
    """

    root: Path | str
    cases: int = 8
    shape: Sequence[int] = (40, 44, 36)
    spacing: Sequence[float] = (1.0, 1.0, 1.5)
    classes: int = 2
    channels: int = 1
    noise: float = 0.05
    seed: int = 0

    def __post_init__(self):
        if self.cases < 2:
            raise ConfigError(f"cases={self.cases} must be at least 2: one to train, one to check")
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise ConfigError(f"shape={self.shape} must be three sizes of at least 16 voxels")
        if len(self.spacing) != 3 or min(self.spacing) <= 0:
            raise ConfigError(f"spacing={self.spacing} must be three positive lengths in mm")
        if not 1 <= self.classes <= 4:
            raise ConfigError(f"classes={self.classes} must be 1 to 4: more do not fit in a case")
        if self.channels < 1 or self.noise < 0 or self.seed < 0:
            raise ConfigError(
                f"channels={self.channels} must be at least 1, noise={self.noise} and "
                f"seed={self.seed} at least 0"
            )

    def prepare(self, *, may_write: bool = True) -> Path:
        """The folder of these parameters under `root`, written the first time.

        Args:
            may_write: whether a folder that is not there may be made.

        Raises:
            ResourceError: `root` cannot be written.
        """
        stamp = json.dumps({"rule": _RULE, "cases": self.cases, **self._parameters()})
        key = hashlib.sha256(stamp.encode()).hexdigest()[:8]
        target = Path(self.root).expanduser() / f"Phantom-{key}"
        return build_folder(target, stamp=stamp, build=self._build, may_write=may_write)

    def _parameters(self) -> dict[str, Any]:
        """The arguments of `phantom_case`, alike whether they came from YAML or from Python."""
        return {
            "shape": tuple(int(n) for n in self.shape),
            "spacing": tuple(float(mm) for mm in self.spacing),
            "classes": self.classes,
            "channels": self.channels,
            "noise": float(self.noise),
            "seed": self.seed,
        }

    def _build(self, folder: Path) -> None:
        case_ids = [f"phantom_{index:03d}" for index in range(self.cases)]
        affine = np.diag([*self.spacing, 1.0])
        affine[:3, 3] = -0.5 * np.multiply(self.shape, self.spacing)
        for index, case_id in enumerate(case_ids):
            image, label = phantom_case(index, **self._parameters())
            codes = ORIENTATIONS[index % len(ORIENTATIONS)]
            channels_last = image[0] if self.channels == 1 else np.moveaxis(image, 0, -1)
            write_case(
                folder,
                case_id,
                image=_stored(channels_last, affine, codes),
                label=_stored(label, affine, codes),
            )
        write_description(
            folder,
            name="Phantom",
            description="Synthetic nested ellipsoids with bias field and noise",
            reference="medseg.data.phantom",
            licence="CC0-1.0",
            modalities=[f"synthetic {channel}" for channel in range(self.channels)],
            classes=[f"ellipsoid {value}" for value in range(1, self.classes + 1)],
            case_ids=case_ids,
        )


def phantom_case(
    index: int,
    *,
    shape: Sequence[int] = (40, 44, 36),
    spacing: Sequence[float] = (1.0, 1.0, 1.5),
    classes: int = 2,
    channels: int = 1,
    noise: float = 0.05,
    seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
    """One case in memory, on the RAS grid; the arguments are those of `Phantom`.

    Returns:
        The image (channels, *shape), float32, about 0 to 1, and the label (*shape), uint8.

    Raises:
        ConfigError: the grid is too coarse to show every class.
    """
    random = np.random.default_rng([seed, index])
    label = _nested_ellipsoids(random, shape=shape, spacing=spacing, classes=classes)
    if len(np.unique(label)) <= classes:
        raise ConfigError(
            f"shape={tuple(shape)} at spacing={tuple(spacing)} is too coarse for {classes} nested "
            "classes; choose more voxels, a finer spacing or fewer classes"
        )
    means = label / classes
    image = [
        (means if channel % 2 == 0 else 1 - means)
        + _bias_field(random, shape)
        + noise * random.standard_normal(tuple(shape))
        for channel in range(channels)
    ]
    return np.stack(image).astype(np.float32), label


def _nested_ellipsoids(
    random: np.random.Generator,
    *,
    shape: Sequence[int],
    spacing: Sequence[float],
    classes: int,
) -> np.ndarray:
    """Labels of ellipsoids that lie wholly inside the volume and inside each other."""
    extent = np.multiply(shape, spacing)
    rotation, _ = np.linalg.qr(random.standard_normal((3, 3)))
    axes = rotation * (random.uniform(0.28, 0.42, 3) * extent.min())
    half_box = np.linalg.norm(axes, axis=1)  # mm
    centre = random.uniform(half_box, extent - half_box)
    grid = [(np.arange(n) + 0.5) * mm for n, mm in zip(shape, spacing, strict=True)]
    points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1)
    unit = (points - centre) @ np.linalg.inv(axes).T  # the outermost is now the unit ball

    label = np.zeros(tuple(shape), np.uint8)
    middle = np.zeros(3)
    for value in range(1, classes + 1):
        radius = 1 - (value - 1) / classes
        label[np.linalg.norm(unit - middle, axis=-1) <= radius] = value
        step = random.standard_normal(3)
        middle = middle + 0.5 / classes * random.uniform() * step / np.linalg.norm(step)
    return label


def _bias_field(random: np.random.Generator, shape: Sequence[int]) -> np.ndarray:
    """Half a wave across the volume, in a random direction: what a coil does to a scan."""
    grid = np.meshgrid(*(np.linspace(-0.5, 0.5, n) for n in shape), indexing="ij")
    direction = random.standard_normal(3)
    direction /= np.linalg.norm(direction)
    phase = random.uniform(0, 2 * np.pi)
    along = sum(axis * part for axis, part in zip(grid, direction, strict=True))
    return _BIAS * np.sin(np.pi * along + phase)


def _stored(volume: np.ndarray, affine: np.ndarray, codes: str) -> nib.Nifti1Image:
    """A RAS volume as another scanner would have stored it."""
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    turned = affine @ inv_ornt_aff(turn, volume.shape[:3])
    image = nib.Nifti1Image(apply_orientation(volume, turn), turned)
    image.set_sform(turned, _SCANNER)
    image.set_qform(turned, _SCANNER)
    image.header.set_xyzt_units("mm")
    return image
