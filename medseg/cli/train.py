"""`medseg train`: Hydra overrides in, one run or an ablation out."""

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
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from medseg.cli.errors import report_error
from medseg.cli.resolvers import CONFIG, register_resolvers
from medseg.cli.sweeper import ArmFailedError, register_sweeper
from medseg.errors import ConfigError, MedsegError, ResourceError, SignalError
from medseg.files import write_text
from medseg.record import PLAN_FILE, AblationPlan

log = logging.getLogger(__name__)

register_resolvers()  # here, so that another process that a launcher starts knows them as well


def main() -> int:
    """Trains; returns the exit code (see `medseg.errors`)."""
    # Hydra then hands its exceptions over instead of printing them and leaving with 1
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # argparse does not take overrides on both sides of a flag
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda word: word not in ("-m", "--multirun"))
    register_sweeper()
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
    from medseg.experiment.ledger import is_completed
    from medseg.experiment.run import Request, run  # heavy: torch, MONAI, Lightning

    settings = HydraConfig.get()
    folder = Path(settings.runtime.output_dir)
    in_ablation = settings.mode == RunMode.MULTIRUN
    try:
        plan = AblationPlan.read(folder.parent / PLAN_FILE) if in_ablation else None
        cell = plan.cell(folder.name) if plan else None
        if cell and is_completed(folder, cell.digest):
            log.info("%s is completed already", folder)
            return
        request = Request(
            config=_plain_config(config, folder),
            folder=folder,
            command=plan.command if plan else sys.argv,
            choices=_choices(config, settings.runtime.choices),
            overrides=list(settings.overrides.task),
            cell=cell,
        )
        log.info("the run goes to %s", folder)
        run(request)
    except MedsegError as error:
        code = report_error(error)
        if not in_ablation or (isinstance(error, SignalError) and _leaves(settings)):
            sys.exit(code)
        # an exception that crosses to other processes and lets the other runs go on
        raise ArmFailedError(f"a run failed: {folder}: {error}", code) from None
    if not in_ablation:
        log.info("done; next: medseg report %s -o report.html", folder.parent)


def _leaves(settings: Any) -> bool:
    """Whether a signal to a run ends its process, and not the run alone.

    One process for all runs: a signal means all of them. A job of SLURM, which will be queued
    again: a result, were it an exception, would tell whoever waits for it that the job is over.
    """
    return settings.launcher._target_.endswith(("BasicLauncher", "SlurmLauncher"))


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
