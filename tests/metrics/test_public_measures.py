"""Every public measure of weights shows itself by an example (`test_doctests` runs them)."""

import pytest

from medseg.metrics import checkerboard


@pytest.mark.parametrize("name", sorted(set(checkerboard.__all__) - {"constant_response"}))
def test_it_has_an_example(name) -> None:
    assert ">>>" in getattr(checkerboard, name).__doc__
