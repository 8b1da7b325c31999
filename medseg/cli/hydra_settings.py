"""Hydra opened, and its own settings: they name classes, loggers and variables, so they are code.

medseg's files and the command line may change them. A file of another folder (`--config-dir`) may
come from anywhere; it describes runs alone, and downloads nothing.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import initialize_config_module
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import configure_log
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from medseg.errors import ConfigError

CONFIG_NAME = "train"
_CODE = ("callbacks", "hydra_logging", "job_logging", "launcher", "sweeper", "output_subdir")
_CODE += ("job.env_set", "job.env_copy", "job.chdir")


def hydra_config(
    hydra: Hydra, overrides: Sequence[str], mode: RunMode, *, logs: bool = False
) -> DictConfig:
    """The training configuration with Hydra's own part, whose log is set up if `logs`.

    Raises:
        ConfigError: a file of `--config-dir` changes how Hydra runs.
        HydraException: an override that does not fit.
    """
    config = hydra.compose_config(CONFIG_NAME, list(overrides), mode)
    own = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if _searches(own):
        trusted = hydra.compose_config(CONFIG_NAME, own, mode)
        _require_settings_of(trusted, config)
        _require_own_network(config, overrides)
    if logs:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return config


def _require_settings_of(trusted: DictConfig, config: DictConfig) -> None:
    """Checks that a configuration runs as a trusted one does, whatever it runs.

    Raises:
        ConfigError: a setting differs that can run code.
    """
    for key in _CODE:
        if _plain(config, key) != _plain(trusted, key):
            raise ConfigError(
                f"hydra.{key}: a file of the configuration changes it, and it can run code; "
                "take it out there, and give it on the command line if it is wanted"
            )


def require_same_trust(asked: DictConfig, arm: DictConfig) -> None:
    """Checks that an arm of an ablation does what the command that plans it may do.

    Args:
        asked: What the command composed.
        arm: The same with the overrides of the arm's levels, which a file may have brought.

    Raises:
        ConfigError: the arm changes how Hydra runs, or a file of `--config-dir` has it ask the
            network.
    """
    _require_settings_of(asked, arm)
    own = asked.hydra.overrides
    if _searches(own.hydra):
        _require_own_network(arm, OmegaConf.to_container(own.task, resolve=False))


def _searches(overrides: Iterable[str]) -> bool:
    """Whether configuration comes from further folders, such as `--config-dir`."""
    return any("hydra.searchpath" in text for text in overrides)


def _require_own_network(config: DictConfig, overrides: Any) -> None:
    keys = ("data.download", "data.source.download")
    asked = any(text.lstrip("+").startswith(keys) for text in overrides)
    if not asked and any(OmegaConf.select(config, key) for key in keys):
        raise ConfigError(
            "data.download: a file of --config-dir sets it, and only you may ask the network; "
            "give data.download=true on the command line"
        )
    logger = OmegaConf.select(config, "trainer.logger")
    is_own = any(text.lstrip("+").startswith("trainer.logger=") for text in overrides)
    if logger not in (None, "tensorboard") and not is_own:
        raise ConfigError(
            f"trainer.logger: a file of --config-dir sets it to {logger}, and only you may ask the "
            f"network; give trainer.logger={logger} on the command line"
        )


def _plain(config: DictConfig, key: str) -> Any:
    """A setting as it is written; a sweeper's parameters describe runs, and do not count."""
    node = OmegaConf.select(config.hydra, key, throw_on_resolution_failure=False)
    plain = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    return {k: v for k, v in plain.items() if k != "params"} if isinstance(plain, dict) else plain


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
