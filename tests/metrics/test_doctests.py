"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import medseg.algebra
import medseg.arithmetic
import medseg.blocks
import medseg.metrics
import medseg.models

MODULES = [
    module.name
    for package in (
        medseg.blocks,
        medseg.models,
        medseg.metrics,
        medseg.arithmetic,
        medseg.algebra,
    )
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_is_true(name) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_is_an_example() -> None:
    module = importlib.import_module("medseg.metrics.checkerboard")
    assert doctest.testmod(module).attempted > 0
