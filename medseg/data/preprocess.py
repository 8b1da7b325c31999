"""A volume on its own grid → a tensor on the network's grid, and back.

Deterministic and the same in training and prediction. The network's grid has RAS axes (the
slice axis moved to the end in 2-D) and the wanted spacing; re-orientation is an exact
permutation, so a re-oriented copy of a volume gives the re-oriented result to the bit.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from medseg.data.resampling import cubic, resample, strongest
from medseg.data.restore import Scores, restore
from medseg.errors import ConfigError
from medseg.labelling import Labelling
from medseg.volumes import Box, Volume, checked_label_values, from_ras, to_ras
from medseg.volumes.container import FLOAT32_BYTES, require_memory


@runtime_checkable
class Intensity(Protocol):
    """Maps intensities `(channels, *S)` to the range the network is trained on."""

    def __call__(self, image: Tensor) -> Tensor:
        """Maps one image."""
        ...


@dataclass(frozen=True, kw_only=True)
class ZScore:
    """Mean 0, variance 1 per case and channel; for MR, whose units are arbitrary.

    A constant channel becomes 0.

    Args:
        nonzero: Take mean and variance over voxels that are not 0, and leave the others 0.
    """

    nonzero: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Image `(channels, *S)` → the same, normalised."""
        return torch.stack([self._normalised(channel) for channel in image])

    def _normalised(self, channel: Tensor) -> Tensor:
        counted = channel[channel != 0] if self.nonzero else channel
        if not counted.numel():
            return channel
        # exact for a constant, whose rounding error by a float32 sum would be scaled up to 1
        deviation, mean = torch.std_mean(counted, correction=0)
        scaled = (channel - mean) / (deviation if deviation > 0 else 1)
        return torch.where(channel != 0, scaled, 0) if self.nonzero else scaled


@dataclass(frozen=True, kw_only=True)
class Window:
    """Clips to [low, high] and maps linearly to [-1, 1]; for CT, in Hounsfield units."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} must be smaller than high={self.high}")

    def __call__(self, image: Tensor) -> Tensor:
        """Image `(channels, *S)` → the same, in [-1, 1]."""
        # in this order, since another rounds to other values than those of earlier versions
        return ((image - self.low) / (self.high - self.low) * 2 - 1).clamp(-1, 1)


@dataclass(frozen=True, kw_only=True)
class MinMax:
    """Maps the values of each case and channel to [0, 1]; nnU-Net's rescale_to_0_1."""

    def __call__(self, image: Tensor) -> Tensor:
        """Image `(channels, *S)` → the same, in [0, 1]; a constant channel becomes 0."""
        raised = torch.stack([channel - channel.min() for channel in image])
        return torch.stack([channel / (channel.max() or 1) for channel in raised])


@dataclass(frozen=True, kw_only=True)
class Unchanged:
    """Leaves values as they are; nnU-Net's noNorm."""

    def __call__(self, image: Tensor) -> Tensor:
        """Image `(channels, *S)` → itself."""
        return image


@dataclass(frozen=True, kw_only=True)
class PerChannel:
    """Another mapping for each channel, as for CT beside PET.

    Args:
        channels: One mapping per channel, in their order.
    """

    channels: Sequence[Intensity]

    def __call__(self, image: Tensor) -> Tensor:
        """Image `(channels, *S)` → the same, each channel by its own mapping."""
        pairs = zip(self.channels, image, strict=True)
        return torch.cat([mapping(channel[None]) for mapping, channel in pairs])


BODY_AXES = ("left-right", "anterior-posterior", "head-foot")
"""The ways of the body along which the axes of a RAS volume run."""

INTERPOLATIONS = ("cubic", "linear")
CROPS = ("nonzero",)

_INTENSITIES: dict[str, type] = {
    each.__name__: each for each in (MinMax, PerChannel, Unchanged, Window, ZScore)
}


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The network's grid and intensities.

    Its methods take volumes that are cut to their `box`, where not said otherwise.

    Args:
        intensity: Intensity mapping.
        spacing: mm per RAS axis; None, or None for an axis, keeps each case's own.
        spatial_dims: 2 cuts volumes into slices, 3 takes them whole.
        slice_axis: The RAS axis that is cut in 2-D (0 sagittal, 1 coronal, 2 axial).
        label_values: Value in a label file → class, or "ignore"; other values keep their number.
        interpolation: Of images: cubic, or linear as scores always are.
        crop: `nonzero`: only the box around what is not 0 in some channel is seen, as by nnU-Net
            (Isensee et al. 2021); None: the whole volume.
    """

    intensity: Intensity
    spacing: tuple[float | None, ...] | None = None
    spatial_dims: int = 3
    slice_axis: int = 2
    label_values: Mapping[int | str, int | str] | None = None
    interpolation: str = "linear"  # where a description is older than the choice
    crop: str | None = None

    def __post_init__(self) -> None:
        if self.crop not in (None, *CROPS):
            raise ValueError(f"crop={self.crop} must be one of {', '.join(CROPS)}, or null")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation={self.interpolation} must be one of {', '.join(INTERPOLATIONS)}"
            )
        if self.spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims={self.spatial_dims} must be 2 (slices) or 3 (volumes)")
        if self.spacing is not None:
            object.__setattr__(self, "spacing", _checked_spacing(self.spacing))
        if self.slice_axis not in (0, 1, 2):
            raise ValueError(f"slice_axis={self.slice_axis} must be 0, 1 or 2 (2 is axial)")
        if self.label_values is not None:
            object.__setattr__(self, "label_values", checked_label_values(self.label_values))

    def describe(self) -> dict[str, Any]:
        """Plain data from which `from_description` makes the same preprocessing."""
        spacing = None if self.spacing is None else list(self.spacing)
        description = asdict(self) | {"intensity": _described(self.intensity), "spacing": spacing}
        if self.spacing is None or self.interpolation == "linear":
            del description["interpolation"]  # nothing is resampled, or as it always was
        if self.crop is None:
            del description["crop"]  # as the next, as medseg wrote it before there were any
        if self.label_values is None:
            del description["label_values"]
        else:
            named = {str(value): to for value, to in self.label_values.items()}
            description["label_values"] = named
        return description

    @classmethod
    def from_description(cls, description: dict[str, Any]) -> "Preprocessing":
        """Inverse of `describe`.

        Raises:
            ConfigError: an unknown intensity mapping or option.
        """
        try:
            options = dict(description)
            return cls(intensity=_intensity(options.pop("intensity")), **options)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"preprocessing {description} cannot be rebuilt: {error}") from error

    @property
    def axis_names(self) -> tuple[str, ...]:
        """Which way of the body each axis of the network's grid runs."""
        return self._axes(BODY_AXES)

    def box(self, image: Volume) -> Box:
        """What of an image, and of labels on its grid, is seen; it is not cut yet."""
        return Box.of_content(image.array) if self.crop else Box.all_of(image)

    def grid_spacing(self, volume: Volume) -> tuple[float, ...]:
        """Size of a voxel in mm, per axis of the network's grid for that volume."""
        own = self._axes(volume.geometry.ras_spacing)
        wanted = self._axes(self.spacing or (None,) * 3)
        return tuple(o if w is None else float(w) for o, w in zip(own, wanted, strict=True))

    def grid_shape(self, volume: Volume) -> tuple[int, ...]:
        """Voxels along each axis of the network's grid for that volume."""
        return self._grid_size(self.own_shape(volume), volume)

    def own_shape(self, volume: Volume) -> tuple[int, ...]:
        """Voxels of the volume along each axis of the network's grid."""
        return self._onto_axes(volume.array, volume).shape[-3:]

    def memory_bytes(self, volume: Volume) -> int:
        """What `image` takes beside the volume."""
        # re-oriented; then resampled, joined and normalised
        values = volume.array.size + 3 * len(volume.array) * math.prod(self.grid_shape(volume))
        if self.interpolation == "cubic":
            values += 2 * volume.array[0].size  # a channel, resampled along one axis or two
        return FLOAT32_BYTES * values

    def image(self, volume: Volume) -> Tensor:
        """Image `(channels, *grid)`, float32, normalised.

        Raises:
            DataError: the grid does not fit the memory that is free.
        """
        require_memory(volume.path, self.memory_bytes(volume))
        array = self._onto_axes(volume.array, volume)
        size = self._grid_size(array.shape[1:], volume)
        image = torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))
        resampled = cubic(image, size) if self.interpolation == "cubic" else resample(image, size)
        return self.intensity(resampled)

    def labels(self, volume: Volume) -> Tensor:
        """Labels `grid`, uint8, or int32 where the volume's are uint16."""
        array = self._onto_axes(volume.array, volume)
        dtype = np.uint8 if array.dtype == np.uint8 else np.int32  # torch lacks most of uint16
        labels = torch.from_numpy(np.ascontiguousarray(array, dtype=dtype))
        size = self._grid_size(array.shape, volume)
        if tuple(labels.shape) == size:
            return labels
        classes = int(labels.max()) + 1
        return strongest(((labels == c).float() for c in range(classes)), size).to(labels.dtype)

    def truth(self, labels: Volume, image: Volume, num_classes: int) -> Tensor | None:
        """Labels `grid` for measures that need each voxel's class; None where some are ignored.

        Args:
            labels: On the image's grid; neither is cut yet.
            image: Theirs.
            num_classes: Label values from here on are ignored.
        """
        found = self.labels(self.box(image).cut(labels))
        return None if (found >= num_classes).any() else found

    def restore_labels(self, scores: Tensor, volume: Volume, labelling: Labelling) -> np.ndarray:
        """Probabilities `(outputs, *grid)` → labels on the volume's own grid."""
        axis = self.ras_axes[0]
        parts = [self.scores_of(scores.float().unbind(1), volume, axis=axis)]
        found = restore(parts, ras_shape(volume), labelling=labelling, axis=axis)
        return from_ras(found.labels, volume.geometry.affine)

    def restore_scores(self, scores: Tensor, volume: Volume) -> np.ndarray:
        """Scores `(classes, *grid)` → the same on the volume's own grid, float32."""
        restored = resample(scores.float(), self.own_shape(volume)).numpy()
        return from_ras(self._from_axes(restored), volume.geometry.affine)

    @property
    def ras_axes(self) -> tuple[int, int, int]:
        """The axis of a RAS volume along which each axis of the network's grid runs."""
        first, second, third = self._axes((0, 1, 2))
        return first, second, third

    def scores_of(
        self, slices: Iterable[Tensor], volume: Volume, *, axis: int, share: float = 1.0
    ) -> Scores:
        """Slices of scores on the network's grid as `restore` takes them, along RAS axes.

        Args:
            slices: `(classes, *rest)`, `rest` being the grid without the axis that runs along
                `axis`.
            volume: The volume.
            axis: Of RAS.
            share: As of `Scores`.
        """
        shape = dict(zip(self.ras_axes, self.grid_shape(volume), strict=True))
        first, second = (a for a in self.ras_axes if a != axis)
        return Scores(
            grid=[shape[a] for a in range(3)],
            slices=slices if first < second else (slice_.mT for slice_ in slices),
            share=share,
        )

    def _grid_size(self, own: tuple[int, ...], volume: Volume) -> tuple[int, ...]:
        before = self._axes(volume.geometry.ras_spacing)
        after = self.grid_spacing(volume)
        return tuple(max(1, round(n * b / a)) for n, b, a in zip(own, before, after, strict=True))

    def _onto_axes(self, array: np.ndarray, volume: Volume) -> np.ndarray:
        ras = to_ras(array, volume.geometry.affine)
        return np.moveaxis(ras, self.slice_axis - 3, -1) if self.spatial_dims == 2 else ras

    def _from_axes(self, array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, -1, self.slice_axis - 3) if self.spatial_dims == 2 else array

    def _axes(self, values: tuple) -> tuple:
        if self.spatial_dims == 3:
            return tuple(values)
        rest = [v for axis, v in enumerate(values) if axis != self.slice_axis]
        return (*rest, values[self.slice_axis])


def _described(intensity: Intensity) -> dict[str, Any]:
    name = {"name": type(intensity).__name__}
    if isinstance(intensity, PerChannel):
        return name | {"channels": [_described(each) for each in intensity.channels]}
    return name | asdict(intensity)  # type: ignore[call-overload]


def _intensity(description: Mapping[str, Any]) -> Intensity:
    options = dict(description)
    kind = _INTENSITIES[options.pop("name")]
    if kind is PerChannel:
        return PerChannel(channels=[_intensity(each) for each in options["channels"]])
    return kind(**options)


def ras_shape(volume: Volume) -> tuple[int, ...]:
    """Voxels of a volume along right, anterior, superior."""
    return to_ras(volume.array, volume.geometry.affine).shape[-3:]


def _checked_spacing(spacing: Any) -> tuple[float | None, ...]:
    try:
        axes = tuple(None if mm is None else float(mm) for mm in spacing)
    except (TypeError, ValueError):
        axes = ()
    if len(axes) != 3 or any(mm is not None and not 0 < mm < math.inf for mm in axes):
        raise ValueError(
            f"spacing={spacing} must be three positive numbers in mm (null keeps an axis), or null"
        )
    return axes
