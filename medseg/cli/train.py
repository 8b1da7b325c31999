"""`medseg train`: Hydra overrides in; one run, a cross-validation or an ablation out."""

import argparse
import logging
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra._internal.callbacks import Callbacks
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.core.utils import run_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, read_write

from medseg.cli.ablate import ablate
from medseg.cli.command import Parser, report_error, run_to_exit_code
from medseg.cli.compose import (
    CONFIG_NAME,
    asked_by,
    groups,
    hydra_session,
    job_config,
    parsed,
    plain_task,
    print_configuration,
)
from medseg.cli.overrides import asks_for_all_folds, readable, require_mode, values_of
from medseg.cli.planned import planned_words, require_same_dataset, with_plans
from medseg.cli.resume import continued
from medseg.errors import ConfigError, MedsegError, SignalError
from medseg.experiment.effects import require_effect
from medseg.experiment.schema import ALL_FOLDS

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from medseg.experiment.plan import Plan

log = logging.getLogger(__name__)

_EARLY_LINES = 1000
_HELP = """\
Trains one network and records the run.

Usage: medseg train [group=option] [key=value] ...     (the same as scripts/train.py)

Options by group:
{groups}

Examples:
  medseg train
  medseg train data=hippocampus data.root=DIR trainer.epochs=20
  medseg train data=folder data.root=DIR
  medseg train plan=FILE                     what `medseg plan DIR` wrote
  medseg train conv@model.encoder.conv=dilated model.encoder.conv.dilation=3
  medseg train conv@model.decoder.conv=grouped upsample@model.decoder.upsample=bilinear
  medseg train downsample@model.encoder.downsample=max_pool
  medseg train unit@model.encoder.unit=residual unit@model.decoder.unit=residual
  medseg train model=attention_unet size@model.encoder=base
  medseg train +conv@model.encoder.stage.2.conv=dilated
  medseg train conv@model.encoder.conv=standard,dilated seed=0,1 -m
  medseg train data=hippocampus data.root=DIR data.folds=5         all folds, and their ensemble
  medseg train data=hippocampus data.root=DIR data.folds=5 data.fold=2
  medseg train resume=runs/mni152/2026-01-31_12-00-00
  medseg train resume=runs/mni152/2026-01-31_12-00-00 trainer.epochs=40
  medseg train data=hippocampus data.root=DIR init=runs/mni152/2026-01-31_12-00-00

`--cfg job` prints the configuration without training; `--resolve` fills it in; `--hydra-help` lists
Hydra's own options."""


def main(argv: Sequence[str] | None = None) -> int:
    """Trains; returns the exit code (see `medseg.errors`)."""
    words = sys.argv[1:] if argv is None else list(argv)
    arguments = _parser().parse_intermixed_args(words)
    command_line = ["medseg", "train", *words]
    return run_to_exit_code(lambda: _train(arguments, command_line), log_level=logging.INFO)


def _train(arguments: argparse.Namespace, command_line: list[str]) -> int:
    if (own := arguments.config_dir) is not None:
        if not own.is_dir():
            raise ConfigError(f"--config-dir={own} is not there; name a folder")
        place = QuotedString(text=f"file://{own.resolve()}", quote=Quote.single).with_quotes()
        arguments.overrides.append(f"hydra.searchpath=[{place}]")
    if arguments.help:
        lines = (f"{group}: {', '.join(names)}" for group, names in groups(own))
        print(_HELP.format(groups="\n".join(lines)))
        return 0
    if not arguments.cfg and (arguments.resolve or arguments.package):
        raise ConfigError("--resolve and --package change what --cfg prints; give it as well")
    several = arguments.multirun or any(w.startswith("ablation=") for w in arguments.overrides)
    words = with_plans(arguments.overrides)
    words = arguments.overrides = readable(words, several=several)
    with hydra_session() as hydra, _early_lines() as early:
        given = parsed(words)
        if print_configuration(hydra, arguments, _parser()):
            return 0
        if any(o.get_key_element() == "resume" and o.value() for o in given):
            require_mode(given, several=False)
            config, plan, asked = continued(hydra, given)
            return _run(
                hydra, config, plan, early=early, is_new=False, command=command_line, **asked
            )
        lists = next((o.input_line for o in given if o.is_sweep_override()), None)
        several = arguments.multirun or (
            lists is not None and hydra.get_mode(CONFIG_NAME, words) == RunMode.MULTIRUN
        )
        if lists and not several:
            raise ConfigError(f"{lists}: several values; train each of them with -m")
        if several or asks_for_all_folds(given):
            return ablate(hydra, words, command_line)
        config = job_config(hydra, words)
        # as a file of configurations says
        if config.hydra.mode == RunMode.MULTIRUN or config.data.fold == ALL_FOLDS:
            return ablate(hydra, words, command_line)
        if (more := planned_words(config, words, given)) != words:
            config = job_config(hydra, more)
        require_mode(given, several=False)
        plan, asked = _planned(config, given), asked_by(config)
        return _run(hydra, config, plan, early=early, is_new=True, command=command_line, **asked)


@contextmanager
def _early_lines() -> Iterator[MemoryHandler]:
    """Keeps what is logged before there is a run's folder with a log."""
    handler = MemoryHandler(_EARLY_LINES, flushLevel=logging.CRITICAL)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


def _planned(config: DictConfig, given: Sequence[Override]) -> "Plan":
    """Checks all that can be checked before anything is written."""
    task = plain_task(config)
    require_effect(values_of(given), [task])
    from medseg.experiment.folder import require_unused  # heavy: torch
    from medseg.experiment.plan import make_plan

    if _is_chosen(config):
        require_unused(Path(config.hydra.run.dir))
    require_same_dataset(task)
    return make_plan(task)


def _is_chosen(config: DictConfig) -> bool:
    """Whether the user named the run's folder, rather than leave it to the clock."""
    return any(str(word).startswith("hydra.run.dir=") for word in config.hydra.overrides.hydra)


def _run(
    hydra: "Hydra",
    config: DictConfig,
    plan: "Plan",
    *,
    early: MemoryHandler,
    is_new: bool,
    **asked: Any,
) -> int:
    """Runs in Hydra's folder of the job, with its log; returns the exit code."""
    from medseg.experiment.folder import new_folder, require_unused
    from medseg.experiment.run import run
    from medseg.record.lock import alone_in

    folder = Path(config.hydra.run.dir)
    if is_new and not _is_chosen(config):
        folder = new_folder(folder)
        with read_write(config.hydra):
            config.hydra.run.dir = str(folder)

    def train(_config: DictConfig) -> int:
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                early.setTarget(handler)
                early.flush()
        log.info("the run goes to %s", folder)
        try:
            run(plan.config, folder, plan=plan, **asked)
        except MedsegError as error:  # Hydra would print its own lines about it
            code = report_error(error)
            if isinstance(error, SignalError):
                words = ["medseg", "train", f"resume={folder}"]
                print(f"continue with: {shlex.join(words)}", file=sys.stderr)
            return code
        after = ["report", str(folder.parent), "-o", "report.html"]
        if not plan.data.config.holds_out:
            after = ["predict", "-m", str(folder), "-i", "IMAGES", "-o", "OUT"]
        log.info("done; next: medseg %s", shlex.join(after))
        return 0

    with alone_in(folder):
        if is_new:
            require_unused(folder)  # once more: another process may have been here
        context = HydraContext(hydra.config_loader, Callbacks(config))
        done = run_job(train, config, "hydra.run.dir", None, context)
    return done.return_value  # or raises what the job raised


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="medseg train", add_help=False)
    add = parser.add_argument
    add("overrides", nargs="*", metavar="OVERRIDE", help="of the configuration")
    add("-h", "--help", action="store_true", help="list groups and options")
    add("--hydra-help", action="store_true", help="Hydra's own options")
    add("-m", "--multirun", action="store_true", help="train every combination of listed values")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="print, do not train")
    add("--resolve", action="store_true", help="fill in what is printed")
    add("-p", "--package", help="print this part of the configuration")
    kinds = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")
    add("-i", "--info", nargs="?", const="all", choices=kinds, help="of the configuration's origin")
    add("-cd", "--config-dir", type=Path, help="further configurations of yours")
    return parser
