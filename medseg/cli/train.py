"""`medseg train`: Hydra overrides in, one run or an ablation out."""

import argparse
import copy
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from medseg.cli.command import run_to_exit_code
from medseg.cli.compose import groups, hydra_session
from medseg.errors import ConfigError, MedsegError

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from medseg.experiment.run import Request

log = logging.getLogger(__name__)

CONFIG_NAME = "train"

_HELP = """\
Trains one network and records the run.

Usage: medseg train [group=option] [key=value] ...     (the same as scripts/train.py)

Options by group:
{groups}

Examples:
  medseg train
  medseg train data=hippocampus data.root=DIR trainer.epochs=20
  medseg train conv@model.encoder.conv=dilated model.encoder.conv.dilation=3
  medseg train conv@model.decoder.conv=grouped upsample@model.decoder.upsample=bilinear
  medseg train downsample@model.encoder.downsample=max_pool
  medseg train unit@model.encoder.unit=residual unit@model.decoder.unit=residual
  medseg train model=attention_unet size@model.encoder=base
  medseg train +conv@model.encoder.stage.2.conv=dilated
  medseg train conv@model.encoder.conv=standard,dilated seed=0,1 -m
  medseg train resume=runs/mni152/2026-01-31_12-00-00

`--cfg job` prints the configuration without training; `--resolve` fills it in; `--hydra-help` lists
Hydra's own options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code (see `medseg.errors`)."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_intermixed_args(words)
    return run_to_exit_code(
        lambda: _train(arguments, ["medseg", "train", *words]), log_level=logging.INFO
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="medseg train", add_help=False)
    parser.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the configuration")
    parser.add_argument("-h", "--help", action="store_true", help="list groups and options")
    parser.add_argument("--hydra-help", action="store_true", help="Hydra's own options")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="train every combination of listed values"
    )
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="print, do not train")
    parser.add_argument("--resolve", action="store_true", help="fill in what is printed")
    parser.add_argument("-p", "--package", help="print this part of the configuration")
    parser.add_argument(
        "-i",
        "--info",
        nargs="?",
        const="all",
        choices=("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"),
        help="where the configuration comes from",
    )
    parser.add_argument("-cd", "--config-dir", type=Path, help="further configurations of yours")
    return parser


def _train(arguments: argparse.Namespace, command_line: list[str]) -> int:
    overrides = list(arguments.overrides)
    if arguments.config_dir:
        if not arguments.config_dir.is_dir():
            raise ConfigError(f"--config-dir={arguments.config_dir} is not there; name a folder")
        overrides.append(f"hydra.searchpath=['file://{arguments.config_dir.resolve()}']")
    arguments.overrides = overrides
    if arguments.help:
        lines = (f"{group}: {', '.join(names)}" for group, names in groups(arguments.config_dir))
        print(_HELP.format(groups="\n".join(lines)))
        return 0
    with hydra_session() as hydra:
        if _print_only(hydra, arguments):
            return 0
        if arguments.multirun or hydra.get_mode(CONFIG_NAME, overrides) == RunMode.MULTIRUN:
            from medseg.cli.sweep import sweep

            return sweep(hydra, overrides, command_line)
        _train_one(hydra, overrides, command_line)
    return 0


def _print_only(hydra: "Hydra", arguments: argparse.Namespace) -> bool:
    """Prints Hydra's help or a configuration where that is asked for; whether it was."""
    words = arguments.overrides
    if arguments.hydra_help:
        hydra.hydra_help(CONFIG_NAME, _parser(), arguments)
    elif arguments.cfg:
        package, resolve = arguments.package, arguments.resolve
        hydra.show_cfg(CONFIG_NAME, words, arguments.cfg, package, resolve)
    elif arguments.info:
        hydra.show_info(arguments.info, CONFIG_NAME, words)
    else:
        return False
    return True


def _train_one(hydra: "Hydra", overrides: list[str], command_line: list[str]) -> None:
    request, config = _requested(hydra, overrides, command_line)
    from medseg.experiment.run import alone_in, prepare, require_unused, run  # heavy: torch

    if not request.resumes:
        require_unused(request.folder)
    plan = prepare(request)
    refused: list[MedsegError] = []

    def job(_config: DictConfig) -> None:
        log.info("the run goes to %s", request.folder)
        try:
            run(request, plan)
        except MedsegError as error:  # Hydra would print its own lines about it
            refused.append(error)

    with alone_in(request.folder):
        done = run_job(
            task_function=job,
            config=config,
            job_dir_key="hydra.run.dir",
            job_subdir_key=None,
            hydra_context=HydraContext(hydra.config_loader, Callbacks(config)),
        )
    if refused:
        raise refused[0]
    _ = done.return_value  # raises what the job raised
    log.info("done; next: medseg report %s -o report.html", request.folder.parent)


def _requested(
    hydra: "Hydra", overrides: list[str], command_line: list[str]
) -> tuple["Request", DictConfig]:
    """The run that is asked for, new or continued, and Hydra's configuration of its job."""
    parsed = OverridesParser.create(config_loader=hydra.config_loader).parse_overrides(overrides)
    given = {override.get_key_element(): override for override in parsed}
    resume = given.pop("resume").value() if "resume" in given else None
    if resume is None:
        config = hydra.compose_config(CONFIG_NAME, overrides, RunMode.RUN)
        HydraConfig.instance().set_config(config)
        return request_of(config, Path(config.hydra.run.dir), command_line), config
    own = [o.input_line for o in given.values() if _is_hydra(o.get_key_element()) and o.input_line]
    config = hydra.compose_config(CONFIG_NAME, own, RunMode.RUN)
    with read_write(config.hydra.run), open_dict(config.hydra.run):
        config.hydra.run.dir = str(resume)
    changes = {
        key: _plain(override.value()) for key, override in given.items() if not _is_hydra(key)
    }
    return _continued(Path(str(resume)), changes, config, command_line), config


def _continued(
    folder: Path, changes: Mapping[str, Any], config: DictConfig, command_line: list[str]
) -> "Request":
    from medseg.experiment.resume import continued_config, former_record
    from medseg.experiment.run import Request

    record = former_record(folder)
    return Request(
        config=continued_config(folder, changes, cache=config.data.cache),
        folder=folder,
        command=command_line,
        choices=record.choices if record else {},
        overrides=[
            *(record.overrides if record else []),
            *(f"{key}={value}" for key, value in changes.items()),
        ],
        resumes=True,
        builds_data=not changes.keys().isdisjoint(("data.root", "data.download")),
    )


def request_of(config: DictConfig, folder: Path, command_line: list[str], **more: Any) -> "Request":
    """The request for a run that a composed configuration describes."""
    from medseg.experiment.run import Request

    task = copy.deepcopy(config)
    with read_write(task), open_dict(task):
        settings = task.pop("hydra")
    return Request(
        config=OmegaConf.to_container(task, resolve=True),  # type: ignore[arg-type]
        folder=folder,
        command=command_line,
        choices=_choices(task, settings.runtime.choices),
        overrides=list(settings.overrides.task),
        **more,
    )


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


def _is_hydra(key: str) -> bool:
    return key.lstrip("+~").startswith(("hydra.", "hydra/"))


def _plain(value: Any) -> Any:
    """A parsed value without Hydra's marks of quotes."""
    match value:
        case list():
            return [_plain(item) for item in value]
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return getattr(value, "text", value)
