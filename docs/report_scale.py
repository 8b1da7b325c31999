"""Time, memory and size of a report of 10, 100 and 1000 synthetic arms × 2 seeds × 50 cases.

Prints a Markdown table; each report is made by a process of its own.

    python docs/report_scale.py [arms ...]
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from medseg.report import write_report
from tests.report.synthetic import Design, write_ablation

SIZES = (10, 100, 1000)
SEEDS, CASES = 2, 50
LEVELS = 10  # of a factor


def design_of(arms: int) -> Design:
    """A grid of ten levels a factor; planted are a good and a bad level of the first two."""
    factors, left = {}, arms
    for name in ("convolution", "upsampling", "width"):
        count = min(LEVELS, left)
        factors[name] = [f"{name[0]}{place}" for place in range(count)]
        left //= count
    return Design(
        factors=factors,
        seeds=SEEDS,
        cases=CASES,
        effects={"c1": 0.01, "c2": -0.02, "u1": 0.005, "u3": -0.01},
    )


def measure(folder: Path, target: Path) -> None:
    """Makes one report and prints its row, but the first column."""
    start = time.perf_counter()
    report = write_report([folder], target)
    seconds, cpu = time.perf_counter() - start, time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    size = report.files[0].stat().st_size / 1e6
    print(f"{seconds:.1f} | {cpu:.1f} | {peak:.0f} | {size:.2f} |")


def main(arguments: list[str]) -> None:
    """A row per size."""
    if arguments[:1] == ["--measure"]:
        measure(Path(arguments[1]), Path(arguments[2]))
        return
    print("| Arms | Runs | Seconds | CPU seconds | Peak memory, MiB | Page, MB |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for arms in map(int, arguments or SIZES):
        with tempfile.TemporaryDirectory() as folder:
            runs, target = Path(folder) / "runs", Path(folder) / "report.html"
            write_ablation(runs, design_of(arms))
            command = [sys.executable, __file__, "--measure", str(runs), str(target)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            print(f"| {arms} | {arms * SEEDS} | {done.stdout.strip()}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
