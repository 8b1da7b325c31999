"""The check of a GPU machine, tried out on a CPU."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.py"


def test_the_training_step_is_timed_in_every_way_of_a_cpu(tmp_path: Path) -> None:
    words = ["--device", "cpu", "--only", "steps", "--patch", "16", "--seconds", "600"]
    target = tmp_path / "found.md"
    subprocess.run([sys.executable, SCRIPT, *words, "-o", target], check=True, cwd=tmp_path)
    rows = [line for line in target.read_text().splitlines() if "fp32" in line]
    assert [row.split("|")[3].strip() for row in rows] == ["plain", "channels_last"]
    assert all(float(row.split("|")[4]) > 0 for row in rows)
