"""What is asked of a benchmark. Imports nothing heavy: the door reads it before parsing."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GROUPS = {
    "depthwise": "Depthwise convolution",
    "separable": "Separable block",
    "convolutions": "Convolutions",
    "units": "Units",
    "downsamplings": "Downsamplings",
    "upsamplings": "Upsamplings",
    "norm": "Instance norm and activation",
    "networks": "Networks",
    "pairs": "Networks of the same architecture",
}
"""Group → title, in the order of the report."""

DIMS = (2, 3)

Options = Mapping[str, Any]
"""Option of a configuration group → its description (see `medseg.models.description`)."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A benchmark.

    Args:
        blocks: Slot group (`convolutions`, `units`, …) → its options.
        networks: Spatial dimensions → the options of `model`.
        output: Folder of `bench.md` and `bench.json`.
        command: The command line, for the report.
        groups: Which of `GROUPS`.
        dims: Which of `DIMS`.
        rounds: Measured rounds.
        device: auto, cpu, cuda or cuda:N.
        threads: Threads of torch on the CPU; None leaves its choice.
        quick: Tiny sizes and one round; the figures then mean nothing.
    """

    blocks: Mapping[str, Options]
    networks: Mapping[int, Options]
    output: Path
    command: str
    groups: tuple[str, ...] = tuple(GROUPS)
    dims: tuple[int, ...] = DIMS
    rounds: int = 7
    device: str = "auto"
    threads: int | None = None
    quick: bool = False
