"""Every public measure shows itself by an example."""

import inspect

import pytest

from medseg import checkerboard

FUNCTIONS = [
    name for name in checkerboard.__all__ if inspect.isfunction(getattr(checkerboard, name))
]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_has_an_example(name) -> None:
    assert ">>>" in getattr(checkerboard, name).__doc__
