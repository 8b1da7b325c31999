"""Overlap and surface distances against scipy, MONAI and shapes whose answer is known."""

import warnings

import numpy as np
import pytest
import surface_distance
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.metrics.hausdorff_distance import compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from medseg.labelling import Labelling
from medseg.metrics import dice, score_case
from medseg.record import METRICS

SPACINGS = {2: (0.7, 2.5), 3: (3.0, 0.8, 1.2)}


def score(prediction, label, *, spacing=None, tolerance_mm=1.0) -> dict[str, float | None]:
    return score_case(
        np.asarray(prediction, dtype=np.uint8),
        np.asarray(label, dtype=np.uint8),
        spacing=spacing or (1.0,) * np.ndim(label),
        labelling=Labelling(("organ",)),
        tolerance_mm=tolerance_mm,
    )["organ"]


def test_every_described_metric_has_a_value_in_every_case() -> None:
    some, none = np.ones((4, 4), dtype=np.uint8), np.zeros((4, 4), dtype=np.uint8)
    for pair in [(some, some), (some, none), (none, none)]:
        assert list(score(*pair)) == list(METRICS)


def box(shape: tuple[int, ...], start: tuple[int, ...], size: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))] = True
    return mask


def surface(mask: np.ndarray) -> np.ndarray:
    return mask & ~ndimage.binary_erosion(mask)


def distances(mask: np.ndarray, other: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """From every surface voxel of `mask` to the nearest surface voxel of `other`, in mm."""
    return ndimage.distance_transform_edt(~surface(other), sampling=spacing)[surface(mask)]


def hd95_by_scipy(a: np.ndarray, b: np.ndarray, spacing: tuple[float, ...]) -> float:
    return max(
        np.percentile(distances(a, b, spacing), 95), np.percentile(distances(b, a, spacing), 95)
    )


def blobs(seed: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Two random masks that overlap, the first touching the border."""
    rng = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(rng.normal(size=shape), 2)
    other = field + 0.4 * ndimage.gaussian_filter(rng.normal(size=shape), 2)
    return field > 0.5 * field.std(), other > 0.5 * other.std()


CASES = [(seed, shape) for seed in range(4) for shape in [(30, 25), (14, 18, 11)]]


class TestAgainstOtherLibraries:
    @pytest.mark.parametrize(("seed", "shape"), CASES)
    def test_hd95_is_scipys(self, seed, shape) -> None:
        a, b = blobs(seed, shape)
        spacing = SPACINGS[len(shape)]
        found = score(a, b, spacing=spacing)["hd95_mm"]
        assert found == pytest.approx(hd95_by_scipy(a, b, spacing), rel=1e-5)

    @pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")
    @pytest.mark.parametrize("even", [False, True], ids=["own spacing", "1 mm"])
    @pytest.mark.parametrize(("seed", "shape"), CASES)
    def test_surface_dice_is_deepminds_in_2d_and_3d(self, seed, shape, even) -> None:
        a, b = blobs(seed, shape)
        spacing = (1.0,) * len(shape) if even else SPACINGS[len(shape)]
        distances = surface_distance.compute_surface_distances(b, a, spacing)
        for tolerance in (0.0, 1.0, 3.0):
            found = score(a, b, spacing=spacing, tolerance_mm=tolerance)["surface_dice"]
            expected = surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)
            assert found == pytest.approx(expected, abs=1e-6)

    @pytest.mark.parametrize(("seed", "shape"), CASES)
    def test_cropping_to_the_masks_changes_nothing(self, seed, shape) -> None:
        a, b = blobs(seed, shape)
        a, b = (np.pad(mask, [(5, 9)] * a.ndim) for mask in (a, b))
        spacing = SPACINGS[len(shape)]
        found = score(a, b, spacing=spacing, tolerance_mm=2.0)
        pair = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*always_return_as_numpy.*", FutureWarning)
            hd95 = compute_hausdorff_distance(
                *pair, include_background=True, percentile=95, spacing=list(spacing)
            )
            near = compute_surface_dice(
                *pair,
                class_thresholds=[2.0],
                include_background=True,
                spacing=list(spacing),
                use_subvoxels=True,
            )
        assert found["hd95_mm"] == pytest.approx(float(hd95))
        assert found["surface_dice"] == pytest.approx(float(near))


class TestKnownAnswers:
    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize("shift", [1, 2, 4])
    def test_a_shifted_cube_is_the_shift_away(self, axis, shift) -> None:
        spacing = SPACINGS[3]
        start = [6, 6, 6]
        label = box((22, 22, 22), tuple(start), (8, 8, 8))
        start[axis] += shift
        prediction = box((22, 22, 22), tuple(start), (8, 8, 8))
        found = score(prediction, label, spacing=spacing)
        assert found["dice"] == pytest.approx((8 - shift) / 8)
        assert found["hd95_mm"] == pytest.approx(shift * spacing[axis], rel=1e-5)

    @pytest.mark.parametrize("axis", range(3))
    def test_surface_dice_is_1_within_the_tolerance_and_less_beyond(self, axis) -> None:
        spacing = SPACINGS[3]
        start = [6, 6, 6]
        label = box((22, 22, 22), tuple(start), (8, 8, 8))
        start[axis] += 2
        prediction = box((22, 22, 22), tuple(start), (8, 8, 8))
        away = 2 * spacing[axis]
        by_tolerance = [
            score(prediction, label, spacing=spacing, tolerance_mm=t)["surface_dice"]
            for t in (0.01, 0.6 * away, away + 1e-3)
        ]
        assert by_tolerance == sorted(by_tolerance)
        assert by_tolerance[0] < by_tolerance[1] < by_tolerance[2]
        assert by_tolerance[2] == pytest.approx(1)

    def test_a_far_outlier_of_less_than_five_percent_is_left_out(self) -> None:
        label = box((60, 60), (10, 10), (20, 20))
        prediction = label | box((60, 60), (55, 55), (1, 1))
        assert score(prediction, label)["hd95_mm"] == pytest.approx(0)

    def test_masks_of_one_voxel(self) -> None:
        a, b = box((9, 9, 9), (0, 0, 0), (1, 1, 1)), box((9, 9, 9), (8, 8, 8), (1, 1, 1))
        spacing = SPACINGS[3]
        found = score(a, b, spacing=spacing)
        assert found["dice"] == 0
        assert found["surface_dice"] == 0
        assert found["hd95_mm"] == pytest.approx(np.linalg.norm(np.multiply(8, spacing)), rel=1e-5)


class TestThinVolumes:
    """What has one voxel along an axis is measured without that axis."""

    @pytest.mark.parametrize("axis", range(3))
    @pytest.mark.parametrize("kind", ["both", "one empty", "both empty"])
    def test_a_slice_is_measured_in_its_plane(self, axis, kind) -> None:
        a, b = blobs(0, (30, 25))
        a, b = {"both": (a, b), "one empty": (a, b & False), "both empty": (a & False,) * 2}[kind]
        flat = score(a, b, spacing=(0.7, 2.5))
        spacing = list(np.insert((0.7, 2.5), axis, 9.0))
        thin = score(np.expand_dims(a, axis), np.expand_dims(b, axis), spacing=spacing)
        assert thin == flat

    @pytest.mark.parametrize("shape", [(1, 1, 7), (7, 1, 1), (1, 1, 1)], ids=str)
    def test_a_line_and_a_point_have_scores(self, shape) -> None:
        mask = np.ones(shape, bool)
        found = score(mask, mask, spacing=SPACINGS[3])
        assert found == {"dice": 1, "surface_dice": 1, "hd95_mm": 0}


class TestIgnored:
    """Voxels whose label lies beyond the classes."""

    @pytest.mark.parametrize("ignored", [2, 255])
    def test_what_is_predicted_there_changes_nothing(self, ignored) -> None:
        a, b = blobs(1, (14, 18, 11))
        label = b.astype(np.uint8)
        label[:, 9:] = ignored
        rng = np.random.default_rng(0)
        guesses = [np.where(label == ignored, rng.integers(0, 2, a.shape), a) for _ in range(2)]
        first, second = (score(guess, label, spacing=SPACINGS[3]) for guess in guesses)
        assert first == second == score(a[:, :9], b[:, :9], spacing=SPACINGS[3])


class TestEmptyMasks:
    """The table at the top of the module, row by row."""

    full = box((6, 8, 4), (1, 1, 1), (3, 3, 2))
    empty = np.zeros((6, 8, 4), dtype=bool)

    def test_absent_from_both_is_undefined(self) -> None:
        expected = {"dice": None, "surface_dice": None, "hd95_mm": None}
        assert score(self.empty, self.empty) == expected

    @pytest.mark.parametrize("swap", [False, True])
    def test_absent_from_one_is_the_worst(self, swap) -> None:
        pair = [self.full, self.empty][:: -1 if swap else 1]
        diagonal = ((6 * 3.0) ** 2 + (8 * 0.8) ** 2 + (4 * 1.2) ** 2) ** 0.5
        expected = {"dice": 0, "surface_dice": 0, "hd95_mm": pytest.approx(diagonal)}
        assert score(*pair, spacing=SPACINGS[3]) == expected

    def test_a_class_is_scored_without_the_others(self) -> None:
        label = np.zeros((6, 8, 4), dtype=np.uint8)
        label[1:4, 1:4, 1:3] = 1
        label[4:, 5:, :] = 2
        prediction = np.where(label == 2, 1, label)
        found = score_case(
            prediction,
            label,
            spacing=(1.0, 1.0, 1.0),
            labelling=Labelling(("a", "b", "c")),
            tolerance_mm=1.0,
        )
        assert list(found) == ["a", "b", "c"]
        assert found["a"]["dice"] == pytest.approx(2 * 18 / (18 + 18 + 24))
        assert found["b"]["dice"] == 0
        assert found["b"]["hd95_mm"] == pytest.approx(116**0.5)
        assert found["c"]["dice"] is None


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"prediction \(2, 3\) and label \(3, 2\) differ in shape"):
        score(np.zeros((2, 3)), np.zeros((3, 2)))


class TestDice:
    @pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["numpy", "torch"])
    def test_by_hand(self, convert) -> None:
        a = convert(np.array([True, True, True, False]))
        b = convert(np.array([False, True, True, True]))
        empty = convert(np.zeros(4, dtype=bool))
        assert dice(a, b) == pytest.approx(2 * 2 / (3 + 3))
        assert dice(a, a) == 1
        assert dice(a, empty) == dice(empty, a) == 0
        assert dice(empty, empty) is None


masks = array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=6).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)
properties = settings(max_examples=30)


class TestProperties:
    @properties
    @given(masks)
    def test_every_metric_is_symmetric_and_in_its_range(self, pair) -> None:
        a, b = pair
        spacing = SPACINGS[a.ndim]
        found, swapped = score(a, b, spacing=spacing), score(b, a, spacing=spacing)
        for name, value in found.items():
            assert swapped[name] == pytest.approx(value, abs=1e-6)
        if found["dice"] is not None:
            assert 0 <= found["dice"] <= 1
            assert 0 <= found["surface_dice"] <= 1
            assert 0 <= found["hd95_mm"] <= np.linalg.norm(np.multiply(a.shape, spacing)) + 1e-6

    @properties
    @given(masks)
    def test_a_mask_agrees_with_itself(self, pair) -> None:
        mask = pair[0]
        assume(mask.any())
        expected = {"dice": 1, "surface_dice": 1, "hd95_mm": 0}
        assert score(mask, mask, spacing=SPACINGS[mask.ndim]) == expected

    @properties
    @given(masks, st.integers(1, 5))
    def test_more_background_around_two_masks_changes_nothing(self, pair, margin) -> None:
        # a surface at the border is one also in a larger volume: beyond the border is background
        assume(pair[0].any())
        assume(pair[1].any())
        spacing = SPACINGS[pair[0].ndim]
        padded = [np.pad(mask, margin) for mask in pair]
        found, again = score(*pair, spacing=spacing), score(*padded, spacing=spacing)
        for name, value in found.items():
            assert again[name] == pytest.approx(value, abs=1e-6), name
