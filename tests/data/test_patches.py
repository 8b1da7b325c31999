from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from medseg.data.augmentation import STEPS, Augmentation
from medseg.data.cache import PreparedCase
from medseg.data.patches import PatchDataset, as_lists, varied

Store = Callable[..., PreparedCase]
OFF = dict.fromkeys(("flip", "affine", "elastic", *STEPS), 0.0)
INTENSITY = dict.fromkeys(STEPS, 1.0)
SHAPE = (20, 18, 16)


@pytest.fixture
def blob() -> np.ndarray:
    """Two classes in the middle: a patch of 8 voxels around any of their voxels fits inside."""
    label = np.zeros(SHAPE, np.uint8)
    label[6:10, 5:9, 5:9] = 1
    label[10:12, 7:10, 6:9] = 2
    return label


class Patches:
    """The patches of an epoch, one after the other."""

    def __init__(self, dataset: PatchDataset):
        self.dataset = dataset
        self.place = 0

    def __call__(self) -> dict[str, torch.Tensor]:
        batch = varied(as_lists([self.dataset[0, self.place]]), self.dataset.patch_size)
        self.place += 1
        return {key: values[0] for key, values in batch.items()}


def dataset(
    *cases: PreparedCase,
    size: Sequence[int] = (8, 8, 8),
    fraction: float = 0.5,
    augmentation: Augmentation | None = None,
    seed: int = 0,
) -> Patches:
    return Patches(
        PatchDataset(
            cases,
            patch_size=size,
            foreground_fraction=fraction,
            augmentation=augmentation,
            per_epoch=10,
            seed=seed,
        )
    )


def inner_indices(label: np.ndarray) -> list[np.ndarray]:
    """Of voxels around which a patch of 8 fits; nearer to the border the crop is shifted."""
    inner = np.pad(np.ones([n - 8 for n in SHAPE], bool), 4)
    return [np.flatnonzero((label == value) & inner) for value in range(3)]


def centre(label: torch.Tensor) -> int:
    return int(label[(0, *(n // 2 for n in label.shape[1:]))])


@pytest.mark.parametrize("size", [(8, 8, 8), (6, 10, 4), (8, 8), (5, 7)])
@pytest.mark.parametrize("varied", [False, True])
def test_patches_have_the_wanted_shape(
    size: tuple[int, ...], varied: bool, store: Store, blob: np.ndarray
) -> None:
    image = np.stack([blob, 2 - blob])
    every = Augmentation(flip=1, flip_axes=range(len(size)), affine=1, **INTENSITY)
    patches = dataset(store(blob, image), size=size, augmentation=every if varied else None)
    patch = patches()
    assert set(patch) == {"image", "label"}
    assert patch["image"].shape == (2, *size)
    assert patch["label"].shape == (1, *size)
    assert patch["image"].dtype == torch.float32


@pytest.mark.parametrize("size", [(32, 10, 24), (32, 24)])
def test_volumes_smaller_than_the_patch_are_padded_with_zeros(
    size: tuple[int, ...], store: Store, blob: np.ndarray
) -> None:
    image = (blob + 1.0)[None]
    patch = dataset(store(blob, image), size=size, fraction=1)()
    assert patch["image"].shape == (1, *size)
    inside = patch["image"] > 0
    assert inside.sum() == np.prod(np.minimum(size, SHAPE[: len(size)]))
    assert not patch["label"][~inside].any()
    assert torch.equal(patch["image"][inside], patch["label"][inside] + 1.0)


@pytest.mark.parametrize("size", [(8, 6, 4), (8, 6)])
def test_without_augmentation_a_patch_is_an_exact_crop(
    size: tuple[int, ...], store: Store, blob: np.ndarray
) -> None:
    places = np.arange(blob.size, dtype=np.float32).reshape(1, *SHAPE)
    patches = dataset(store(blob, places), size=size)
    seen = set()
    for _ in range(20):
        patch = patches()
        corner = np.unravel_index(int(patch["image"].flatten()[0]), SHAPE)
        box = tuple(slice(c, c + n) for c, n in zip(corner, (*size, 1), strict=False))
        expected = places[0][box].reshape(size)
        np.testing.assert_array_equal(patch["image"][0].numpy(), expected)
        np.testing.assert_array_equal(patch["label"][0].numpy(), blob[box].reshape(size))
        seen.add(corner)
    assert len(seen) > 10


@pytest.mark.parametrize("size", [(8, 8, 8), (8, 8)])
def test_patches_of_fraction_1_are_centred_on_each_class_of_the_foreground_alike(
    size: tuple[int, ...], store: Store, blob: np.ndarray
) -> None:
    patches = dataset(store(blob), size=size, fraction=1)
    found = [centre(patches()["label"]) for _ in range(200)]
    assert set(found) == {1, 2}
    assert 70 < found.count(1) < 130  # class 1 has 3.5 times the voxels of class 2


def test_patches_of_fraction_0_are_centred_on_the_background(
    store: Store, blob: np.ndarray
) -> None:
    patches = dataset(store(blob, indices=inner_indices(blob)), fraction=0)
    assert {centre(patches()["label"]) for _ in range(100)} == {0}


@pytest.mark.parametrize("missing", [1, 2, None])
def test_the_share_of_foreground_holds_whichever_classes_a_case_has(
    missing: int | None, store: Store, blob: np.ndarray
) -> None:
    label = np.where(blob == missing, 0, blob)
    patches = dataset(store(label, indices=inner_indices(label)), fraction=0.5)
    found = [centre(patches()["label"]) > 0 for _ in range(300)]
    assert 115 < sum(found) < 185


@pytest.mark.parametrize("fraction", [0, 0.5, 1])
@pytest.mark.parametrize("value", [0, 1])
def test_a_case_without_foreground_or_background_gives_patches_all_the_same(
    value: int, fraction: float, store: Store
) -> None:
    patches = dataset(store(np.full(SHAPE, value)), fraction=fraction)
    assert all((patches()["label"] == value).all() for _ in range(5))


def test_a_seed_gives_the_same_sequence_and_another_seed_another(
    store: Store, blob: np.ndarray
) -> None:
    image = np.random.default_rng(0).normal(size=(1, *SHAPE))
    every = Augmentation(flip_axes=(0, 1, 2), affine=0.5, **dict.fromkeys(INTENSITY, 0.5))
    case = store(blob, image)

    def sequence(seed: int) -> torch.Tensor:
        patches = dataset(case, augmentation=every, seed=seed)
        return torch.stack([patches()["image"] for _ in range(6)])

    first = sequence(3)
    assert torch.equal(sequence(3), first)
    assert not torch.equal(sequence(4), first)
    assert len({patch.numpy().tobytes() for patch in first}) == 6


@pytest.mark.parametrize(
    ("size", "axes"), [((8, 8, 8), (0,)), ((8, 8, 8), (1, 2)), ((8, 8), (1,)), ((8, 8, 8), ())]
)
def test_mirroring_happens_on_flip_axes_and_on_no_other(
    size: tuple[int, ...], axes: tuple[int, ...], store: Store
) -> None:
    steps = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"))
    always = Augmentation(**{**OFF, "flip": 1}, flip_axes=axes)
    patches = dataset(store(np.ones(SHAPE), steps), size=size, augmentation=always)
    for _ in range(5):
        image = patches()["image"]
        for axis in range(len(size)):
            direction = -1 if axis in axes else 1
            assert (image[axis].diff(dim=axis) == direction).all()


@pytest.mark.parametrize("size", [(12, 12, 12), (12, 12)])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("moves", [{"flip": 1}, {"affine": 1}, {"flip": 0.5, "affine": 0.5}])
def test_labels_stay_whole_and_aligned_with_the_image_wherever_voxels_move(
    size: tuple[int, ...], axis: int, moves: dict, store: Store
) -> None:
    shape = (24, 24, 24)
    steps = np.indices(shape)[axis]
    middle = np.ravel_multi_index((12, 12, 12), shape)
    case = store(steps, indices=[np.array([middle]), np.array([middle])])
    moving = Augmentation(**{**OFF, **moves}, flip_axes=range(len(size)), rotation=30, scale=0.3)
    patches = dataset(case, size=size, augmentation=moving)
    moved = 0
    for _ in range(20):
        patch = patches()
        label = patch["label"]
        assert torch.equal(label, label.round())
        # along a ramp, linear interpolation gives the place itself, nearest neighbour rounds it
        assert (patch["image"] - label).abs().max() <= 0.5 + 1e-4
        moved += not torch.equal(patch["image"], dataset(case, size=size)()["image"])
    assert moved > 5


def test_rotation_is_in_degrees(store: Store) -> None:
    ramp = np.indices(SHAPE)[0]
    turning = Augmentation(**{**OFF, "affine": 1}, rotation=10, scale=0)
    patches = dataset(store(np.ones(SHAPE), ramp[None]), size=SHAPE[:2], augmentation=turning)
    slopes = [float(patches()["image"][0, 9:11, 9].diff()) for _ in range(20)]
    angles = np.rad2deg(np.arccos(np.clip(slopes, -1, 1)))
    assert 5 < angles.max() <= 10.1


def adds_noise(before: torch.Tensor, after: torch.Tensor) -> bool:
    return 0 < float((after - before).std()) <= 0.11


def smooths(before: torch.Tensor, after: torch.Tensor) -> bool:
    neighbours = float(after.diff(dim=1).std() / before.diff(dim=1).std())
    return neighbours < 0.7 and abs(float(after.mean() - before.mean())) < 0.05


def scales(before: torch.Tensor, after: torch.Tensor) -> bool:
    ratio = after / before
    return abs(float(ratio.mean()) - 1) <= 0.25 and float(ratio.std()) < 1e-4


def spreads(before: torch.Tensor, after: torch.Tensor) -> bool:
    kept = abs(float(after.mean() - before.mean())) < 0.02
    inside = bool(after.min() >= before.min() and after.max() <= before.max())
    return kept and inside and 0.75 <= float(after.std() / before.std()) <= 1.25


def bends(before: torch.Tensor, after: torch.Tensor) -> bool:
    rising = bool((after.flatten()[before.flatten().argsort()].diff() > -1e-5).all())
    kept = [abs(float(f(after) - f(before))) < 1e-3 for f in (torch.mean, torch.std)]
    return rising and all(kept)


@pytest.mark.parametrize(
    ("step", "is_as_described"),
    [
        ("noise", adds_noise),
        ("smooth", smooths),
        ("brightness", scales),
        ("contrast", spreads),
        ("low_resolution", smooths),
        ("gamma", bends),
        ("inverted_gamma", bends),
    ],
)
def test_intensity_steps_change_the_image_as_they_say_and_leave_the_label(
    step: str, is_as_described: Callable, store: Store, blob: np.ndarray
) -> None:
    image = np.random.default_rng(0).normal(size=(1, *SHAPE))
    case = store(blob, image)
    changing = dataset(case, size=SHAPE, augmentation=Augmentation(**{**OFF, step: 1}))
    plain = dataset(case, size=SHAPE)()
    for _ in range(5):
        patch = changing()
        assert not torch.equal(patch["image"], plain["image"])
        assert is_as_described(plain["image"], patch["image"])
        assert torch.equal(patch["label"], plain["label"])


def test_probabilities_of_0_switch_every_step_off(store: Store, blob: np.ndarray) -> None:
    off = Augmentation(**OFF, flip_axes=(0, 1, 2))
    case = store(blob)
    assert torch.equal(
        dataset(case, augmentation=off)()["image"], dataset(case, augmentation=None)()["image"]
    )


@pytest.mark.parametrize("name", sorted(OFF))
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_probability_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"{name}={value} must be a probability in \[0, 1\]"):
        Augmentation(**{name: value})  # type: ignore[arg-type]


def test_with_a_ramp_the_share_of_varied_patches_rises_and_each_is_as_without(
    store: Store, blob: np.ndarray
) -> None:
    case = store(blob)
    plain, whole, rising = (
        dataset(case, augmentation=augmentation).dataset
        for augmentation in (
            None,
            *(Augmentation(**(OFF | {"noise": 1.0}), ramp=r) for r in (0, 9)),
        )
    )

    def voxels(patches: PatchDataset, *sample: int) -> torch.Tensor:
        return varied(as_lists([patches[sample]]), patches.patch_size)["image"]

    epochs = rising.ramp_epochs
    assert epochs == pytest.approx(9 * np.prod(SHAPE) / 8**3 / 10)  # ten patches an epoch
    shares = []
    for epoch in range(int(epochs) + 2):
        count = 0
        for index in range(10):
            own = voxels(rising, epoch, index)
            is_varied = not own.equal(voxels(plain, epoch, index))
            assert own.equal(voxels(whole if is_varied else plain, epoch, index))
            count += is_varied
        shares.append(count / 10)
    rises = shares[: int(epochs)]
    assert np.mean(rises[: len(rises) // 2]) < np.mean(rises[len(rises) // 2 :]) < 1
    assert shares[-1] == 1


@pytest.mark.parametrize("ramp", [-1.0, float("nan"), float("inf")])
def test_a_ramp_that_never_ends_is_refused(ramp: float) -> None:
    with pytest.raises(ValueError, match="ramp="):
        Augmentation(ramp=ramp)
