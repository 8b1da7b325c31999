"""What a dataset is, whatever form it lies in: cases of files, classes, folds; no voxels."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from medseg.data.splits import Split
from medseg.errors import DataError
from medseg.labelling import Labelling


@dataclass(frozen=True, kw_only=True)
class Scan:
    """One image, as files.

    Attributes:
        case_id: unique in its dataset.
        images: one file per channel in channel order, or one with all of them. A DICOM series is
            named by any of its files.
        spacing: mm per axis of its files' arrays, where the dataset says what they do not.
    """

    case_id: str
    images: tuple[Path, ...]
    spacing: tuple[float, ...] | None = None

    @property
    def image(self) -> Path:
        """The first of its image files, by which it is named."""
        return self.images[0]


@dataclass(frozen=True, kw_only=True)
class Case(Scan):
    """One image and its label map, as files.

    Attributes:
        label: its label map: a file, or a folder of masks that are named after their classes.
        patient: whose image it is; None: each case has its own, or as `data.patient` says.
        fold: the fold that holds it out, where the dataset says.
        covariates: what else the dataset says of it, by name.
    """

    label: Path
    patient: str | None = None
    fold: int | None = None
    covariates: Mapping[str, str] = field(default_factory=dict)


class CaseFault(str):
    """A fault of some cases, without which their dataset can be used.

    Attributes:
        cases: their ids.
    """

    cases: tuple[str, ...]

    def __new__(cls, text: str, *cases: str) -> "CaseFault":
        """The fault of `cases` that `text` tells."""
        fault = super().__new__(cls, text)
        fault.cases = cases
        return fault


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """A folder's description; no voxel of an image has been read.

    Attributes:
        name: as the dataset says, else the folder's name.
        form: in which it lies, in words.
        folder: where it lies.
        modalities: one name per image channel, in channel order.
        classes: one name per foreground class, `classes[0]` has label value 1; or per region.
        regions: the label values of each region; empty where classes exclude each other.
        regions_class_order: the label value that is written for each region.
        cases: in the order of the dataset's own list, else of their names.
        label_values: label value of the files → class, or "ignore"; other values are classes as
            they are; None: all are. Where files name what they show, names stand for values.
        spatial_dims: 2 for pictures, 3 for volumes.
        folds: those that the dataset brings along, each a split.
        folds_from: where they are written down.
        faults: what must be put right before it can be used; a `CaseFault` where that is a
            matter of some cases, a `FoldFault` where it is one of the folds alone.
        notes: what is odd about the folder and no hindrance.
        licence: as the dataset says, else empty.
        reference: where the data come from, as the dataset says, else empty.
    """

    name: str
    form: str
    folder: Path
    modalities: tuple[str, ...]
    classes: tuple[str, ...]
    cases: tuple[Case, ...]
    regions: tuple[tuple[int, ...], ...] = ()
    regions_class_order: tuple[int, ...] = ()
    label_values: Mapping[int | str, int | str] | None = None
    spatial_dims: int = 3
    folds: tuple[Split, ...] = ()
    folds_from: str = ""
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    licence: str = ""
    reference: str = ""

    @property
    def in_channels(self) -> int:
        """Image channels: the number of modalities."""
        return len(self.modalities)

    @property
    def num_classes(self) -> int:
        """Outputs of a network: classes with the background, or regions."""
        return self.labelling.outputs

    @property
    def labelling(self) -> Labelling:
        """What its label values mean."""
        return Labelling(self.classes, self.regions, self.regions_class_order)

    def with_regions(self, labelling: Labelling) -> "Dataset":
        """The same cases, with regions of its label values in place of its classes.

        Raises:
            DataError: it has other label values than the regions are made of.
        """
        if labelling.ignored != self.labelling.ignored:
            raise DataError(
                f"data.regions has the label values 1 to {labelling.ignored - 1}, and "
                f"{self.folder} has 1 to {self.labelling.ignored - 1} "
                f"({', '.join(self.labelling.value_names)}); let each be in a region, or map those "
                "that are in none to 0 with data.labels"
            )
        return replace(
            self,
            classes=labelling.names,
            regions=labelling.regions,
            regions_class_order=labelling.order,
        )
