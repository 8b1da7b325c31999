"""The files that configurations are composed of, each read once a process."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_module
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.plugins.config_source import ConfigResult

_READ: dict[tuple[Any, ...], ConfigResult | None] = {}
_NEVER_CHANGE = ("pkg", "structured")  # files of installed packages, and classes


class _Repository(ConfigRepository):
    """Hydra's, which would read and parse each of thirty files anew at every composition."""

    def load_config(self, config_path: str) -> ConfigResult | None:
        sources = tuple((source.scheme(), source.path) for source in self.sources)
        if not all(scheme in _NEVER_CHANGE for scheme, _ in sources):
            return super().load_config(config_path)
        key = (*sources, config_path)
        if key not in _READ:
            _READ[key] = super().load_config(config_path)
        return copy.deepcopy(_READ[key])  # what composes changes it


@contextmanager
def open_hydra() -> Iterator[Hydra]:
    """Yields a Hydra that composes medseg's configurations."""
    with initialize_config_module("medseg.configs", version_base="1.3", job_name="train"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        loader: Any = hydra.config_loader
        loader.repository = _Repository(loader.config_search_path)
        yield hydra
