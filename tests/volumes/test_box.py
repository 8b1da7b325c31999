"""The box around what is not 0, cut out and put back."""

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.affines import apply_affine

from medseg.volumes import Box, Volume

AsVolume = Callable[..., Volume]
OBLIQUE = np.array([[0.0, -1.25, 0.1, 3], [1.1, 0, 0, -7], [0, 0.1, 1.5, 2], [0, 0, 0, 1]])


def test_the_box_of_a_cuboid_spans_all_channels() -> None:
    image = np.zeros((2, 9, 8, 7), np.float32)
    image[0, 2:5, 3, 1:6] = -1
    image[1, 4:8, 2:4, 2] = 1e-30
    box = Box.of_content(image)
    assert box.places == (slice(2, 8), slice(2, 4), slice(1, 6))
    assert (box.shape, box.whole) == ((6, 2, 5), (9, 8, 7))


def test_what_is_all_0_is_kept_whole() -> None:
    assert Box.of_content(np.zeros((2, 3, 4, 5), np.float32)).shape == (3, 4, 5)


@settings(max_examples=50, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    pads=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3),
    turned=st.permutations(range(3)),
    flipped=st.sets(st.integers(1, 3)),
    seed=st.integers(0, 99),
)
def test_what_is_put_back_is_what_was_cut(
    shape: tuple, pads: list, turned: list, flipped: set, seed: int, as_volume: AsVolume
) -> None:
    rng = np.random.default_rng(seed)
    inside = rng.choice([0, 1, -2], size=(2, *shape), p=[0.5, 0.3, 0.2]).astype(np.float32)
    array = np.pad(inside, [(0, 0), *pads])
    array = np.flip(array.transpose(0, *(1 + axis for axis in turned)), tuple(flipped))
    volume = as_volume(array, OBLIQUE)
    box = Box.of_content(array)
    part = box.cut(volume)
    assert part.array.shape[1:] == box.shape
    np.testing.assert_array_equal(box.put_back(part.array), array)
    marked = box.put_back(np.ones(box.shape), outside=7)
    assert np.count_nonzero(marked == 1) == np.prod(box.shape)
    assert not array[:, marked == 7].any()
    # no plane at a face of the box is all 0, so that no smaller one would do
    for axis in range(1, 4) if array.any() else ():
        assert part.array.take(0, axis).any()
        assert part.array.take(-1, axis).any()
    # every voxel lies in the patient where it lay
    first = [place.start for place in box.places]
    np.testing.assert_allclose(
        apply_affine(part.geometry.affine, [0, 0, 0]), apply_affine(OBLIQUE, first), atol=1e-9
    )
