"""Configurations composed by Hydra, and the networks and data that they describe."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.errors import ConfigError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from medseg.models.description import Description


@contextmanager
def hydra_session() -> Iterator["Hydra"]:
    """Yields a Hydra that knows medseg's configurations.

    Raises:
        ConfigError: whatever Hydra answers to overrides that it cannot use.
    """
    register_resolvers()
    try:
        with initialize_config_module("medseg.configs", version_base="1.3", job_name="train"):
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            yield hydra
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(_one_line(error)) from error


def register_resolvers() -> None:
    """Makes `${dataset_json:ROOT,FIELD}` known; may be called more than once."""
    OmegaConf.register_new_resolver("dataset_json", _dataset_json, replace=True)


def option_names(group: str) -> list[str]:
    """The options of a group, in alphabetical order."""
    return dict(groups())[group]


def groups(*folders: Path | None) -> list[tuple[str, list[str]]]:
    """The groups of medseg's configurations and of further folders, each with its options.

    Hydra lists them too, but takes seconds for it.
    """
    found: dict[str, set[str]] = {}
    for root in (Path(str(files("medseg.configs"))), *filter(None, folders)):
        for path in root.glob("**/*.yaml"):
            group = path.parent.relative_to(root).as_posix()
            if group != "." and not group.startswith("hydra") and path.parent.name != "base":
                found.setdefault(group, set()).add(path.stem)
    return sorted((group, sorted(names)) for group, names in found.items())


def described(config: str, key: str, *overrides: str) -> Any:
    """The description of the network or block below a key of a composed configuration.

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
    with hydra_session() as hydra:
        chosen = hydra.compose_config(config, list(overrides), RunMode.RUN, from_shell=False)[key]
        return OmegaConf.to_container(chosen, resolve=True)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A network and the data that it is given.

    Args:
        overrides: Of the training configuration.
        network: Its description.
        in_channels: Channels of the image.
        patch_size: In voxels.
        batch_size: Patches at once.
        spacing: In mm along the network's axes; None where each case keeps its own.
    """

    overrides: tuple[str, ...]
    network: "Description"
    in_channels: int
    patch_size: tuple[int, ...]
    batch_size: int
    spacing: tuple[float, ...] | None


def compose_arm(overrides: Sequence[str]) -> Arm:
    """Composes the network and the data that overrides of the training configuration choose.

    Raises:
        ConfigError: an override that does not fit.
    """
    data = composed("train", "data", *overrides)
    spacing = data["spacing"]
    if spacing is not None:
        across = data["slice_axis"] if data["spatial_dims"] == 2 else None
        spacing = tuple(mm for axis, mm in enumerate(spacing) if axis != across)
    return Arm(
        overrides=tuple(overrides),
        network=described("train", "model", *overrides),
        in_channels=data["in_channels"],
        patch_size=tuple(data["patch_size"]),
        batch_size=data["batch_size"],
        spacing=spacing,
    )


def _dataset_json(root: str, field: str) -> Any:
    """What a dataset's own `dataset.json` says of its channels and classes."""
    from medseg.data.folder import read_dataset

    if field not in ("in_channels", "num_classes"):
        raise ConfigError(f"dataset_json has no {field!r}; use in_channels or num_classes")
    return getattr(read_dataset(Path(root)), field)


def _one_line(error: BaseException) -> str:
    """Hydra's message on one line; some of its errors leave it to their cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
    if not text and error.__cause__ is not None:
        return _one_line(error.__cause__)
    return text or type(error).__name__
