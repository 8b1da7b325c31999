"""The only caller of Hydra's `instantiate`: configuration → objects, from an allow-list.

A `_target_` is code that runs. Networks are not built here but from names
(`medseg.models.description`), in training as in prediction.
"""

from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import OmegaConf

from medseg.errors import ConfigError

_ALLOWED = ("medseg.data.", "monai.losses.", "torch.optim.")


def instantiate_allowed(config: Any) -> Any:
    """Builds what a configuration describes.

    Raises:
        ConfigError: a `_target_` outside the allow-list, or arguments that its class refuses.
    """
    plain = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    _check_targets(plain)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__ or error
        raise ConfigError(f"{_target_of(plain)}: {cause}") from error


def _check_targets(config: Any) -> None:
    match config:
        case Mapping():
            target = config.get("_target_")
            if target is not None:
                _check_target(str(target))
            for value in config.values():
                _check_targets(value)
        case list() | tuple():
            for value in config:
                _check_targets(value)
        case str() if "${" in config:
            # Hydra would resolve it after this check, into a `_target_` that was never looked at
            raise ConfigError(f"{config!r} is an interpolation in a value; write the value itself")


def _check_target(target: str) -> None:
    # the class itself is looked at as well: a module also exposes whatever it imports
    if target.startswith(_ALLOWED):
        try:
            found = get_class(target)
        except (ImportError, AttributeError, ValueError) as error:
            raise ConfigError(f"_target_={target!r} cannot be found: {error}") from error
        if found.__module__.startswith(_ALLOWED):
            return
    raise ConfigError(f"_target_={target!r} is not allowed; use a class of {', '.join(_ALLOWED)}")


def _target_of(config: Any) -> str:
    return str(config.get("_target_", config)) if isinstance(config, Mapping) else str(config)
