"""A benchmark from request to files."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.document import Document, describe_machine
from benchmarks.measure import Bench
from benchmarks.networks import network_cases, pair_cases
from benchmarks.operators import depthwise_cases, norm_cases, separable_cases
from benchmarks.request import DIMS, GROUPS, Request
from benchmarks.slots import slot_cases
from medseg.analysis.timing import CpuClock, GpuClock
from medseg.analysis.timing_results import Case, Group
from medseg.errors import ConfigError
from medseg.files import require_writable, write_text
from medseg.hardware import choose_device, computes_in_bf16, keep_freed_memory

MARKDOWN, JSON = "bench.md", "bench.json"


def run(request: Request, say: Callable[[str], None] = print) -> tuple[Path, Path]:
    """Measures what is asked for and writes both files, anew after each group.

    Args:
        request: What is asked for.
        say: Receives a line about the progress of each group.

    Returns:
        The Markdown and the JSON file.

    Raises:
        ConfigError: an impossible request.
        ResourceError: no such device, or a folder that cannot be written.
    """
    _check(request)
    device = choose_device(request.device)
    require_writable(request.output)
    keep_freed_memory()
    former_threads = torch.get_num_threads()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    try:
        return _measure(request, device, say)
    finally:
        torch.set_num_threads(former_threads)


def _measure(
    request: Request, device: torch.device, say: Callable[[str], None]
) -> tuple[Path, Path]:
    bench = Bench(
        device=device,
        precisions=("fp32", "bf16") if computes_in_bf16(device) else ("fp32",),
        rounds=1 if request.quick else request.rounds,
        clock=GpuClock() if device.type == "cuda" else CpuClock(),
        quick=request.quick,
    )
    document = Document(
        command=request.command,
        machine=describe_machine(device),
        precisions=bench.precisions,
        rounds=bench.rounds,
        quick=bench.quick,
        asked=request.groups,
        groups=(),
    )
    for place, slug in enumerate(request.groups, start=1):
        start = time.perf_counter()
        group = Group(slug, GROUPS[slug], tuple(_cases(bench, slug, request)))
        document = replace(document, groups=(*document.groups, group))
        _write(document, request.output)
        seconds = time.perf_counter() - start
        say(f"[{place}/{len(request.groups)}] {slug}: {len(group.cases)} inputs, {seconds:.1f} s")
    return request.output / MARKDOWN, request.output / JSON


def _cases(bench: Bench, slug: str, request: Request) -> list[Case]:
    match slug:
        case "depthwise":
            return depthwise_cases(bench, request.dims)
        case "separable":
            return separable_cases(bench, request.dims)
        case "norm":
            return norm_cases(bench, request.dims)
        case "networks":
            return network_cases(bench, {d: request.networks[d] for d in request.dims})
        case "pairs":
            return pair_cases(bench, request.dims)
        case _:
            return slot_cases(bench, slug, request.blocks[slug], request.dims)


def _check(request: Request) -> None:
    if unknown := [slug for slug in request.groups if slug not in GROUPS]:
        raise ConfigError(f"only={unknown[0]!r} is no group; choose from {', '.join(GROUPS)}")
    if wrong := [dims for dims in request.dims if dims not in DIMS]:
        raise ConfigError(f"dims={wrong[0]} must be 2 or 3; choose --dims 2 3")
    for name, number in (("rounds", request.rounds), ("threads", request.threads)):
        if number is not None and number < 1:
            raise ConfigError(f"{name}={number} must be at least 1; leave --{name} out")


def _write(document: Document, folder: Path) -> None:
    write_text(folder / JSON, document.json())
    write_text(folder / MARKDOWN, document.markdown())
