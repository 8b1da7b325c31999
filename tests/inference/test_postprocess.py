"""Cleaned label maps against a flood fill by hand, and what cleaning must leave alone."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medseg.inference.postprocess import Postprocessing
from medseg.labelling import Labelling

CLASSES = Labelling(("one", "two"))
LABELS = arrays(np.uint8, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(0, 2))


def components(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Voxels that touch by a face, an edge or a corner, one after the other."""
    left, found = set(map(tuple, np.argwhere(mask))), []
    while left:
        queue = [left.pop()]
        own = set(queue)
        while queue:
            place = queue.pop()
            near = {
                tuple(p + s for p, s in zip(place, step, strict=True))
                for step in product((-1, 0, 1), repeat=3)
            }
            fresh = near & left
            left -= fresh
            own |= fresh
            queue += fresh
        found.append(own)
    return found


@given(LABELS)
@settings(max_examples=60)
def test_components_that_are_too_small_or_not_the_largest_become_background(labels) -> None:
    before = labels.copy()
    parts = components(labels == 1)
    largest = Postprocessing(keep_largest=[1])(labels, 2.0, CLASSES)
    assert (largest == 1).sum() == max(map(len, parts), default=0)
    assert len(components(largest == 1)) == min(1, len(parts))
    small = Postprocessing(min_volume={1: 5.0})(
        labels, 2.0, CLASSES
    )  # two voxels are 4 mm³, three are 6
    assert (small == 1).sum() == sum(len(part) for part in parts if len(part) >= 3)
    for after in (largest, small):
        np.testing.assert_array_equal(after == 2, labels == 2)
        assert (labels[after == 1] == 1).all()
        np.testing.assert_array_equal(
            Postprocessing(keep_largest=[1])(largest, 2.0, CLASSES), largest
        )
    np.testing.assert_array_equal(labels, before)


@given(LABELS)
@settings(max_examples=60)
def test_only_background_that_no_path_leads_out_of_is_filled(labels) -> None:
    after = Postprocessing(fill_holes=[1])(labels, 1.0, CLASSES)
    np.testing.assert_array_equal(after[labels != 0], labels[labels != 0])
    outside = np.pad(labels != 1, 1, constant_values=True)
    reached = {(0, 0, 0)}
    queue = [(0, 0, 0)]
    while queue:
        place = queue.pop()
        for axis, step in product(range(3), (-1, 1)):
            near = tuple(p + step * (axis == a) for a, p in enumerate(place))
            inside = all(0 <= p < n for p, n in zip(near, outside.shape, strict=True))
            if inside and near not in reached and outside[near]:
                reached.add(near)
                queue.append(near)
    for place in np.ndindex(labels.shape):
        if labels[place] == 0:
            enclosed = tuple(p + 1 for p in place) not in reached
            assert after[place] == enclosed


def test_the_limit_is_in_mm3_and_met_by_a_component_of_just_that_size() -> None:
    labels = np.zeros((4, 4, 4), np.uint16)
    labels[0, 0, :3] = 300
    for limit, kept in ((2.1, 3), (2.2, 0)):
        assert (Postprocessing(min_volume={300: limit})(labels, 0.7, CLASSES) == 300).sum() == kept


def test_two_components_of_one_size_leave_one() -> None:
    labels = np.array([1, 0, 1], np.uint8).reshape(3, 1, 1)
    assert Postprocessing(keep_largest=[1])(labels, 1.0, CLASSES).sum() == 1


@pytest.mark.parametrize("steps", [{}, {"fill_holes": [2]}, {"keep_largest": [2]}])
def test_a_class_that_is_not_there_stays_so(steps) -> None:
    labels = np.ones((3, 3, 3), np.uint8)
    np.testing.assert_array_equal(Postprocessing(**steps)(labels, 1.0, CLASSES), labels)


def test_regions_are_cleaned_each_by_itself() -> None:
    """A far part of the core goes, and stays part of the whole around it."""
    regions = Labelling.of_regions({"whole": [1, 2], "core": [2]}, [1, 2])
    labels = np.array([0, 1, 2, 2, 1, 2, 1, 0, 1], np.uint8).reshape(9, 1, 1)
    kept = Postprocessing(keep_largest=[2])(labels, 1.0, regions)
    assert kept.flatten().tolist() == [0, 1, 2, 2, 1, 1, 1, 0, 1]
    both = Postprocessing(keep_largest=[1, 2])(labels, 1.0, regions)
    assert both.flatten().tolist() == [0, 1, 2, 2, 1, 1, 1, 0, 0]
    small = Postprocessing(min_volume={1: 2.0})(labels, 1.0, regions)
    assert small.flatten().tolist() == [0, 1, 2, 2, 1, 2, 1, 0, 0]
    np.testing.assert_array_equal(Postprocessing()(labels, 1.0, regions), labels)
