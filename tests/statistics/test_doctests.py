"""The examples in the docstrings are true."""

import doctest
import importlib
import pkgutil

import pytest

import medseg.statistics

MODULES = [
    module.name
    for module in pkgutil.walk_packages(medseg.statistics.__path__, "medseg.statistics.")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_example_is_true(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_there_is_an_example() -> None:
    module = importlib.import_module("medseg.statistics.corrections")
    assert doctest.testmod(module).attempted > 0
