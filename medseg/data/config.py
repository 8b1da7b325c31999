"""The data section of a configuration: every key with its meaning and what it must be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self, runtime_checkable

from medseg.build import build
from medseg.data.forms import form_named
from medseg.data.preprocess import Intensity, PerChannel, Preprocessing
from medseg.errors import ConfigError
from medseg.labelling import Labelling


@runtime_checkable
class DatasetSource(Protocol):
    """Makes sure that a dataset lies on disk, in a form of `medseg.data.forms`."""

    def prepare(self, *, may_write: bool = True) -> Path:
        """Obtains the dataset if it is missing and may be written; returns its folder."""
        ...


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The keys of `configs/data`; `medseg.experiment.schema` says what each must be.

    Args:
        source: Where the dataset comes from.
        in_channels: Channels of an image.
        num_classes: Outputs of the network: classes, background included, or regions.
        labels: Label value of the files → class, or "ignore": such voxels neither train nor count;
            None: values are classes.
        regions: Name of a region → its label values, after `labels`; regions may overlap. None:
            classes exclude each other.
        regions_class_order: The label value that is written for each region, later over earlier.
        form: Name of the form of the dataset; None: as it looks (`medseg.data.forms`).
        files: Patterns of the files of images and labels; None: as they look.
        intensity: Maps intensities to the range the network is trained on.
        patch_size: Training patch in voxels, one number per dimension of the network.
        name: Of the dataset; runs are named after it.
        root: Folder that holds or receives the dataset, for the source.
        download: Whether the source may download it.
        spatial_dims: 2 trains on slices, 3 on volumes.
        slice_axis: The RAS axis that is cut in 2-D (0 sagittal, 1 coronal, 2 axial).
        spacing: mm per RAS axis; None, or None for an axis, keeps each case's own.
        interpolation: Of images onto that spacing: cubic or linear.
        crop: "nonzero": volumes are cropped to what is not 0 in some channel; None: they are not.
        batch_size: Patches per batch.
        batches_per_epoch: Batches per epoch.
        foreground_fraction: Share of patches centred on foreground, in [0, 1].
        validation_fraction: Share of patients held out, in [0, 1); 0: all cases train.
        patient: Regular expression whose first group names the patient; None: case = patient.
        split_file: A split to use instead of drawing one.
        splits: How folds are drawn: "random", by patient, or "nnunet", as nnU-Net draws them.
        split_seed: Seed of the split: runs that differ in `seed` alone hold out the same cases.
        folds: Folds of a cross-validation, of which one is held out; None: a share is.
        fold: Which fold, from 0.
        cache: Folder of prepared cases.
        num_workers: Loader processes; "auto": none on a CPU, as many as a GPU needs.
    """

    source: DatasetSource
    in_channels: int
    num_classes: int
    intensity: Intensity
    patch_size: Sequence[int]
    name: str
    root: str
    download: bool
    spatial_dims: int
    slice_axis: int
    spacing: tuple[float | None, ...] | None
    batch_size: int
    batches_per_epoch: int
    foreground_fraction: float
    validation_fraction: float
    patient: str | None
    split_file: str | Path | None
    split_seed: int
    folds: int | None
    fold: int
    cache: str | Path
    num_workers: int | str
    labels: Mapping[Any, Any] | None = None
    regions: Mapping[str, Any] | None = None
    regions_class_order: Sequence[int] | None = None
    form: str | None = None
    files: Mapping[str, Any] | None = None
    splits: str = "random"
    interpolation: str = "linear"
    crop: str | None = None

    @classmethod
    def of(cls, section: Mapping[str, Any]) -> Self:
        """Builds source and intensity of a resolved `data` section.

        Raises:
            ConfigError: one of them is unknown or impossible.
        """
        config = cls(**build(section, "data"))
        if config.form is not None:
            form_named(config.form)
        mapped = config.intensity.channels if isinstance(config.intensity, PerChannel) else None
        if mapped is not None and len(mapped) != config.in_channels:
            raise ConfigError(
                f"data.intensity.channels has {len(mapped)} entries, and the images "
                f"{config.in_channels} channels; give one for each"
            )
        if config.labelling.outputs != config.num_classes:
            raise ConfigError(
                f"data.num_classes={config.num_classes}, and data.regions has "
                f"{config.labelling.outputs}, each an output; set "
                f"data.num_classes={config.labelling.outputs}"
            )
        return config

    @property
    def holds_out(self) -> bool:
        """Whether some cases are held out from training."""
        return bool(self.validation_fraction or self.folds is not None or self.split_file)

    @cached_property
    def labelling(self) -> Labelling:
        """What label values mean; classes have numbers here, and their names from the dataset.

        Raises:
            ConfigError: regions that cannot be.
        """
        if self.regions is None:
            if self.regions_class_order is not None:
                raise ConfigError("data.regions_class_order has no effect without data.regions")
            return Labelling(tuple(map(str, range(1, self.num_classes))))
        try:
            return Labelling.of_regions(self.regions, self.regions_class_order)
        except ValueError as error:
            raise ConfigError(f"data.{error}") from error

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The network's grid and intensities.

        Raises:
            ConfigError: a spacing, dimension or axis that is impossible.
        """
        try:
            return Preprocessing(
                intensity=self.intensity,
                spacing=self.spacing,
                spatial_dims=self.spatial_dims,
                slice_axis=self.slice_axis,
                label_values=self.labels,
                interpolation=self.interpolation,
                crop=self.crop,
            )
        except ValueError as error:
            raise ConfigError(f"data.{error}") from error
        except TypeError as error:
            raise ConfigError(f"data: {error}") from error

    @property
    def patch_axes(self) -> tuple[str, ...]:
        """Which way of the body each axis of a patch runs."""
        return self.preprocessing.axis_names[: self.spatial_dims]
