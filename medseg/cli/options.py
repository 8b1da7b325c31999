"""What the configuration offers: the options of a group, composed into descriptions."""

from importlib.resources import files
from typing import Any

from medseg.errors import ConfigError


def option_names(group: str) -> list[str]:
    """The options of a group, in alphabetical order."""
    folder = files("medseg.configs").joinpath(group)
    names = (entry.name for entry in folder.iterdir() if entry.is_file())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def described(config: str, key: str, *overrides: str) -> Any:
    """The description below a key of a composed configuration.

    Raises:
        ConfigError: an override that does not fit.
    """
    from medseg.models.description import describe

    return describe(composed(config, key, *overrides))


def composed(config: str, key: str, *overrides: str) -> Any:
    """The plain values below a key of a composed configuration.

    Raises:
        ConfigError: an override that does not fit.
    """
    from hydra import compose, initialize_config_module
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from medseg.cli.resolvers import register_resolvers

    register_resolvers()
    try:
        with initialize_config_module("medseg.configs", version_base="1.3"):
            chosen = compose(config, overrides=list(overrides))[key]
        return OmegaConf.to_container(chosen, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{config} {' '.join(overrides)}: {reason}") from error
