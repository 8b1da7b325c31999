"""`medseg ablate`: a grid of runs, started or continued; and how far one has come.

Hydra's own sweeper numbers its jobs and cannot continue (hydra#3328). Here every run has a folder
named by the digest of its configuration; the whole grid is written to `ablation.json`; what is not
completed is started through whatever launcher is chosen, and once more what was killed. Repeating
the command is how an ablation is continued.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig

from medseg.cli.command import command, make_parser, positive, report_error, run_to_exit_code
from medseg.cli.compose import arm_composer, hydra_session, overrides_of, parsed
from medseg.cli.hydra_settings import hydra_config
from medseg.cli.overrides import asks_for_all_folds, readable, require_mode, values_of
from medseg.cli.planned import planned_words, require_same_dataset, with_plans
from medseg.errors import ConfigError, DataError, MedsegError
from medseg.experiment.effects import require_effect
from medseg.experiment.schema import ALL_FOLDS
from medseg.formatting import duration

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra

    from medseg.experiment.ledger import Ledger
    from medseg.record import AblationPlan

log = logging.getLogger(__name__)

_EXAMPLES = """\
examples:
  medseg ablate conv_upsample                                  one run after another
  medseg ablate conv_upsample hydra/launcher=joblib hydra.launcher.n_jobs=2
  medseg ablate conv_upsample hydra/launcher=slurm hydra.launcher.partition=gpu
  medseg ablate conv_upsample data=hippocampus ablation.folds=5 ablation.equal=macs
  medseg ablate status runs/conv_upsample                      what is done, and what is left

Repeating a command continues it: completed runs are never made again, killed ones go on from
their last epoch, failed ones are tried once more. An ablation is a file of configs/ablation.
"""
_SHOWN = 20  # runs of one state that are listed
_LISTED_STATES = ("running", "silent", "failed", "interrupted")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs an ablation or shows its state; returns the exit code (see `medseg.errors`)."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["status"]:
        return _status(words[1:])
    overrides = named(_parser().parse_args(words).overrides)

    def start() -> int:
        with hydra_session() as hydra:
            return ablate(hydra, with_plans(overrides), ["medseg", "ablate", *words])

    return run_to_exit_code(start)


def named(words: Sequence[str]) -> list[str]:
    """Overrides in which the name of an ablation, if one stands in front, is an override too."""
    first, *rest = words
    return [first if "=" in first else f"ablation={first}", *rest]


def ablate(hydra: "Hydra", overrides: Sequence[str], command_line: list[str]) -> int:
    """Carries out an ablation: plans it, launches what is not completed; returns the exit code.

    Raises:
        ConfigError: the grid means nothing, an arm cannot be matched in cost, or completed runs
            were measured or drawn in another way.
        DataError: a dataset that cannot be used, or whose classes have other names than those of
            completed runs; no run was started.
    """
    overrides = readable(overrides, several=True)
    given = parsed(overrides)
    if asks_for_all_folds(given):
        overrides.append(f"data.fold={ALL_FOLDS}")
    config = hydra_config(hydra, overrides, RunMode.MULTIRUN, logs=True)
    if config.resume is not None:
        raise ConfigError(
            f"resume={config.resume}: continues a single run; "
            "an ablation is continued by repeating its command"
        )
    require_mode(given, several=True)
    if (words := planned_words(config, overrides, given)) != overrides:
        config = hydra_config(hydra, words, RunMode.MULTIRUN)
    HydraConfig.instance().set_config(config)
    from medseg.cli.launch import launch
    from medseg.experiment.grid import placed, require_same_options
    from medseg.experiment.ledger import Ledger, entry_of
    from medseg.experiment.plan import data_digests

    folder = Path(config.hydra.sweep.dir)
    plan, configs = _plan(hydra, config, command_line, folder)
    if config.data.fold == ALL_FOLDS and plan.is_cross_validation and not _is_chosen(config):
        first = plan.cells[0]  # as a single run, one has a folder of its own
        folder /= f"{len(plan.cells)}folds-seed{first.seed}-{first.digest[:8]}"
        place = readable([f"hydra.sweep.dir={folder}"])
        config = hydra_config(hydra, [*words, *place], RunMode.MULTIRUN)
        HydraConfig.instance().set_config(config)
    try:  # once, before runs would wait for each other, and before anything is written
        data, classes = data_digests(configs)
    except DataError:
        if any(entry_of(cell, folder).is_unfinished for cell in plan.cells):
            raise
        data, classes = {}, {}  # all is done, and stays so where the data are gone
    plan, others = placed(plan, folder, data)
    require_same_options(plan, folder, configs, classes)
    if others:
        log.warning(
            "%s: %d of its runs were trained on other files of the dataset, which changed since; "
            "they stay there, and are no part of the ablation any more", folder, others,
        )  # fmt: skip
    plan.write(folder)
    ledger = Ledger(folder)
    log.info("%s", ledger.counts())
    waiting = [entry for entry in ledger.entries if entry.is_unfinished]
    for _ in range(1 + int(config.ablation.retries)):
        if not waiting:
            break
        cells = [entry.cell for entry in waiting]
        launch(
            hydra,
            config,
            [[*cell.overrides, f"hydra.sweep.subdir={cell.folder}"] for cell in cells],
        )
        ledger = Ledger(folder)
        waiting = [entry for entry in ledger.entries if entry.is_retryable]
    return _report_end(ledger, folder)


def _plan(
    hydra: "Hydra", config: DictConfig, command_line: list[str], folder: Path
) -> tuple["AblationPlan", dict[str, dict[str, Any]]]:
    """The plan, and the configuration of every run by its digest."""
    from medseg.cli.factors import grid_of
    from medseg.experiment.grid import plan_ablation
    from medseg.hardware import choose_device
    from medseg.record import PLAN_FILE, AblationPlan

    presets = config.hydra.sweeper.get("params") or {}
    given = [*(f"{key}={value}" for key, value in presets.items()), *overrides_of(config.hydra)]
    parser = OverridesParser.create(config_loader=hydra.config_loader)
    overrides = parser.parse_overrides(given)
    path, equal, margin = folder / PLAN_FILE, config.ablation.equal, config.ablation.margin
    device = config.trainer.device
    plan, configs = plan_ablation(
        grid_of(config, overrides, parser),
        arm_composer(hydra, config),
        equal=equal,
        known=AblationPlan.read(path).widths if path.exists() else {},
        device=choose_device(device, key="trainer.device") if equal == "latency" else None,
        name=config.name,
        budget="iterations" if config.trainer.max_seconds is None else "seconds",
        margin=margin,
        command=command_line,
    )
    require_effect(values_of(overrides), configs.values())
    for own in {str(c["data"].get("root")): c for c in configs.values()}.values():
        require_same_dataset(own)
    return plan, configs


def _is_chosen(config: DictConfig) -> bool:
    """Whether the user named the folder."""
    return any(str(word).startswith("hydra.sweep.dir=") for word in config.hydra.overrides.hydra)


def _report_end(ledger: "Ledger", folder: Path) -> int:
    log.info("%s", ledger.counts())
    failed = [entry for entry in ledger.entries if entry.is_unfinished]
    for entry in failed:
        log.error("%s: %s: %s", entry.state, entry.cell.folder, entry.error or "no reason")
    if failed:
        report_error(
            MedsegError(
                f"{len(failed)} of {len(ledger.entries)} runs in {folder} have no result; "
                "repeat the command to try them again"
            )
        )
        return max(entry.exit_code or MedsegError.exit_code for entry in failed)
    if going := ledger.count("running"):
        log.info("%d runs are still going in other processes: medseg ablate status", going)
        return 0
    if ledger.plan.is_cross_validation:
        from medseg.experiment.folds import gather

        for line in gather(ledger.plan, folder):
            log.info("%s", line)
        log.info("all folds together: medseg predict -m %s -i IMAGE -o out", folder)
    log.info("done; next: medseg report %s -o report.html", folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "ablate",
        "Train every arm of a grid, or continue one; `status` shows how far it is.",
        _EXAMPLES,
    )
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="NAME|OVERRIDE",
        help="an ablation of configs/ablation, and Hydra overrides; or `status FOLDER`",
    )
    return parser


def _status_parser() -> argparse.ArgumentParser:
    parser = make_parser("ablate status", "Show how far an ablation has come.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the ablation writes")
    help_ = "runs side by side (default: those running now)"
    parser.add_argument("--workers", type=positive, metavar="N", help=help_)
    return parser


@command(_status_parser)
def _status(arguments: argparse.Namespace) -> None:
    from medseg.experiment.ledger import Ledger

    ledger = Ledger(arguments.folder)
    print(f"{ledger.plan.name}: {ledger.counts()}")
    side_by_side = arguments.workers or max(1, ledger.count("running"))
    left = ledger.seconds_left(side_by_side)
    if ledger.count("completed") == len(ledger.entries):
        print("nothing is left to do")
    elif left is None:
        print("the time left is not known before the first epoch of a run is done")
    else:
        print(f"about {duration(left)} left, {side_by_side} at a time")
    for state in _LISTED_STATES:
        found = [entry for entry in ledger.entries if entry.state == state]
        for entry in found[:_SHOWN]:
            share = f" {entry.share:.0%}" if state == "running" else ""
            why = f": {entry.error}" if entry.error else ""
            print(f"  {state}{share}  {entry.cell.folder}{why}")
        if len(found) > _SHOWN:
            print(f"  … and {len(found) - _SHOWN} more {state}")
