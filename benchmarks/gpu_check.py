"""`python benchmarks/gpu_check.py`: what a machine with a GPU has to show, meant for ten minutes.

Runs the tests marked `gpu`, times the training step by number format and way of execution, trains
Hippocampus, measures the operators, and writes one Markdown file, anew after every part. Needs
torch with CUDA and no network: what else is missing is installed from wheels. On a machine with
network, for the Python of the GPU machine:

    pip wheel . pytest hypothesis --wheel-dir WHEELS --constraint constraints.txt
    rm WHEELS/torch-* WHEELS/nvidia_* WHEELS/triton-*
"""

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PRECISIONS = ("fp32", "tf32", "bf16")
WIDTHS = (32, 64, 128, 256, 320, 320)  # nnU-Net's of a 3-D plan with patches of 128³
_TESTS = "tests/gpu", "tests/training/test_execution.py", "tests/data/test_variation.py"
_SHARES = {"tests": 0.25, "steps": 0.25, "training": 0.35, "operators": 0.15}


def main() -> int:
    """Carries the parts out one after the other; returns 1 if one of them failed."""
    arguments = _parser().parse_args()
    if arguments.step:
        way, precision, size = arguments.step
        print(json.dumps(_step_of(way, precision, int(size), arguments.device)))
        return 0
    if arguments.wheels:
        wheels = sorted(map(str, arguments.wheels.glob("*.whl")))
        _command("pip", "install", "--quiet", "--no-index", "--no-deps", *wheels)
    parts: dict[str, Callable[[argparse.Namespace, float], str]] = {
        "tests": _tests, "steps": _steps, "training": _training, "operators": _operators,
    }  # fmt: skip
    text, failed = f"# GPU check\n\n{_machine(arguments.device)}\n", []
    for name in arguments.only or parts:
        start = time.perf_counter()
        try:
            found = parts[name](arguments, arguments.seconds * _SHARES[name])
        except (subprocess.SubprocessError, OSError, LookupError, ValueError) as error:
            failed.append(name)
            found = f"**failed**: {error}\n\n```\n{_end_of(error)}\n```"
        text += f"\n## {name.capitalize()} ({time.perf_counter() - start:.0f} s)\n\n{found}\n"
        arguments.output.write_text(text, encoding="utf-8")
        print(f"{name}: {'failed' if name in failed else 'done'}", flush=True)
    return bool(failed)


def _machine(device: str) -> str:
    """One line on what is measured."""
    import torch

    lines = [
        f"{platform.platform()}, Python {platform.python_version()}, torch {torch.__version__}"
    ]
    if device != "cpu":
        about = torch.cuda.get_device_properties(device)
        lines.append(
            f"{about.name}, {about.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, "
            f"cuDNN {torch.backends.cudnn.version()}, {os.cpu_count()} CPUs"
        )
    return "; ".join(lines)


def _tests(arguments: argparse.Namespace, seconds: float) -> str:
    """The tests that need a GPU, and those of what runs on either."""
    words = "-q", "-p", "no:cacheprovider", "-o", "addopts=--strict-markers --import-mode=importlib"
    found = _command("pytest", *words, *_TESTS, seconds=seconds)
    return found.strip().splitlines()[-1]


def _steps(arguments: argparse.Namespace, seconds: float) -> str:
    """A table: milliseconds of forward and backward pass, and the peak of memory."""
    rows = ["| patch | precision | way | ms | GiB |", "| --- | --- | --- | ---: | ---: |"]
    ways = ("plain", "channels_last", "compiled", "cuda_graphs")[: 2 if _is_cpu(arguments) else 4]
    precisions = PRECISIONS[:1] if _is_cpu(arguments) else PRECISIONS
    end = time.perf_counter() + seconds
    for way, precision in product(ways, precisions):
        if (left := end - time.perf_counter()) < 0:
            rows.append(f"\nOut of time before {way}, {precision}.")
            break
        words = "--step", way, precision, str(arguments.patch), "--device", arguments.device
        try:
            found = json.loads(_script(*words, seconds=left).splitlines()[-1])
        except subprocess.SubprocessError as error:
            rows.append(f"| {arguments.patch}³ × 2 | {precision} | {way} | {_reason(error)} | |")
            continue
        cells = f"{1e3 * found['seconds']:.1f} | {found['peak'] / 2**30:.2f}"
        rows.append(f"| {arguments.patch}³ × 2 | {precision} | {way} | {cells} |")
    return "\n".join(rows)


def _step_of(way: str, precision: str, size: int, device: str) -> dict[str, float]:
    """The time of one way, in a process of its own."""
    import torch

    from medseg.analysis.cost import training_call
    from medseg.cli.compose import described
    from medseg.hardware import allow_tf32
    from medseg.models.description import build_network
    from medseg.resources import peak_memory_bytes
    from medseg.training.execution import Step

    torch.backends.cudnn.benchmark = True
    allow_tf32(precision)
    stages = len(WIDTHS) if size >= 64 else 3
    network = build_network(
        described(
            "train", "model", "data=phantom", "data.in_channels=1", "data.num_classes=3",
            f"data.patch_size={[size] * 3}", f"model.encoder.channels={list(WIDTHS[:stages])}",
            f"model.encoder.strides={[1] + [2] * (stages - 1)}", "model.deep_supervision=true",
        )
    )  # fmt: skip
    step = Step(
        network=network,
        call=training_call(network, deep_supervision=True),
        shape=(2, 1, size, size, size),
        precision=precision,
        device=torch.device(device),
        steps=1,
    )
    seconds = step.seconds(way)
    return {"seconds": seconds, "peak": peak_memory_bytes(step.device) or 0}


def _training(arguments: argparse.Namespace, seconds: float) -> str:
    """A fold of Hippocampus for a third of the time, or phantoms where there is no folder."""
    own = ["data=hippocampus", f"data.root={arguments.data}", "data.splits=nnunet", "data.folds=5"]
    own.append("data.fold=0")
    if arguments.data is None:
        own = ["data=phantom", "data.source.shape=[64,64,64]", "data.patch_size=[48,48,48]"]
    with tempfile.TemporaryDirectory() as folder:
        words = [
            *own, f"trainer.max_seconds={seconds / 2:.0f}", f"runs={folder}",
            f"data.cache={folder}/cache", f"trainer.device={arguments.device}", "trainer.ema=0.99",
            "artifacts.follow=false", "artifacts.cases=0", "pictures.cases=0",
            *(["data.root=" + folder] if arguments.data is None else []),
        ]  # fmt: skip
        output = _command("medseg", "train", *words, seconds=2 * seconds)
        record = json.loads(next(Path(folder).rglob("record.json")).read_text(encoding="utf-8"))
    history, machine = record["history"], record["machine"]
    steps, batch = record["config"]["data"]["batches_per_epoch"], record["config"]["data"]
    waiting = [row["waiting"] for row in history[1:]] or [history[0]["waiting"]]
    table = "\n".join(re.findall(r"\|.*\|", output))
    return (
        f"`medseg train {' '.join(words[: len(own) + 1])} trainer.ema=0.99`\n\n"
        f"{len(history) * steps:,} steps of {batch['batch_size']} patches, "
        f"{1e3 * record['seconds']['step']:.1f} ms each, {max(waiting):.0%} waiting at most; "
        f"{machine['precision']}, {machine['execution']}; "
        f"{(record['peak_memory_bytes'] or 0) / 2**30:.2f} GiB\n\n{table}"
    )


def _operators(arguments: argparse.Namespace, seconds: float) -> str:
    """Networks of the presets in 3-D, from `python -m benchmarks`."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--only", "networks", "--dims", "3", "--rounds", "3", "-o", folder]
        quick = ["--quick"] if arguments.quick else []
        words += ["--device", arguments.device, *quick]
        _command("benchmarks", *words, seconds=2 * seconds)
        text = (Path(folder) / "bench.md").read_text(encoding="utf-8")
    return re.sub(r"^#", "###", text, flags=re.M)


def _is_cpu(arguments: argparse.Namespace) -> bool:
    return arguments.device == "cpu"


def _command(module: str, *words: str, seconds: float | None = None) -> str:
    return _output(["-m", module, *words], seconds)


def _script(*words: str, seconds: float) -> str:
    return _output([str(Path(__file__)), *words], seconds)


def _output(words: Sequence[str], seconds: float | None) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    done = subprocess.run(
        [sys.executable, *words], cwd=ROOT, env=environment, timeout=seconds, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    return done.stdout


def _end_of(error: Any, lines: int = 15) -> str:
    text = getattr(error, "output", "") or ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return "\n".join(text.strip().splitlines()[-lines:])


def _reason(error: subprocess.SubprocessError) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return "out of time"
    return _end_of(error, 1)[:80].replace("|", "/") or "failed"


def _whole(text: str) -> Path:
    return Path(text).absolute()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("gpu_check.md"))
    parser.add_argument("--wheels", type=_whole, help="folder of what is to be installed first")
    parser.add_argument("--data", type=_whole, help="folder with Task04_Hippocampus; else phantoms")
    parser.add_argument("--seconds", type=float, default=540.0, help="of everything, about")
    parser.add_argument("--patch", type=int, default=128, help="voxels along an axis of the steps")
    parser.add_argument("--device", default="cuda:0", help="cpu: to try the script itself")
    parser.add_argument("--quick", action="store_true", help="operators at tiny sizes")
    parser.add_argument("--only", nargs="+", choices=list(_SHARES))
    parser.add_argument("--step", nargs=3, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
