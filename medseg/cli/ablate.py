"""`medseg ablate`: a grid of runs, started or continued; and how far one has come."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import command, positive, run_to_exit_code
from medseg.formatting import duration

if TYPE_CHECKING:
    from medseg.experiment.ledger import Entry, Ledger

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
    return run_to_exit_code(lambda: _ablate(overrides, ["medseg", "ablate", *words]))


def named(words: Sequence[str]) -> list[str]:
    """Overrides; the first word without `=` is the name of an ablation."""
    first, *rest = words
    return [first if "=" in first else f"ablation={first}", *rest]


def _ablate(overrides: list[str], command_line: list[str]) -> int:
    from medseg.cli.compose import hydra_session
    from medseg.cli.sweep import sweep

    with hydra_session() as hydra:
        return sweep(hydra, overrides, command_line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg ablate",
        description="Train every arm of a grid, or continue one; `status` shows how far it is.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides",
        nargs="+",
        metavar="NAME|OVERRIDE",
        help="an ablation of configs/ablation, and Hydra overrides; or `status FOLDER`",
    )
    return parser


def _status_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg ablate status", description="Show how far an ablation has come."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the ablation writes")
    parser.add_argument(
        "--workers",
        type=positive,
        metavar="N",
        help="runs side by side (default: those running now)",
    )
    return parser


@command(_status_parser)
def _status(arguments: argparse.Namespace) -> None:
    from medseg.experiment.ledger import Ledger

    ledger = Ledger.of(arguments.folder)
    print(f"{ledger.plan.name}: {ledger.counts()}")
    print(_time_left(ledger, arguments.workers))
    for state in _LISTED_STATES:
        found = [entry for entry in ledger.entries if entry.state == state]
        for entry in found[:_SHOWN]:
            print(f"  {_line(entry)}")
        if len(found) > _SHOWN:
            print(f"  … and {len(found) - _SHOWN} more {state}")


def _time_left(ledger: "Ledger", workers: int | None) -> str:
    if ledger.count("completed") == len(ledger.entries):
        return "nothing is left to do"
    side_by_side = workers or max(1, ledger.count("running"))
    left = ledger.seconds_left(side_by_side)
    if left is None:
        return "the time left is not known before the first epoch of a run is done"
    return f"about {duration(left)} left, {side_by_side} at a time"


def _line(entry: "Entry") -> str:
    share = f" {entry.share:.0%}" if entry.state == "running" else ""
    why = f": {entry.error}" if entry.error else ""
    return f"{entry.state}{share}  {entry.cell.folder}{why}"
