"""Hydra's own settings: they name classes, loggers and environment variables, so they are code.

medseg's files and the command line may change them. A file of another folder (`--config-dir`) may
come from anywhere; it describes runs alone, and downloads nothing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from medseg.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

CONFIG_NAME = "train"
_CODE = ("callbacks", "hydra_logging", "job_logging", "launcher", "sweeper", "output_subdir")
_CODE += ("job.env_set", "job.env_copy", "job.chdir")


def hydra_config(
    hydra: "Hydra", overrides: Sequence[str], mode: RunMode, *, logs: bool = False
) -> DictConfig:
    """The training configuration with Hydra's own part.

    Args:
        hydra: Composes.
        overrides: Of the command line.
        mode: Whether of one run or of many.
        logs: Whether Hydra's own log is set up as the configuration says.

    Raises:
        ConfigError: a file of `--config-dir` changes how Hydra runs.
        HydraException: an override that does not fit.
    """
    config = hydra.compose_config(CONFIG_NAME, list(overrides), mode)
    own = [text for text in overrides if text.lstrip("+~").startswith(("hydra.", "hydra/"))]
    if any("hydra.searchpath" in text for text in own):
        trusted = hydra.compose_config(CONFIG_NAME, own, mode)
        require_settings_of(trusted, config)
        _require_own_download(config, overrides)
    if logs:
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
    return config


def require_settings_of(trusted: DictConfig, config: DictConfig) -> None:
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


def _require_own_download(config: DictConfig, overrides: Sequence[str]) -> None:
    keys = ("data.download", "data.source.download")
    asked = any(text.lstrip("+").startswith(keys) for text in overrides)
    if not asked and any(OmegaConf.select(config, key) for key in keys):
        raise ConfigError(
            "data.download: a file of --config-dir sets it, and only you may ask the network; "
            "give data.download=true on the command line"
        )


def _plain(config: DictConfig, key: str) -> Any:
    """A setting as it is written; a sweeper's parameters describe runs, and do not count."""
    node = OmegaConf.select(config.hydra, key, throw_on_resolution_failure=False)
    plain = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
    return {k: v for k, v in plain.items() if k != "params"} if isinstance(plain, dict) else plain
