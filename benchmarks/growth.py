"""`python -m benchmarks.growth`: time and memory of a training step as patch and batch grow.

Every cell of the table is a `medseg train` on phantoms in a process of its own: the median of its
steps, the most that a batch added to the process's memory, and what was foreseen of it.
"""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from medseg.formatting import memory

_STEPS = 3


def main() -> int:
    """Trains once for each patch and batch, and prints the table."""
    arguments = _parser().parse_args()
    print("| patch | batch | step, s | memory | foreseen |\n| --- | ---: | ---: | ---: | ---: |")
    for patch, batch in itertools.product(arguments.patches, arguments.batches):
        print(f"| {patch}³ | {batch} | {_cells(patch, batch, arguments.overrides)} |", flush=True)
    return 0


def _cells(patch: int, batch: int, overrides: list[str]) -> str:
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "data=phantom", f"data.source.shape={[patch] * 3}", "data.source.cases=4",
            f"data.patch_size={[patch] * 3}", f"data.batch_size={batch}", "trainer.epochs=1",
            f"data.batches_per_epoch={_STEPS}", "artifacts.follow=false", "artifacts.cases=0",
            "pictures.cases=0", f"data.root={folder}", f"data.cache={folder}",
            f"runs={folder}/runs", *overrides,
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", "medseg", "train", *words],
            env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        if done.returncode:
            return f"{done.stderr.strip().splitlines()[-1].removeprefix('error: ')} | |"
        path = next(Path(folder, "runs").rglob("record.json"))
        record = json.loads(path.read_text(encoding="utf-8"))
    added = record["peak_memory_bytes"] - record["memory_before_bytes"]
    foreseen = record["predicted_memory_bytes"]
    cells = [f"{record['seconds']['step']:.2f}", memory(added)]
    return " | ".join([*cells, memory(foreseen) if foreseen else "–"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("overrides", nargs="*", help="of the training, as model.encoder.channels")
    parser.add_argument("--patches", nargs="+", type=int, default=[32, 64, 96, 128])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    return parser


if __name__ == "__main__":
    sys.exit(main())
