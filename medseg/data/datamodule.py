"""Cases → batches, for Lightning."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from medseg.data.augmentation import Augmentation
from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.checks import check_cases
from medseg.data.config import DataConfig
from medseg.data.dataset import Case
from medseg.data.dataset import Dataset as CaseDataset
from medseg.data.forms import read_dataset
from medseg.data.loading import TimedLoader
from medseg.data.patches import EpochSampler, PatchDataset, as_lists, varied
from medseg.data.preprocess import BODY_AXES, Preprocessing
from medseg.data.sides import resolve_flips
from medseg.data.splits import (
    Patients,
    Split,
    check,
    draw_folds,
    draw_nnunet_folds,
    read_folds,
    split_cases,
)
from medseg.errors import ConfigError, DataError
from medseg.record import ImageRange
from medseg.resources import available_memory_bytes, usable_cpus
from medseg.volumes import IGNORE

log = logging.getLogger(__name__)

_COUNTED = 32  # patches whose voxels tell the classes' shares
_TIMED = 8  # patches that are cut to see how long one takes
_BATCH_SECONDS = 0.02  # in which the processes together cut a batch
_LEFT_FREE = 2**30
_WORKER_BYTES = 2**29  # of a process that has imported torch


class SegmentationDataModule(pl.LightningDataModule):
    """Batches of random patches for training, whole volumes one by one for validation.

    An epoch is a fixed number of batches, cases drawn with replacement, so that arms trained on
    the same data see equally many patches.

    Args:
        config: The dataset and how it is cut, split and drawn from.
        augmentation: Random variation of training patches, or None.
        seed: Seed of sampling and augmentation.
        split: Of a run that goes on; None: as `config` says.

    Raises:
        ConfigError: an axis to be mirrored that the patch does not have.
    """

    def __init__(
        self,
        config: DataConfig,
        *,
        augmentation: Augmentation | None,
        seed: int,
        split: Split | None = None,
    ):
        super().__init__()
        axes = config.patch_axes
        if augmentation and not set(augmentation.flip_axes) <= {*BODY_AXES, *range(len(axes))}:
            raise ConfigError(
                f"augmentation.flip_axes={list(augmentation.flip_axes)} must be of "
                f"{', '.join(BODY_AXES)}; [] mirrors none"
            )
        self.config = config
        self.augmentation = augmentation
        self.seed = seed
        self.dataset: CaseDataset | None = None
        self.split: Split | None = None
        self.folds: tuple[Split, ...] = ()  # of which one is held out; none of a run that goes on
        self._own_split = split
        self._training: PatchDataset | None = None
        self._loader: TimedLoader | None = None
        self._validation: list[PreparedCase] = []
        self._digests: dict[str, str] = {}

    def setup(self, stage: str | None = None) -> None:
        """Obtains the dataset, splits it and prepares its cases; does nothing a second time."""
        if self.split is not None:
            return
        self.dataset = read_dataset(
            self.config.source.prepare(),
            self.config.labels,
            regions=self.config.regions,
            order=self.config.regions_class_order,
            form=self.config.form,
            files=self.config.files,
        )
        log.info("%s, in the form of %s", self.dataset.folder, self.dataset.form)
        for note in self.dataset.notes:
            log.warning("%s: %s", self.dataset.folder, note)
        self._check_dataset(self.dataset)
        labelling = self.dataset.labelling
        split = self._make_split(self.dataset)
        prepared = prepare_cases(
            [c for c in self.dataset.cases if c.case_id in {*split.train, *split.validation}],
            self.preprocessing,
            in_channels=self.config.in_channels,
            num_classes=self.config.labelling.ignored,
            cache=Path(self.config.cache),
        )
        by_id = {case.case_id: case for case in prepared}
        self._digests = {case.case_id: case.sha256 for case in prepared}
        training = [by_id[case_id] for case_id in split.train]
        self._validation = [by_id[case_id] for case_id in split.validation]
        for warning in check_cases(training, self._validation, labelling, self.config):
            log.warning("%s", warning)
        self._training = PatchDataset(
            training,
            patch_size=self.config.patch_size,
            foreground_fraction=self.config.foreground_fraction,
            augmentation=self.augmentation
            and resolve_flips(self.augmentation, labelling, self.config.patch_axes),
            per_epoch=self.config.batches_per_epoch * self.config.batch_size,
            seed=self.seed,
        )
        if epochs := self._training.ramp_epochs:
            log.info("more and more patches are varied, all from epoch %.3g on", epochs + 1)
        self.split = split
        if split.validation:
            log.info("%d training and %d validation cases", len(split.train), len(split.validation))
        else:
            log.warning(
                "all %d cases train: none is left to validate, score or draw", len(split.train)
            )

    @property
    def preprocessing(self) -> Preprocessing:
        """The network's grid, intensities and classes, which a dataset.json may add to."""
        label_values = self.dataset.label_values if self.dataset else self.config.labels
        return replace(self.config.preprocessing, label_values=label_values)

    @property
    def ignores(self) -> bool:
        """Whether some voxels may be ignored."""
        return IGNORE in (self.preprocessing.label_values or {}).values()

    @property
    def channel_names(self) -> list[str]:
        """Names of the image's channels, as the dataset has them."""
        return list(self.dataset.modalities) if self.dataset else []

    @property
    def mirrored(self) -> list[str]:
        """Ways of the body along which training patches are mirrored."""
        resolved = self._training and self._training.augmentation
        return (
            [self.config.patch_axes[int(axis)] for axis in resolved.flip_axes] if resolved else []
        )

    @property
    def side_pairs(self) -> list[list[int]]:
        """Classes that are swapped where left and right are mirrored."""
        resolved = self._training and self._training.augmentation
        return [[int(a), int(b)] for a, b in (resolved and resolved.side_pairs) or ()]

    def validation_cases(self) -> list[Case]:
        """The held-out cases as they lie on disk."""
        if self.dataset is None or self.split is None:
            raise RuntimeError("call setup() first")
        held_out = set(self.split.validation)
        return [case for case in self.dataset.cases if case.case_id in held_out]

    def case_digests(self) -> dict[str, str]:
        """Case id → SHA-256 of the content of its files, of every case that is used."""
        return dict(self._digests)

    def training_range(self) -> ImageRange:
        """What the images of training are like."""
        if self._training is None:
            raise RuntimeError("call setup() first")
        return ImageRange.joined([case.image_range for case in self._training.cases])

    def label_counts(self) -> Tensor:
        """Voxels of each label value in a few training patches as they are drawn, but ignored."""
        if self._training is None:
            raise RuntimeError("call setup() first")
        values = self.config.labelling.ignored
        counts = torch.zeros(values, dtype=torch.long)
        for index in range(_COUNTED):
            label = self._training[0, index]["label"].flatten()
            counts += torch.bincount(label[label < values], minlength=values)
        return counts

    def prepared_validation(self) -> list[PreparedCase]:
        """The held-out cases on the network's grid."""
        return list(self._validation)

    def train_dataloader(self) -> DataLoader:
        """Random patches, drawn from seed, epoch and index in it alone, so that a run can go on.

        Batches hold what is to be varied: `on_after_batch_transfer` makes patches of it.
        """
        if self._training is None:
            raise RuntimeError("call setup() first")
        config = self.config
        workers = self._workers(self._training)
        rank, ranks = self._rank
        own = config.batch_size // ranks
        share = range(rank * own, (rank + 1) * own)
        self._loader = TimedLoader(
            self._training,
            batch_size=own,
            sampler=EpochSampler(config.batches_per_epoch, config.batch_size, share, self._epoch),
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=as_lists,
            pin_memory=self._on_gpu,
            generator=torch.Generator(),  # else it draws from the one that dropout draws from
        )
        return self._loader

    @property
    def waited(self) -> float:
        """Seconds that training waited for patches so far."""
        return self._loader.waited if self._loader else 0.0

    def on_after_batch_transfer(
        self, batch: Mapping[str, Any], dataloader_idx: int
    ) -> Mapping[str, Any]:
        """Varies the patches of a training batch, on the network's device."""
        return varied(batch, self.config.patch_size) if "variation" in batch else batch

    def val_dataloader(self) -> DataLoader:
        """Whole prepared volumes, one per batch, equally many for each of several processes."""
        rank, ranks = self._rank
        count = ceil(len(self._validation) / ranks) * ranks
        return DataLoader(
            _Volumes(self._validation), batch_size=1, sampler=range(rank, count, ranks)
        )

    @property
    def _rank(self) -> tuple[int, int]:
        """Which of how many processes this is."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    @property
    def _on_gpu(self) -> bool:
        return self.trainer is not None and self.trainer.strategy.root_device.type == "cuda"

    def _workers(self, patches: PatchDataset) -> int:
        """Loader processes: as asked for, or as many as keep a GPU at work.

        A network on the CPU needs all cores, and a patch is cut in a moment: it gets none.
        """
        if self.config.num_workers != "auto":
            return int(self.config.num_workers)
        if not self._on_gpu:
            return 0
        start = time.perf_counter()
        for index in range(_TIMED):
            patches[0, index]
        seconds = (time.perf_counter() - start) / _TIMED * self.config.batch_size
        spare = (available_memory_bytes() - _LEFT_FREE) // _WORKER_BYTES
        workers = max(0, min(ceil(seconds / _BATCH_SECONDS), usable_cpus() - 1, spare))
        log.info("%d loader processes: a batch is cut in %.3g s of one core", workers, seconds)
        return workers

    def _epoch(self) -> int:
        if not self.trainer:
            return 0
        # `current_epoch` is still one behind when a resumed run asks for its first batches
        progress: Any = self.trainer.fit_loop.epoch_progress.current
        return progress.processed

    def _make_split(self, dataset: CaseDataset) -> Split:
        case_ids = [case.case_id for case in dataset.cases]
        patient = self._patients(dataset)
        if self._own_split is not None:
            holds_out = self.config.holds_out
            check(self._own_split, case_ids, patient=patient, holds_out=holds_out)
            used = {*self._own_split.train, *self._own_split.validation}
            if self.config.split_file is None and (new := sorted(set(case_ids) - used)):
                log.warning(
                    "%d cases are new in the dataset, first %s; a run that is continued keeps its "
                    "split and does not use them", len(new), new[0],
                )  # fmt: skip
            return self._own_split
        if self.config.split_file is not None:
            split = self._fold_of(read_folds(self.config.split_file), self.config.split_file)
            check(split, case_ids, patient=patient)
            return split
        seed, folds = self.config.split_seed, self.config.folds
        if folds is None:
            share = self.config.validation_fraction
            return split_cases(case_ids, validation_fraction=share, seed=seed, patient=patient)
        if folds == len(dataset.folds):
            return self._fold_of(dataset.folds, dataset.folds_from)
        if dataset.folds:
            own = f"the {len(dataset.folds)} folds of {dataset.folds_from}"
            log.warning("%s are not used: data.folds=%d draws others", own, folds)
        if self.config.splits == "nnunet":
            drawn = draw_nnunet_folds(case_ids, folds=folds, patient=patient)
        else:
            drawn = draw_folds(case_ids, folds=folds, seed=seed, patient=patient)
        return self._fold_of(drawn, f"data.folds={folds}")

    def _fold_of(self, folds: Sequence[Split], path: str | Path) -> Split:
        """The fold that `data.fold` chooses; a split alone is the only one."""
        if self.config.fold >= len(folds):
            raise ConfigError(
                f"data.fold={self.config.fold} must be one of 0 to {len(folds) - 1}, the folds of "
                f"{path}"
            )
        if len(folds) > 1:
            self.folds = tuple(folds)
            log.info("fold %d of the %d of %s is held out", self.config.fold, len(folds), path)
        return folds[self.config.fold]

    def _patients(self, dataset: CaseDataset) -> Patients:
        """Whose the cases are: as configured, else as the dataset says, else each its own."""
        if self.config.patient is not None:
            return self.config.patient
        return {case.case_id: case.patient or case.case_id for case in dataset.cases}

    def _check_dataset(self, dataset: CaseDataset) -> None:
        if self.config.spatial_dims > dataset.spatial_dims:
            raise DataError(f"{dataset.folder} holds pictures; set data.spatial_dims=2")
        if dataset.regions and not self.config.labelling.overlap:
            raise DataError(
                f"{dataset.folder} has regions that overlap ({', '.join(dataset.classes)}); give "
                "them in data.regions and data.regions_class_order, as data=folder does by itself"
            )
        for name, wanted, found in (
            ("num_classes", self.config.num_classes, dataset.num_classes),
            ("in_channels", self.config.in_channels, dataset.in_channels),
        ):
            if wanted != found:
                raise DataError(
                    f"data.{name}={wanted}, but {dataset.folder} has {found}; "
                    f"set data.{name}={found}"
                )


class _Volumes(Dataset):
    """Cases; beyond the last they begin anew, and do not count."""

    def __init__(self, cases: Sequence[PreparedCase]):
        self.cases = list(cases)

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> dict:
        case = self.cases[index % len(self.cases)]
        counts = index < len(self.cases)
        return {"image": case.image, "label": case.label, "case": case.case_id, "counts": counts}
