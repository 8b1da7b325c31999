"""What an ablation costs beyond training: `python docs/ablation_costs.py FOLDER...`.

Each FOLDER is that of an ablation. A run's overhead is what its process spends on it outside of
training and of the held-out cases; that of the ablation is the wall-clock time, from the first
start to the last end, that is not filled with runs.
"""

import sys
from datetime import datetime
from pathlib import Path
from statistics import fmean

from medseg.record import FILE_NAME, RunRecord


def main(folders: list[str]) -> None:
    print(
        "| ablation | runs | training, s | cases, s | other, s per run | wall, s | busy at once |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for folder in folders:
        found = [RunRecord.read(path) for path in sorted(Path(folder).glob(f"*/{FILE_NAME}"))]
        done = [record for record in found if record.status == "completed"]
        if not done:
            print(f"| {Path(folder).name} | 0 | | | | | |")
            continue
        print(row(Path(folder).name, done))


def row(name: str, records: list[RunRecord]) -> str:
    train, cases, total = (
        [record.seconds[key] for record in records] for key in ("train", "validation", "total")
    )
    other = [whole - a - b for whole, a, b in zip(total, train, cases, strict=True)]
    starts, ends = zip(*(span(record) for record in records), strict=True)
    wall = (max(ends) - min(starts)).total_seconds()
    return (
        f"| {name} | {len(records)} | {fmean(train):.1f} | {fmean(cases):.1f} "
        f"| {fmean(other):.1f} | {wall:.0f} | {sum(total) / max(wall, 1):.2f} |"
    )


def span(record: RunRecord) -> tuple[datetime, datetime]:
    return datetime.fromisoformat(record.started), datetime.fromisoformat(str(record.finished))


if __name__ == "__main__":
    main(sys.argv[1:])
