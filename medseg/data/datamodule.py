"""Cases → batches, for Lightning."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import pytorch_lightning as pl
import torch
from monai.data.utils import worker_init_fn
from torch.utils.data import DataLoader, Dataset, RandomSampler

from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.folder import Case, read_dataset
from medseg.data.folder import Dataset as CaseDataset
from medseg.data.patches import Augmentation, PatchDataset, keep_sides
from medseg.data.preprocess import Preprocessing
from medseg.data.splits import Split, check, fold_of_cases, split_cases
from medseg.errors import ConfigError, DataError

log = logging.getLogger(__name__)


@runtime_checkable
class DatasetSource(Protocol):
    """Makes sure that a dataset lies on disk in Decathlon form."""

    def prepare(self, *, may_write: bool = True) -> Path:
        """Obtains the dataset if need be and if it may be written; returns its folder."""
        ...


class SegmentationDataModule(pl.LightningDataModule):
    """Batches of random patches for training, whole volumes one by one for validation.

    An epoch is a fixed number of batches, cases drawn with replacement, so that arms trained on
    the same data see equally many patches.

    Args:
        source: Where the dataset comes from.
        preprocessing: The network's grid and intensities.
        augmentation: Random variation of training patches, or None.
        in_channels: Channels of an image.
        num_classes: Classes, background included.
        patch_size: Training patch in voxels; its length is the network's dimension.
        batch_size: Patches per batch.
        batches_per_epoch: Batches per epoch.
        foreground_fraction: Share of patches centred on foreground, in [0, 1].
        validation_fraction: Share of patients held out, in (0, 1).
        patient: Regular expression whose first group names the patient; None: case = patient.
        split_file: A split to use instead of drawing one.
        split_seed: Seed of the split: runs that differ in `seed` alone hold out the same cases.
        folds: Folds of a cross-validation, of which one is held out; None: a share is.
        fold: Which fold, from 0.
        cache: Folder of prepared cases.
        num_workers: Loader processes.
        seed: Seed of sampling and augmentation.
    """

    def __init__(
        self,
        *,
        source: DatasetSource,
        preprocessing: Preprocessing,
        augmentation: Augmentation | None,
        in_channels: int,
        num_classes: int,
        patch_size: Sequence[int],
        batch_size: int,
        batches_per_epoch: int,
        foreground_fraction: float,
        validation_fraction: float,
        patient: str | None,
        split_file: str | Path | None,
        split_seed: int,
        folds: int | None,
        fold: int,
        cache: str | Path,
        num_workers: int,
        seed: int,
    ):
        super().__init__()
        _check_positive(batch_size=batch_size, batches_per_epoch=batches_per_epoch)
        if not 0 <= foreground_fraction <= 1:
            raise ConfigError(f"data.foreground_fraction={foreground_fraction} must lie in [0, 1]")
        if not 0 < validation_fraction < 1:
            raise ConfigError(
                f"data.validation_fraction={validation_fraction} must lie between 0 and 1; try 0.2"
            )
        if len(patch_size) != preprocessing.spatial_dims or any(n < 1 for n in patch_size):
            raise ConfigError(
                f"patch_size={list(patch_size)} must hold {preprocessing.spatial_dims} positive "
                "numbers of voxels, one per dimension of the network"
            )
        if augmentation and not set(augmentation.flip_axes) <= set(range(len(patch_size))):
            raise ConfigError(
                f"augmentation.flip_axes={list(augmentation.flip_axes)} must be axes of the "
                f"patch, {list(range(len(patch_size)))}; [] mirrors none"
            )
        self.source = source
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.patch_size = tuple(patch_size)
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch
        self.foreground_fraction = foreground_fraction
        self.validation_fraction = validation_fraction
        self.patient = patient
        self.split_file = split_file
        self.split_seed = split_seed
        self.folds = folds
        self.fold = fold
        self.cache = Path(cache)
        self.num_workers = num_workers
        self.seed = seed
        self.dataset: CaseDataset | None = None
        self.split: Split | None = None
        self._training: PatchDataset | None = None
        self._validation: list[PreparedCase] = []

    def setup(self, stage: str | None = None) -> None:
        """Obtains the dataset, splits it and prepares its cases; does nothing a second time."""
        if self.split is not None:
            return
        self.dataset = read_dataset(self.source.prepare())
        self._check_dataset(self.dataset)
        split = self._make_split([case.case_id for case in self.dataset.cases])
        prepared = prepare_cases(
            [c for c in self.dataset.cases if c.case_id in {*split.train, *split.validation}],
            self.preprocessing,
            in_channels=self.in_channels,
            num_classes=self.num_classes,
            cache=self.cache,
        )
        by_id = {case.case_id: case for case in prepared}
        self._training = PatchDataset(
            [by_id[case_id] for case_id in split.train],
            patch_size=self.patch_size,
            foreground_fraction=self.foreground_fraction,
            augmentation=self._augmentation(self.dataset.classes),
        )
        self._validation = [by_id[case_id] for case_id in split.validation]
        self.split = split
        log.info("%d training and %d validation cases", len(split.train), len(split.validation))

    def validation_cases(self) -> list[Case]:
        """The held-out cases as they lie on disk."""
        if self.dataset is None or self.split is None:
            raise RuntimeError("call setup() first")
        held_out = set(self.split.validation)
        return [case for case in self.dataset.cases if case.case_id in held_out]

    def prepared_validation(self) -> list[PreparedCase]:
        """The held-out cases on the network's grid."""
        return list(self._validation)

    def train_dataloader(self) -> DataLoader:
        """Random patches, drawn from seed and epoch alone, so that a run can be resumed.

        The trainer asks for a new one each epoch (`reload_dataloaders_every_n_epochs=1`).
        """
        if self._training is None:
            raise RuntimeError("call setup() first")
        epoch = _epochs_done(self.trainer) if self.trainer else 0
        generator = torch.Generator()
        draws = self.batches_per_epoch * self.batch_size
        return _RepeatableLoader(
            self._training,
            seed=self.seed * 100_003 + epoch,
            batch_size=self.batch_size,
            sampler=RandomSampler(
                self._training, replacement=True, num_samples=draws, generator=generator
            ),
            num_workers=self.num_workers,
            worker_init_fn=worker_init_fn,
            generator=generator,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader:
        """Whole prepared volumes, one per batch."""
        return DataLoader(_Volumes(self._validation), batch_size=1)

    def _augmentation(self, classes: Sequence[str]) -> Augmentation | None:
        if self.augmentation is None:
            return None
        sagittal = self.preprocessing.spatial_dims == 2 and self.preprocessing.slice_axis == 0
        return keep_sides(self.augmentation, classes, left_right=None if sagittal else 0)

    def _make_split(self, case_ids: list[str]) -> Split:
        if self.split_file is not None:
            split = Split.read(Path(self.split_file))
            check(split, case_ids, patient=self.patient)
            return split
        drawn: dict[str, Any] = {"seed": self.split_seed, "patient": self.patient}
        if self.folds is not None:
            return fold_of_cases(case_ids, folds=self.folds, fold=self.fold, **drawn)
        return split_cases(case_ids, validation_fraction=self.validation_fraction, **drawn)

    def _check_dataset(self, dataset: CaseDataset) -> None:
        for name, wanted, found in (
            ("num_classes", self.num_classes, dataset.num_classes),
            ("in_channels", self.in_channels, dataset.in_channels),
        ):
            if wanted != found:
                raise DataError(
                    f"data.{name}={wanted}, but {dataset.folder}/dataset.json says {found}; "
                    f"set data.{name}={found}"
                )


class _RepeatableLoader(DataLoader):
    """Gives the same batches however often it is started: Lightning starts some twice."""

    def __init__(self, dataset: PatchDataset, *, seed: int, generator: torch.Generator, **options):
        super().__init__(dataset, generator=generator, **options)
        self.seed = seed
        self.patches = dataset
        self.draws = generator

    def __iter__(self) -> Iterator:
        self.draws.manual_seed(self.seed)
        self.patches.seed(self.seed)
        return super().__iter__()


class _Volumes(Dataset):
    def __init__(self, cases: Sequence[PreparedCase]):
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict:
        case = self.cases[index]
        return {"image": case.image, "label": case.label, "case": case.case_id}


def _epochs_done(trainer: pl.Trainer) -> int:
    # `current_epoch` is still one behind when a resumed run asks for its first batches
    progress: Any = trainer.fit_loop.epoch_progress.current
    return progress.processed


def _check_positive(**values: int) -> None:
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ConfigError(f"data.{name}={value!r} must be a whole number of at least 1")
