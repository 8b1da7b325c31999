"""`medseg bench`: measures every operator and every network, and writes tables."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.request import DIMS, GROUPS, Request
from medseg.cli.command import report_error
from medseg.cli.compose import described, option_names
from medseg.errors import MedsegError

_SLOTS = {
    "convolutions": "conv",
    "units": "unit",
    "downsamplings": "downsample",
    "upsamplings": "upsample",
}
_EXAMPLES = """\
examples:
  medseg bench                                    everything, into bench/
  medseg bench --only depthwise networks --dims 3
  medseg bench --quick -o /tmp/bench              tiny sizes: does it work at all?
"""
_SILENT = "6"  # above every level at which the profiler speaks of its own start and stop


def main(argv: list[str] | None = None) -> int:
    """Measures; returns the exit code (see `medseg.errors`)."""
    arguments = _parser().parse_args(argv)
    os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
    # Only now, so that `--help` and a usage error answer at once.
    from benchmarks.run import run

    try:
        markdown, raw = run(_request(arguments, argv), say=lambda line: print(line, flush=True))
    except MedsegError as error:
        return report_error(error)
    except KeyboardInterrupt:
        print("stopped; the groups done so far are in the files", file=sys.stderr)
        return 130
    print(markdown)
    print(raw)
    return 0


def _request(arguments: argparse.Namespace, argv: list[str] | None) -> Request:
    groups = tuple(slug for slug in GROUPS if slug in (arguments.only or GROUPS))
    dims = tuple(dict.fromkeys(arguments.dims))
    return Request(
        blocks={slug: _blocks(folder) for slug, folder in _SLOTS.items() if slug in groups},
        networks=_networks(dims) if "networks" in groups else {},
        output=arguments.output,
        command=shlex.join(["medseg", "bench", *(sys.argv[1:] if argv is None else argv)]),
        groups=groups,
        dims=dims,
        rounds=arguments.rounds,
        device=arguments.device,
        threads=arguments.threads,
        quick=arguments.quick,
    )


def _blocks(group: str) -> dict[str, Any]:
    """Option → description, for every option of a slot."""
    return {option: described(f"{group}/{option}", group) for option in option_names(group)}


def _networks(dims: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Dimensions → option → description, for every option of `model`."""
    return {number: {o: _network(o, number) for o in option_names("model")} for number in dims}


def _network(option: str, dims: int) -> Any:
    shape = ("data.in_channels=1", "data.num_classes=3", f"data.spatial_dims={dims}")
    return described("train", "model", f"model={option}", "data=phantom", *shape)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg bench",
        description="Measure every operator and every network beside its reference: "
        "bench.md with tables, bench.json with every sample.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("bench"),
        metavar="DIR",
        help="folder of bench.md and bench.json (default: bench)",
    )
    parser.add_argument(
        "--rounds", type=_count, default=7, metavar="N", help="measured rounds (default: 7)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=list(GROUPS),
        metavar="NAME",
        help=f"groups (default: all): {', '.join(GROUPS)}",
    )
    parser.add_argument(
        "--dims", nargs="+", type=int, choices=DIMS, default=list(DIMS), help="default: 2 3"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N")
    parser.add_argument(
        "--threads", type=_count, metavar="N", help="of torch on the CPU (default: its choice)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes and one round; figures without meaning"
    )
    return parser


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


if __name__ == "__main__":
    sys.exit(main())
