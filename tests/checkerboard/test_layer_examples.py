"""All that is public among measures of weights has an example."""

import importlib
import inspect
import pkgutil

import pytest

from medseg.checkerboard import weights

MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.iter_modules(weights.__path__, f"{weights.__name__}.")
]
PUBLIC = {
    f"{module.__name__.rpartition('.')[2]}.{name}": each
    for module in MODULES
    for name, each in vars(module).items()
    if not name.startswith("_")
    and (inspect.isfunction(each) or inspect.isclass(each))
    and each.__module__ == module.__name__
}


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_it_has_an_example(name) -> None:
    assert ">>>" in inspect.getdoc(PUBLIC[name])
