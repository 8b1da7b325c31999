"""`medseg train`: Hydra overrides in, one run or a sweep of runs out."""

import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.cli.errors import report_error
from medseg.cli.resolvers import CONFIG, register_resolvers
from medseg.errors import ConfigError, MedsegError, ResourceError, SignalError
from medseg.files import write_text

log = logging.getLogger(__name__)


class ArmFailedError(MedsegError):
    """One arm of a sweep failed; its record says why."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code

    def __reduce__(self) -> tuple:
        return ArmFailedError, (str(self), self.exit_code)


def main() -> int:
    """Trains; returns the exit code (see `medseg.errors`)."""
    # Hydra then hands its exceptions over instead of printing them and leaving with 1
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # argparse does not take overrides on both sides of a flag
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    register_resolvers()
    former = signal.signal(signal.SIGTERM, _stop)
    try:
        _train()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except (HydraException, OmegaConfBaseException) as error:
        return report_error(ConfigError(_words(error)))
    except MedsegError as error:
        return report_error(error)
    except KeyboardInterrupt:
        return report_error(SignalError(signal.SIGINT))
    except OSError as error:
        remedy = "choose a folder that can be written with runs=FOLDER"
        return report_error(ResourceError(f"{error.filename}: {error.strerror}; {remedy}"))
    finally:
        signal.signal(signal.SIGTERM, former)
    return 0


def _stop(signum: int, _frame: FrameType | None) -> None:
    raise SignalError(signum)


@hydra.main(version_base="1.3", config_path="pkg://medseg.configs", config_name="train")
def _train(config: DictConfig) -> None:
    from medseg.runs.run import Request, run  # heavy: torch, MONAI, Lightning

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    try:
        request = Request(
            config=_plain_config(config, folder),
            folder=folder,
            command=sys.argv,
            choices=_choices(config, settings.runtime.choices),
            overrides=list(settings.overrides.task),
            sweep=_grid(settings),
        )
        log.info("the run goes to %s", folder)
        run(request)
    except MedsegError as error:
        code = report_error(error)
        if settings.mode != RunMode.MULTIRUN or isinstance(error, SignalError):
            sys.exit(code)  # a signal leaves the sweep as well
        # an exception that crosses to other processes and lets the other arms go on
        raise ArmFailedError(f"an arm failed: {folder}: {error}", code) from None
    log.info("done; next: medseg report %s -o report.html", folder.parent)


def _plain_config(config: DictConfig, folder: Path) -> dict[str, Any]:
    """The resolved configuration; that of the run which is continued, if there is one."""
    if config.resume:
        config = _continued(folder, HydraConfig.get().overrides.task)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    write_text(folder / CONFIG, yaml.safe_dump(plain, sort_keys=False))
    return plain


def _continued(folder: Path, overrides: list[str]) -> DictConfig:
    config: Any = OmegaConf.create(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8")))
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "resume":
            continue
        if OmegaConf.select(config, key) is None:
            raise ConfigError(
                f"{override}: a run that is continued keeps its blocks; "
                "only values such as trainer.epochs can be changed"
            )
        OmegaConf.update(config, key, yaml.safe_load(value))
    return config


def _grid(settings: Any) -> dict[str, list[str]] | None:
    """Override key → all values of the sweep this run is a cell of."""
    if settings.mode != RunMode.MULTIRUN:
        return None
    given = [a for a in sys.argv[1:] if "=" in a and not a.startswith("-")]
    preset = [f"{k}={v}" for k, v in (settings.sweeper.params or {}).items()]
    grid: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*preset, *given]):
        if override.is_sweep_override():
            values = list(override.sweep_string_iterator())
        elif override.get_key_element() in grid:
            values = [str(override.get_value_element_as_str())]
        else:
            continue
        grid[override.get_key_element()] = values
    return grid


def _choices(config: DictConfig, chosen: Mapping[str, Any]) -> dict[str, str]:
    """Slot → option: `conv@model.encoder.conv` becomes `encoder.conv`, `data` stays `data`.

    A slot that the configuration points at another (`${..encoder.conv}`) has that one's option.
    """
    options = {
        key.rpartition("@")[2]: option
        for key, option in chosen.items()
        if option is not None and not key.startswith("hydra/")
    }
    for path in options:
        parent, _, key = path.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        if isinstance(node, DictConfig) and key in node and OmegaConf.is_interpolation(node, key):
            options[path] = options.get(node[key]._get_full_key(None), options[path])
    return {path.removeprefix("model."): option for path, option in options.items()}


def _words(error: BaseException) -> str:
    """Hydra's message on one line; some of its errors leave it to their cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(line for line in lines if not line.startswith(("full_key", "object_type")))
    if not text and error.__cause__ is not None:
        return _words(error.__cause__)
    return text or type(error).__name__


if __name__ == "__main__":
    sys.exit(main())
