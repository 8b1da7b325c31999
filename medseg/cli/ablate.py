"""`medseg ablate`: a grid of runs, started or continued; and how far one has come."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.errors import report_error
from medseg.errors import MedsegError

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
_WAITING_STATES = ("running", "silent", "failed", "interrupted")


def main(argv: list[str] | None = None) -> int:
    """Runs an ablation or shows its state; returns the exit code (see `medseg.errors`)."""
    words = sys.argv[1:] if argv is None else argv
    if words[:1] == ["status"]:
        return _status(words[1:])
    arguments = _parser().parse_args(words)
    from medseg.cli.train import main as train

    sys.argv[1:] = [*_named(arguments.overrides), "hydra.mode=MULTIRUN"]
    return train()


def _named(words: Sequence[str]) -> list[str]:
    """The first word without `=` is the name of an ablation."""
    first, *rest = words
    return [first if "=" in first else f"ablation={first}", *rest]


def _status(argv: Sequence[str]) -> int:
    arguments = _status_parser().parse_args(argv)
    from medseg.experiment.ledger import Ledger

    try:
        ledger = Ledger.of(arguments.folder)
    except MedsegError as error:
        return report_error(error)
    print("\n".join(_lines(ledger, arguments.workers)))
    return 0


def _lines(ledger: "Ledger", workers: int | None) -> list[str]:
    total, running = len(ledger.entries), ledger.count("running")
    states = dict.fromkeys(entry.state for entry in ledger.entries)
    counts = ", ".join(f"{ledger.count(state)} {state}" for state in states)
    lines = [f"{ledger.plan.name}: {total} runs: {counts}", _time_left(ledger, workers, running)]
    for state in _WAITING_STATES:
        found = [entry for entry in ledger.entries if entry.state == state]
        lines += [f"  {_line(entry)}" for entry in found[:_SHOWN]]
        if len(found) > _SHOWN:
            lines.append(f"  … and {len(found) - _SHOWN} more {state}")
    return [line for line in lines if line]


def _time_left(ledger: "Ledger", workers: int | None, running: int) -> str:
    if all(entry.state == "completed" for entry in ledger.entries):
        return "nothing is left to do"
    side_by_side = workers or max(1, running)
    left = ledger.seconds_left(side_by_side)
    if left is None:
        return "no run has told its pace yet"
    minutes, seconds = divmod(round(left), 60)
    hours, minutes = divmod(minutes, 60)
    return f"about {hours} h {minutes:02d} min {seconds:02d} s left, {side_by_side} at a time"


def _line(entry: "Entry") -> str:
    share = f" {entry.share:.0%}" if entry.state == "running" else ""
    why = f": {entry.error}" if entry.error else ""
    return f"{entry.state}{share}  {entry.cell.folder}{why}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg ablate",
        description="Train every arm of a grid, or continue one; `status` says how far it is.",
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
        prog="medseg ablate status", description="Say how far an ablation has come."
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where the ablation writes")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="runs side by side (default: those running now)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
