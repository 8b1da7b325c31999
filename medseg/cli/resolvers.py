"""What configuration files may compute: `${dataset_json:…}` and `${run_folder:…}`."""

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from medseg.errors import ConfigError

CONFIG = "config.yaml"


def register_resolvers() -> None:
    """Makes the resolvers known; may be called more than once."""
    OmegaConf.register_new_resolver("dataset_json", _dataset_json, replace=True)
    OmegaConf.register_new_resolver("run_folder", _run_folder, replace=True)


def _dataset_json(root: str, field: str) -> Any:
    """What a dataset's own `dataset.json` says of its channels and classes."""
    from medseg.data.folder import read_dataset

    if field not in ("in_channels", "num_classes"):
        raise ConfigError(f"dataset_json has no {field!r}; use in_channels or num_classes")
    return getattr(read_dataset(Path(root)), field)


def _run_folder(resume: str | None, fresh: str) -> str:
    """The folder of the run that is continued, or a new one."""
    if resume and not Path(resume, CONFIG).is_file():
        raise ConfigError(f"resume={resume}: no {CONFIG} is there; name the folder of a run")
    return resume or fresh
