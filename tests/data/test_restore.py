"""Labels restored slice by slice are those of all classes interpolated on the whole grid."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy
from torch.nn import functional

from medseg.data.restore import Scores, restore
from medseg.labelling import Labelling


def restored(*given: torch.Tensor, size: tuple[int, ...], axis: int, **options):
    classes = Labelling(tuple(map(str, range(1, len(given[0])))))
    parts = [
        Scores(grid=each.shape[1:], slices=each.unbind(1 + axis), share=1 / len(given))
        for each in given
    ]
    return restore(parts, size, axis=axis, **{"labelling": classes} | options)


def interpolated(scores: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return functional.interpolate(scores[None].double(), size=size, mode="trilinear")[0]


sizes = st.tuples(*[st.integers(1, 9)] * 3)


@given(sizes, sizes, st.integers(1, 6), st.integers(0, 2), st.integers(0, 2**31))
def test_labels_are_those_of_the_interpolated_scores(grid, size, classes, axis, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand((classes, *grid), generator=generator).pow(4).softmax(0)
    full = interpolated(scores, size)
    labels = torch.from_numpy(restored(scores, size=size, axis=axis).labels)
    taken = full.gather(0, labels[None].long())[0]
    assert (taken >= full.amax(0) - 1e-6).all()  # another label only where rounding decides


@given(sizes, sizes, st.integers(0, 2), st.integers(0, 2**31))
def test_equal_scores_go_to_the_lowest_class(grid, size, axis, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 2, grid, generator=generator)
    two = functional.one_hot(cells, 2).movedim(-1, 0).float()
    four = torch.stack([two[0], two[1], two[1], two[0]])  # classes 2 and 3 never win
    labels = restored(four, size=size, axis=axis).labels
    np.testing.assert_array_equal(labels, restored(two, size=size, axis=axis).labels)
    assert labels.max() <= 1


def test_a_third_class_may_win_between_two_others() -> None:
    scores = torch.tensor([[0.51, 0.0], [0.0, 0.51], [0.49, 0.49]]).reshape(3, 2, 1, 1)
    assert restored(scores, size=(4, 1, 1), axis=0).labels.flatten().tolist() == [0, 2, 2, 1]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_scores_of_every_class_are_restored_beside_the_labels(axis: int) -> None:
    scores = torch.randn(4, 6, 5, 7).softmax(0)
    expected = interpolated(scores, (9, 5, 3))
    found = restored(scores, size=(9, 5, 3), axis=axis, wanted=[3, 0, 1, 2], entropy=True)
    torch.testing.assert_close(
        torch.from_numpy(found.scores).double(), expected[[3, 0, 1, 2]], rtol=0, atol=1e-6
    )
    np.testing.assert_array_equal(found.labels, found.scores[[1, 2, 3, 0]].argmax(0))
    np.testing.assert_allclose(found.entropy, entropy(expected, base=2), atol=1e-5)


@given(st.lists(sizes, min_size=2, max_size=3), sizes, st.integers(0, 2), st.integers(0, 2**31))
def test_scores_of_several_grids_are_added_up(grids, size, axis, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.rand((3, *grid), generator=generator).pow(4).softmax(0) for grid in grids]
    full = sum(interpolated(each, size) for each in scores)
    labels = torch.from_numpy(restored(*scores, size=size, axis=axis).labels)
    taken = full.gather(0, labels[None].long())[0]
    assert (taken >= full.amax(0) - 1e-6).all()


REGIONS = [
    Labelling.of_regions({"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}, [2, 1, 3]),
    Labelling.of_regions({"both": [1, 2], "one": [1], "two": [2]}, [2, 1, 2]),  # 2 has two meanings
]


@given(
    st.lists(sizes, min_size=1, max_size=3), sizes, st.sampled_from(REGIONS), st.booleans(),
    st.integers(0, 2), st.integers(0, 2**31),
)  # fmt: skip
def test_regions_are_decided_on_after_they_were_interpolated_and_averaged(
    grids, size, labelling, with_scores, axis, seed
) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = [(4 * torch.randn((3, *g), generator=generator)).sigmoid() / len(grids) for g in grids]
    wanted = [0, 1, 2] if with_scores else []
    options = {"size": size, "axis": axis, "labelling": labelling, "wanted": wanted}
    labels = restored(*scores, **options).labels
    full = sum(interpolated(each, size) for each in scores)
    certain = ((full - 0.5).abs() > 1e-5).all(0).numpy()  # elsewhere rounding decides
    expected = np.zeros(size, int)
    for region, value in enumerate(labelling.order):
        expected[full[region].numpy() > 0.5] = value
    np.testing.assert_array_equal(labels[certain], expected[certain])


def test_one_value_of_two_regions_is_not_taken_for_one_region() -> None:
    """Both cells are written as 2, one as `both`, one as `two`; between them neither is certain."""
    scores = torch.tensor([[0.6, 0.0], [0.0, 0.0], [0.0, 0.6]]).reshape(3, 2, 1, 1)
    labels = restored(scores, size=(4, 1, 1), axis=0, labelling=REGIONS[1]).labels
    assert labels.flatten().tolist() == [2, 0, 0, 2]


def test_more_than_256_classes_have_labels_beyond_255() -> None:
    scores = torch.zeros(300, 2, 2, 2)
    scores[299, 1], scores[3, 0] = 1, 1
    labels = restored(scores, size=(4, 4, 4), axis=0).labels
    assert labels[:, 0, 0].tolist() == [3, 3, 299, 299]
