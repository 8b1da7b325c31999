"""What label values and outputs mean: nnU-Net's rule, and orders that lose nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medseg.labelling import Labelling

BRATS = Labelling.of_regions({"whole": [1, 2, 3], "core": [1, 3], "enhancing": 3}, [2, 1, 3])
UNION = Labelling.of_regions({"both": [1, 2], "one": [1], "two": [2]}, [2, 1, 2])
MEETING = Labelling.of_regions({"a": [1, 3], "b": [2, 3], "overlap": [3]}, [1, 2, 3])
LABELLINGS = [BRATS, UNION, MEETING]
CLASSES = Labelling(("one", "two"))


def like_nnunet(labelling: Labelling, probabilities: np.ndarray) -> np.ndarray:
    """Voxel by voxel: each region in turn writes its value where it is above one half."""
    found = np.zeros(probabilities.shape[1:], int)
    for place in np.ndindex(found.shape):
        for region, value in enumerate(labelling.order):
            if probabilities[(region, *place)] > 0.5:
                found[place] = value
    return found


@given(st.sampled_from(LABELLINGS), st.integers(0, 2**31), st.integers(0, 2))
def test_a_label_map_has_the_value_of_the_last_region_above_one_half(labelling, seed, dim) -> None:
    logits = torch.randn((3, 4, 5), generator=torch.Generator().manual_seed(seed))
    probabilities = labelling.probabilities(logits).numpy()
    expected = like_nnunet(labelling, probabilities)
    moved = logits.movedim(0, dim)
    np.testing.assert_array_equal(labelling.label_map(moved, dim), expected)
    strongest = labelling.strongest(torch.from_numpy(probabilities).movedim(0, dim), dim).numpy()
    np.testing.assert_array_equal(labelling.written_as(strongest), expected)


@pytest.mark.parametrize("labelling", LABELLINGS, ids=str)
def test_masks_of_a_label_map_lose_no_region_when_they_are_written_again(labelling) -> None:
    labels = np.arange(labelling.ignored)
    masks = [labelling.mask(labels, index) for index in range(labelling.outputs)]
    for index, values in enumerate(labelling.regions):
        np.testing.assert_array_equal(masks[index], np.isin(labels, values))
    again = labelling.composed(masks)
    for index, mask in enumerate(masks):
        np.testing.assert_array_equal(labelling.mask(again, index), mask)


def test_label_values_are_named_by_what_they_hold_alone() -> None:
    assert BRATS.value_names == ("core without enhancing", "whole without core", "enhancing")
    assert MEETING.value_names == ("a without overlap", "b without overlap", "overlap")
    assert CLASSES.value_names == CLASSES.names
    unwritten = Labelling.of_regions({"whole": [1, 2, 3], "core": [2, 3]}, [1, 2])
    assert len({*unwritten.value_names}) == 3


def test_classes_are_a_softmax_and_the_strongest() -> None:
    logits = torch.randn(3, 6)
    assert (CLASSES.outputs, CLASSES.ignored, CLASSES.output_names[0]) == (3, 3, "background")
    torch.testing.assert_close(CLASSES.probabilities(logits), logits.softmax(0))
    assert CLASSES.label_map(logits).equal(logits.argmax(0))
    torch.testing.assert_close(CLASSES.contrasts(logits), logits[1:] - logits[:1])
    assert BRATS.contrasts(logits) is logits
    assert (BRATS.outputs, BRATS.ignored, BRATS.output_names) == (3, 4, BRATS.names)


WHOLE: dict[str, Any] = {"whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}


@pytest.mark.parametrize(
    ("regions", "order"),
    [
        (WHOLE, None),
        (WHOLE, [1, 2]),
        (WHOLE, [1, 2, 3, 4]),
        (WHOLE, [1, 1, 3]),  # core would be lost
        (WHOLE, [3, 2, 1]),  # whole alone would be read as enhancing
        (WHOLE, [1, 2, 7]),
        (WHOLE | {"edge": [5]}, [1, 2, 3, 5]),  # no value 4
        ({"a": [1, 3], "b": [2, 3]}, [1, 2]),  # where they meet, only b would be left
        ({"core": [2], "whole": [1, 2]}, [2, 1]),  # the outer one overwrites the inner
        ({"whole": [1, 2]}, [1]),
    ],
    ids=str,
)
def test_an_order_that_would_lose_a_region_is_refused(regions, order) -> None:
    with pytest.raises(ValueError, match="region"):
        Labelling.of_regions(regions, order)


def test_it_is_the_same_after_it_was_stored() -> None:
    for labelling in (*LABELLINGS, CLASSES):
        plain = labelling.plain()
        again = Labelling.of_plain(
            list(labelling.names), plain["regions"], plain["regions_class_order"]
        )
        assert again == labelling
