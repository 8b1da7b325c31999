"""`python -m benchmarks`: measures every operator and every network, and writes tables."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import medseg.cli  # noqa: F401 - sets how threads of torch wait, before torch is imported
from medseg.errors import MedsegError

GROUPS = {
    "depthwise": "Depthwise convolution",
    "single": "A single small volume",
    "separable": "Separable block",
    "convolutions": "Convolutions",
    "units": "Units",
    "downsamplings": "Downsamplings",
    "upsamplings": "Upsamplings",
    "norm": "Instance norm and activation",
    "networks": "Networks",
    "pairs": "Networks of the same architecture",
}
"""Group → title, in the order of the tables."""

OF_VOLUMES = ("single",)
"""Groups without a case in 2-D."""

SLOTS = {
    "convolutions": "conv",
    "units": "unit",
    "downsamplings": "downsample",
    "upsamplings": "upsample",
}
"""Group → configuration group whose options it measures."""

DIMS = (2, 3)
MARKDOWN, JSON = "bench.md", "bench.json"

_EXAMPLES = """\
examples:
  python -m benchmarks                                    everything, into bench/
  python -m benchmarks --only depthwise networks --dims 3
  python -m benchmarks --quick -o /tmp/bench              tiny sizes: does it work at all?
"""
_SILENT = "6"  # above every level at which torch's profiler logs its own start and stop


def main(argv: Sequence[str] | None = None) -> int:
    """Measures; returns the exit code (see `medseg.errors`)."""
    words = sys.argv[1:] if argv is None else argv
    arguments = _parser().parse_args(words)
    os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
    try:
        run(arguments, shlex.join(["python", "-m", "benchmarks", *words]))
    except MedsegError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("stopped; the groups done so far are in the files", file=sys.stderr)
        return 130
    print(arguments.output / MARKDOWN)
    print(arguments.output / JSON)
    return 0


def run(arguments: argparse.Namespace, command: str) -> None:
    """Measures what is asked for and writes both files, anew after each group.

    Args:
        arguments: The options.
        command: The command line, for the header.

    Raises:
        ResourceError: there is no such device, or the folder cannot be written.
    """
    # only now, so that `--help` and a usage error answer at once
    import torch

    from benchmarks.document import Document, machine_of
    from benchmarks.measure import Bench, Group
    from medseg.analysis.timing import cpu_milliseconds, gpu_milliseconds
    from medseg.files import require_writable, write_text
    from medseg.hardware import choose_device, computes_in_bf16
    from medseg.resources import keep_freed_memory

    device = choose_device(arguments.device, key="--device")
    require_writable(arguments.output)
    keep_freed_memory()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    bench = Bench(
        device=device,
        precisions=("fp32", "bf16") if computes_in_bf16(device) else ("fp32",),
        rounds=1 if arguments.quick else arguments.rounds,
        clock=gpu_milliseconds if device.type == "cuda" else cpu_milliseconds,
        quick=arguments.quick,
    )
    dims = tuple(dict.fromkeys(arguments.dims))
    wanted = [slug for slug in GROUPS if slug in (arguments.only or GROUPS)]
    asked = tuple(slug for slug in wanted if slug not in OF_VOLUMES or 3 in dims)
    document = Document(
        command=command,
        machine=machine_of(device),
        precisions=bench.precisions,
        rounds=bench.rounds,
        quick=bench.quick,
        asked=asked,
        groups=(),
    )
    for place, slug in enumerate(asked, start=1):
        start = time.perf_counter()
        group = Group(slug, GROUPS[slug], tuple(_cases(slug)(bench, dims)))
        document = replace(document, groups=(*document.groups, group))
        write_text(arguments.output / JSON, document.json())
        write_text(arguments.output / MARKDOWN, document.markdown())
        seconds = time.perf_counter() - start
        found = f"{len(group.cases)} inputs, {seconds:.1f} s"
        print(f"[{place}/{len(asked)}] {slug}: {found}", flush=True)


def _cases(slug: str) -> Callable[..., Sequence[Any]]:
    """What measures a group: `(bench, dims)` → its cases."""
    from benchmarks import blocks, networks
    from medseg.cli.compose import described, option_names

    if slug in SLOTS:
        folder = SLOTS[slug]
        options = {o: described(f"{folder}/{o}", folder) for o in option_names(folder)}
        return lambda bench, dims: blocks.slot_cases(bench, slug, options, dims)
    if slug == "networks":
        return lambda bench, dims: networks.network_cases(bench, {d: _presets(d) for d in dims})
    return {
        "depthwise": blocks.depthwise_cases,
        "single": blocks.single_cases,
        "separable": blocks.separable_cases,
        "norm": blocks.norm_cases,
        "pairs": networks.pair_cases,
    }[slug]


def _presets(dims: int) -> dict[str, Any]:
    """Option of `model` → its description in so many dimensions."""
    from medseg.cli.compose import described, option_names

    shape = (f"data.spatial_dims={dims}", f"data.patch_size={[32] * dims}")
    data = ("data=phantom", "data.in_channels=1", "data.num_classes=3", *shape)
    names = option_names("model")
    return {name: described("train", "model", f"model={name}", *data) for name in names}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
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
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
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
