"""Random variation of training patches: which numbers are drawn.

A variation is drawn where a patch is cut, from seed, epoch and index in the epoch, and carried out
where the network is (`medseg.data.variation`): what a sample gets depends neither on the number of
loader processes nor on the batch it is in, and on the device up to rounding alone.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import Tensor

from medseg.data import variation
from medseg.data.preprocess import BODY_AXES
from medseg.data.variation import Variation

_THICK = 3.0  # times the smallest spacing; nnU-Net's threshold of anisotropy
_CONTROL_POINTS = 6  # of an elastic deformation along an axis
STEPS = ("noise", "smooth", "brightness", "contrast", "low_resolution", "inverted_gamma", "gamma")
"""What changes intensities, in order."""


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
        affine: Probability of a rotation, and as large a one of a change of size.
        rotation: Largest angle in degrees, in every plane; where slices are more than three times
            as thick as voxels are wide, in the slice alone.
        scale: What the patch shows, in its own lengths, at least and at most; one number s is
            1 − s to 1 + s.
        elastic: Probability of an elastic deformation.
        elastic_size: Largest displacement of its control points, as a share of the patch.
        noise: Probability of Gaussian noise (σ up to 0.1).
        smooth: Probability of Gaussian smoothing (σ from 0.5 to 1 voxel), for each channel.
        brightness: Probability of scaling the intensities by 0.75 to 1.25.
        contrast: Probability of scaling their distance to the mean by 0.75 to 1.25.
        low_resolution: Probability of half to all of the resolution, for each channel.
        gamma: Probability of a gamma curve (γ from 0.7 to 1.5).
        inverted_gamma: Probability of a gamma curve of the negative.
        ramp: Passes over the voxels of the training cases in which the share of patches that are
            varied at all rises from 0 to 1, since variation is worth most where the same voxels
            are seen again and again; 0: all are, from the first.

    Kinds, order and magnitudes follow Isensee et al. 2021 (nnU-Net), supplementary note 4; that
    variation grows, Tan & Le 2021 ("EfficientNetV2", section 4.2).
    """

    flip: float = 0.5
    flip_axes: Sequence[int | str] = ()
    side_pairs: Sequence[Sequence[int | str]] | None = None
    affine: float = 0.2
    rotation: float = 15.0
    scale: float | Sequence[float] = 0.2
    elastic: float = 0.0
    elastic_size: float = 0.05
    noise: float = 0.1
    smooth: float = 0.1
    brightness: float = 0.15
    contrast: float = 0.0
    low_resolution: float = 0.0
    gamma: float = 0.15
    inverted_gamma: float = 0.0
    ramp: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "affine", "elastic", *STEPS):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be a probability in [0, 1]")
        if not 0 <= self.ramp < math.inf:
            raise ValueError(f"ramp={self.ramp} must be a number of passes, 0 or more")
        if not 0 <= self.rotation <= 180:
            raise ValueError(f"rotation={self.rotation} must lie in [0, 180] degrees")
        if not 0 <= self.elastic_size <= 0.2:
            raise ValueError(f"elastic_size={self.elastic_size} must lie in [0, 0.2]")
        low, high = self.scales
        if not 0 < low <= 1 <= high:
            raise ValueError(f"scale={self.scale} must be two numbers around 1, or one below 1")
        if not all(axis in BODY_AXES or type(axis) is int for axis in self.flip_axes):
            raise ValueError(f"flip_axes={list(self.flip_axes)} must be of {', '.join(BODY_AXES)}")
        pairs = self.side_pairs or ()
        are_pairs = all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs)
        if not are_pairs or len({item for pair in pairs for item in pair}) < 2 * len(pairs):
            raise ValueError(
                f"side_pairs={self.side_pairs} must be pairs of classes, each in one pair, as in "
                "[[kidney_left, kidney_right]]"
            )

    @property
    def varies(self) -> bool:
        """Whether anything is on."""
        is_on = any(getattr(self, name) for name in ("affine", "elastic", *STEPS))
        return is_on or bool(self.flip and self.flip_axes)

    @property
    def scales(self) -> tuple[float, float]:
        """Smallest and largest length that a patch shows, in its own."""
        if isinstance(self.scale, Sequence):
            low, high = self.scale
            return low, high
        return 1 - self.scale, 1 + self.scale

    def draw(
        self,
        rng: np.random.Generator,
        *,
        patch_size: Sequence[int],
        spacing: Sequence[float],
        channels: int,
    ) -> Variation:
        """Draws the variation of one patch; axes and classes are numbers by now.

        As many numbers are drawn whatever the probabilities are, so that a step that is switched
        off leaves the others as they were.
        """
        place = self._matrix(rng, spacing), self._displacement(rng, patch_size, spacing)
        drawn = rng.random(len(patch_size))
        flips = [axis for axis in self.flip_axes if drawn[int(axis)] < self.flip]
        swapped = self.side_pairs if self.side_pairs and 0 in flips else ()
        return Variation(
            *place,
            flips=tuple(int(axis) for axis in flips),
            swapped=tuple((int(left), int(right)) for left, right in swapped),
            steps=tuple(self._steps(rng, spacing, channels)),
        )

    def _matrix(self, rng: np.random.Generator, spacing: Sequence[float]) -> np.ndarray | None:
        """Offset from the patch's middle → offset at which the case is read, in voxels."""
        turns, resized = rng.random(2) < self.affine
        factor = _around_one(rng, *self.scales)
        planes = list(itertools.combinations(range(len(spacing)), 2))
        angles = np.deg2rad(rng.uniform(-self.rotation, self.rotation, len(planes)))
        if not turns:
            return factor * np.eye(len(spacing)) if resized else None
        matrix = np.eye(len(spacing))
        thick = _thick(spacing)
        for (a, b), angle in zip(planes, angles, strict=True):
            if a not in thick and b not in thick:
                turn = np.eye(len(spacing))
                turn[a, a] = turn[b, b] = np.cos(angle)
                turn[b, a] = np.sin(angle)
                turn[a, b] = -turn[b, a]
                matrix = turn @ matrix
        mm = np.asarray(spacing, float)
        return matrix * mm / mm[:, None] * (factor if resized else 1.0)

    def _displacement(
        self, rng: np.random.Generator, patch_size: Sequence[int], spacing: Sequence[float]
    ) -> np.ndarray | None:
        """Displacements `(axes, *control points)` in voxels; none across thick slices."""
        dims = len(patch_size)
        shape = [dims, *[_CONTROL_POINTS] * dims]
        happens = rng.random() < self.elastic
        seed = rng.integers(2**63)
        if not happens:
            return None
        own = np.random.default_rng(seed).uniform(-1, 1, shape)
        size = self.elastic_size * np.asarray(patch_size, float)
        size[_thick(spacing)] = 0
        return own * size.reshape(-1, *[1] * dims)

    def _steps(
        self, rng: np.random.Generator, spacing: Sequence[float], channels: int
    ) -> Iterator[Callable[[Tensor], Tensor]]:
        dims = len(spacing)
        each = dict(zip(STEPS, rng.random((len(STEPS), channels)).tolist(), strict=True))
        sigma, seed = 0.1 * rng.random(), int(rng.integers(2**63))
        sigmas = rng.uniform(0.5, 1, (channels, dims)).tolist()
        brighter = rng.uniform(0.75, 1.25, channels).tolist()
        shares = rng.uniform(0.5, 1, (channels, dims))
        shares[:, _thick(spacing)] = 1
        steeper, curves, inverted = (
            [_around_one(rng, *ends) for _ in range(channels)]
            for ends in ((0.75, 1.25), (0.7, 1.5), (0.7, 1.5))
        )
        if each["noise"][0] < self.noise:
            yield partial(variation.add_noise, sigma=sigma, seed=seed)
        if chosen := {c: sigmas[c] for c in range(channels) if each["smooth"][c] < self.smooth}:
            yield partial(variation.smooth_gaussian, sigmas=chosen)
        if each["brightness"][0] < self.brightness:
            yield partial(variation.change_brightness, factors=brighter)
        if each["contrast"][0] < self.contrast:
            yield partial(variation.change_contrast, factors=steeper)
        lower = [c for c in range(channels) if each["low_resolution"][c] < self.low_resolution]
        if coarser := {c: shares[c].tolist() for c in lower}:
            yield partial(variation.lower_resolution, shares=coarser)
        if each["inverted_gamma"][0] < self.inverted_gamma:
            yield partial(variation.change_gamma, exponents=inverted, inverted=True)
        if each["gamma"][0] < self.gamma:
            yield partial(variation.change_gamma, exponents=curves)


def _around_one(rng: np.random.Generator, low: float, high: float) -> float:
    """Below and above 1 alike often, wherever the ends are."""
    below, smaller, larger = rng.random(3).tolist()
    return low + (1 - low) * smaller if below < 0.5 else 1 + (high - 1) * larger


def _thick(spacing: Sequence[float]) -> list[int]:
    """Axes across slices that are much thicker than voxels are wide."""
    return [axis for axis, mm in enumerate(spacing) if mm > _THICK * min(spacing)]
