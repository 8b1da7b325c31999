import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from medseg.data import Phantom
from medseg.data.augmentation import Augmentation
from medseg.data.datamodule import SegmentationDataModule
from medseg.data.loading import loader_faults
from medseg.data.splits import Split
from medseg.errors import ConfigError, DataError

Make = Callable[..., SegmentationDataModule]
Batches = list[dict[str, Tensor]]
CASES = [f"phantom_{index:03d}" for index in range(6)]


class Witness(pl.LightningModule):
    """Keeps the batches that a trainer passes on, epoch by epoch."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.epochs: dict[int, Batches] = {}

    def training_step(self, batch: dict[str, Tensor], _index: int) -> Tensor:
        self.epochs.setdefault(self.current_epoch, []).append(batch)
        return self.weight.sum()

    def validation_step(self, _batch: dict[str, Tensor], _index: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def trained(module: SegmentationDataModule) -> dict[int, Batches]:
    """The batches of two epochs."""
    witness = Witness()
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        limit_val_batches=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(witness, datamodule=module)
    return witness.epochs


def first_epoch(module: SegmentationDataModule) -> Batches:
    module.setup()
    return [dict(module.on_after_batch_transfer(b, 0)) for b in module.train_dataloader()]


def equal(one: Batches, other: Batches) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[key], b[key]) for a, b in zip(one, other, strict=True) for key in a
    )


def test_an_epoch_has_so_many_batches_of_so_many_patches(make: Make) -> None:
    batches = first_epoch(make(batch_size=5, batches_per_epoch=4))
    assert len(batches) == 4
    for batch in batches:
        assert batch["image"].shape == batch["label"].shape == (5, 1, 8, 8, 8)
        assert set(batch["label"].unique().tolist()) <= {0, 1, 2}
        assert torch.equal(batch["label"], batch["label"].round())


def test_a_sample_is_the_same_in_every_batch_and_from_every_process(make: Make) -> None:
    usual = Augmentation(flip_axes=(0,), affine=0.5, elastic=0.3, noise=0.5, smooth=0.5, gamma=0.5)
    found = []
    for workers, size in ((0, 1), (0, 4), (1, 2), (2, 4)):
        module = make(
            num_workers=workers, batch_size=size, batches_per_epoch=8 // size, augmentation=usual
        )
        batches = first_epoch(module)
        found.append({key: torch.cat([batch[key] for batch in batches]) for key in batches[0]})
    assert all(torch.equal(each[key], found[0][key]) for each in found for key in each)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_follow_from_the_seed_alone(workers: int, make: Make, tmp_path: Path) -> None:
    Split(train=(CASES[0],), validation=(CASES[1],)).write(tmp_path / "split.json")
    fixed = {"num_workers": workers, "split_file": tmp_path / "split.json"}
    fixed["augmentation"] = Augmentation(noise=1)
    batches = first_epoch(make(**fixed))
    torch.manual_seed(99)  # of no consequence
    module = make(**fixed)
    assert equal(first_epoch(module), batches)
    assert equal(first_epoch(module), batches)
    assert not equal(first_epoch(make(**fixed, seed=1)), batches)
    images = [image.numpy().tobytes() for batch in batches for image in batch["image"]]
    assert len(set(images)) == len(images)  # no worker repeats another


@pytest.mark.filterwarnings("ignore:.*does not have many workers")  # few on purpose
@pytest.mark.filterwarnings("ignore:.*LeafSpec")  # Lightning 2.6 uses what torch deprecates
@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_its_own_batches_and_has_them_again(workers: int, make: Make) -> None:
    once, again = (trained(make(num_workers=workers)) for _ in range(2))
    assert sorted(once) == [0, 1]
    assert not equal(once[0], once[1])
    assert all(equal(once[epoch], again[epoch]) for epoch in (0, 1))
    assert equal(once[0], first_epoch(make(num_workers=workers)))


_KILLED = """
import multiprocessing, os
from torch.utils.data import DataLoader
from medseg.data.loading import loader_faults
from medseg.errors import ResourceError

batches = iter(DataLoader(range(1000), num_workers=1))
next(batches)
try:
    with loader_faults():
        for process in multiprocessing.active_children():
            process.kill()
        list(batches)
except ResourceError as error:
    os._exit(error.exit_code)  # torch's handler of the signal may speak again at any time
"""


def test_a_loader_process_that_is_killed_is_a_fault_of_the_machine() -> None:
    assert subprocess.run([sys.executable, "-c", _KILLED], check=False).returncode == 4


class Unusable(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Tensor:
        raise DataError("a: is damaged; restore it")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_refusal_in_a_loader_process_is_told_without_its_trace(workers: int) -> None:
    with pytest.raises(DataError) as refusal, loader_faults():
        list(torch.utils.data.DataLoader(Unusable(), num_workers=workers))
    assert str(refusal.value) == "a: is damaged; restore it"


def test_another_fault_is_not_taken_for_the_loader_s() -> None:
    with pytest.raises(RuntimeError, match="shared memory"), loader_faults():
        raise RuntimeError("CUDA error: too much shared memory")


def test_the_fraction_of_foreground_reaches_the_patches(make: Make) -> None:
    shares = []
    for fraction in (0, 1):
        module = make(foreground_fraction=fraction, augmentation=None, patch_size=(2, 2, 2))
        batches = first_epoch(module)
        shares.append(sum(float((b["label"][..., 1, 1, 1] > 0).sum()) for b in batches) / 6)
    assert shares == [0, 1]


def test_all_training_cases_are_drawn_and_no_other(make: Make) -> None:
    module = make(
        augmentation=None,
        batches_per_epoch=40,
        patch_size=(20, 22, 18),
    )
    seen = {image.numpy().tobytes() for batch in first_epoch(module) for image in batch["image"]}
    assert module.split is not None
    held_out = {case.image.numpy().tobytes() for case in module.prepared_validation()}
    assert len(seen) == len(module.split.train) == 4
    assert not seen & held_out


def split_of(module: SegmentationDataModule) -> Split:
    module.setup()
    assert module.split is not None
    return module.split


def test_the_split_is_drawn_by_its_own_seed_not_by_the_run_s(make: Make) -> None:
    splits = [split_of(make(split_seed=drawn, seed=s)) for drawn, s in ((0, 0), (0, 1), (1, 0))]
    assert splits[0] == splits[1] != splits[2]
    assert sorted((*splits[0].train, *splits[0].validation)) == CASES


def test_a_fold_is_held_out_where_there_are_folds(make: Make) -> None:
    held_out = [split_of(make(folds=3, fold=fold)).validation for fold in range(3)]
    assert sorted(case for cases in held_out for case in cases) == CASES


def test_a_split_file_is_followed_and_unnamed_cases_are_left_out(
    make: Make, tmp_path: Path
) -> None:
    split = Split(train=tuple(CASES[3:5]), validation=(CASES[0],))
    split.write(tmp_path / "split.json")
    module = make(split_file=str(tmp_path / "split.json"), cache=tmp_path / "cache")
    module.setup()
    assert module.split == split
    assert [case.case_id for case in module.validation_cases()] == [CASES[0]]
    assert [case.case_id for case in module.prepared_validation()] == [CASES[0]]
    prepared = sorted(folder.name[:11] for folder in (tmp_path / "cache").iterdir())
    assert prepared == [CASES[0], *CASES[3:5]]


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (Split(train=("phantom_000",), validation=("phantom_000",)), "in the split twice"),
        (Split(train=("phantom_000",), validation=("other",)), "other: in the split but not in"),
    ],
)
def test_a_split_file_that_leaks_or_does_not_fit_is_refused(
    split: Split, message: str, make: Make, tmp_path: Path
) -> None:
    split.write(tmp_path / "split.json")
    with pytest.raises(DataError, match=message):
        make(split_file=tmp_path / "split.json").setup()


def test_cases_of_one_patient_stay_together(make: Make) -> None:
    module = make(patient=r"phantom_00([0-2]|[3-5])", validation_fraction=0.5)
    module.setup()
    assert len(module.validation_cases()) == 3
    module = make(patient=r"phantom_0(0)", validation_fraction=0.5)
    with pytest.raises(DataError, match="6 cases of 1 patients cannot be split"):
        module.setup()


@pytest.mark.parametrize(("name", "value", "true"), [("num_classes", 4, 3), ("in_channels", 2, 1)])
def test_a_dataset_of_other_classes_or_channels_is_refused_with_the_remedy(
    name: str, value: int, true: int, make: Make
) -> None:
    message = rf"data\.{name}={value}, but .* has {true}; set data\.{name}={true}"
    with pytest.raises(DataError, match=message):
        make(**{name: value}).setup()


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": Augmentation(flip_axes=(0, 3))},
        {"augmentation": Augmentation(flip_axes=[2]), "patch_size": (8, 8), "spatial_dims": 2},
    ],
    ids=str,
)
def test_impossible_choices_are_refused_before_any_data_is_read(changes: dict, make: Make) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        make(source=None, **changes)


def test_validation_gives_whole_volumes_one_by_one(make: Make) -> None:
    module = make()
    module.setup()
    batches = list(module.val_dataloader())
    prepared = module.prepared_validation()
    assert [batch["case"] for batch in batches] == [[case.case_id] for case in prepared]
    for batch, case in zip(batches, prepared, strict=True):
        assert torch.equal(batch["image"], case.image[None])
        assert torch.equal(batch["label"], case.label[None])
        assert batch["image"].shape == (1, 1, 20, 22, 18)  # RAS, however the file is stored


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_patches_are_slices_in_2d(axis: int, make: Make) -> None:
    module = make(spatial_dims=2, slice_axis=axis, patch_size=(12, 10), augmentation=None)
    for batch in first_epoch(module):
        assert batch["image"].shape == (2, 1, 12, 10)
    shape = [n for index, n in enumerate((20, 22, 18)) if index != axis]
    volume = next(iter(module.val_dataloader()))["image"]
    assert volume.shape == (1, 1, *shape, (20, 22, 18)[axis])


def test_nothing_can_be_asked_before_setup(make: Make) -> None:
    module = make()
    for ask in (module.train_dataloader, module.validation_cases):
        with pytest.raises(RuntimeError, match=r"call setup\(\) first"):
            ask()


def test_several_channels_are_passed_on(make: Make, tmp_path: Path) -> None:
    source = Phantom(root=tmp_path, cases=2, shape=(16, 16, 16), spacing=(1, 1, 1), channels=2)
    module = make(source=source, in_channels=2, validation_fraction=0.5, cache=tmp_path / "cache")
    assert {tuple(b["image"].shape) for b in first_epoch(module)} == {(2, 2, 8, 8, 8)}
