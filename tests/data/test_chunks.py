from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from medseg.data.chunks import ChunkedArray, DamagedError

ARRAYS = arrays_of.arrays(
    st.sampled_from([np.float32, np.uint8, np.int32, np.int64]),
    arrays_of.array_shapes(max_dims=4, max_side=9, min_side=0),
)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("chunks") / "array"


@given(data=st.data())
@settings(max_examples=200, deadline=None)
def test_any_region_is_the_slice_of_the_whole_to_the_bit(path: Path, data: st.DataObject) -> None:
    array = data.draw(ARRAYS)
    chunk = [data.draw(st.integers(1, 6)) for _ in array.shape]
    bounds = [sorted(data.draw(st.tuples(*[st.integers(0, n)] * 2))) for n in array.shape]
    region = [slice(*ends) for ends in bounds]
    stored = ChunkedArray.write(path, array, chunk)
    assert ChunkedArray.of(path, stored.plain()) == stored
    for found, right in (
        (stored.read(region), array[tuple(region)]),
        (stored.read(), array),
    ):
        assert (found.dtype, found.shape) == (right.dtype, right.shape)
        assert found.tobytes() == right.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("density", [0.0, 0.001, 1.0])
def test_large_chunks_keep_constant_sparse_and_noisy_arrays(
    path: Path, dtype: type, density: float
) -> None:
    rng = np.random.default_rng(0)
    array = np.where(rng.random((53, 37, 33)) < density, rng.integers(0, 99, (53, 37, 33)), 7)
    array = array.astype(dtype)
    assert ChunkedArray.write(path, array, (32, 32, 32)).read().tobytes() == array.tobytes()


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_byte_is_altered_it_is_never_read_as_right(
    path: Path, data: st.DataObject
) -> None:
    array = np.arange(7 * 6 * 5, dtype=np.float32).reshape(7, 6, 5)
    stored = ChunkedArray.write(path, array, (3, 4, 5))
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content[: data.draw(st.sampled_from([place, len(content)]))])
    with pytest.raises(DamagedError):
        stored.read()
    with pytest.raises(DamagedError):
        stored.check(thorough=True)


def test_only_what_a_region_touches_is_read_and_checked(path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    stored = ChunkedArray.write(path, array, (4, 4))
    content = bytearray(path.read_bytes())
    content[0] ^= 1  # of the first chunk
    path.write_bytes(content)
    stored.check(thorough=False)
    assert (stored.read([slice(4, 8), slice(0, 8)]) == array[4:]).all()
    with pytest.raises(DamagedError):
        stored.read([slice(0, 1), slice(0, 1)])
