"""Many small tables and corrections."""

from collections.abc import Iterator

import pytest

from .simulated import without_garbage


@pytest.fixture(scope="module", autouse=True)
def _no_garbage() -> Iterator[None]:
    with without_garbage():
        yield
