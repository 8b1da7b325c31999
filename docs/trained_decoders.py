"""Tables of what trained decoders print, from the folders that `medseg artifacts` wrote.

    python docs/trained_decoders.py ROOT

ROOT holds one folder per upsampling, in it one per seed, and below each of these the run with
`artifacts/artifacts.json` in it (docs/checkerboard-details.md lists the commands that make them).
"""

import argparse
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from medseg.record import (
    ArtifactRecord,
    CaseRow,
    Estimate,
    PhaseLocked,
    RunRecord,
    from_plain,
)

_CASES: dict[str, Callable[[CaseRow], float | None]] = {
    "PLF": lambda case: case.get("cycle_spin", "cycle_spin"),
    "boundary distance": lambda case: case.get("labels", "boundary_distance"),
    "BSI − truth": lambda case: _difference(
        case.get("labels", "boundary_snapping"), case.get("labels", "true_boundary_snapping")
    ),
}
# sizes of the pattern that the cases of a run share
_SHARED = {"κ gain": "gain", "κ additive": "additive", "locked": "cycle_spin_locked"}


def main() -> None:
    root = Path(_parsed().root)
    rows = [_row(arm) for arm in sorted(root.iterdir()) if arm.is_dir()]
    heads = ["upsampling", "seeds", "Dice", "A (I)", "A (μμᵀ)", "constant", *_SHARED, *_CASES]
    heads += ["coherence", "p (largest)", "κ gain, input", "p, input"]
    print("| " + " | ".join(heads) + " |")
    print("|" + " --- |" * len(heads))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def _row(arm: Path) -> list[str]:
    runs = [p.parent.parent for p in sorted(arm.glob("[0-9]*/*/*/artifacts/artifacts.json"))]
    runs = [run for run in runs if (run / "record.json").is_file()]
    records = [_read(run) for run in runs]
    return [
        arm.name,
        str(len(runs)),
        _span([_dice(run) for run in runs], "{:.3f}"),
        _span([r.largest("dc_gain") for r in records]),
        _span([r.largest("dc_gain_mean") for r in records]),
        _span([r.constant_response for r in records]),
        *(_sizes([r.means.get(name) for r in records]) for name in _SHARED.values()),
        *(_interval(records, read) for read in _CASES.values()),
        _span([r.prediction and r.prediction.coherence for r in records], "{:.2f}"),
        _span([max(_p_values(r.prediction for r in records), default=None)]),
        _sizes([r.image and r.image.gain for r in records]),
        _span([min(_p_values(r.image for r in records), default=None)]),
    ]


def _read(run: Path) -> ArtifactRecord:
    return from_plain(ArtifactRecord, json.loads((run / "artifacts/artifacts.json").read_text()))


def _dice(run: Path) -> float:
    cases = RunRecord.read(run / "record.json").cases
    values = [m["dice"] for case in cases for m in case.metrics.values()]
    return statistics.fmean(v for v in values if v is not None)


def _p_values(tests: Iterable[PhaseLocked | None]) -> list[float]:
    return [test.p_value for test in tests if test and test.p_value]


def _sizes(estimates: Sequence[Estimate | None]) -> str:
    """Of one seed with its interval over cases, of several their range."""
    known = [one for one in estimates if one]
    if len(known) == 1 and known[0].low is not None and known[0].high is not None:
        return f"{_short(known[0].mean)} ({_short(known[0].low)} … {_short(known[0].high)})"
    return _span([one.mean for one in known])


def _interval(records: Sequence[ArtifactRecord], read: Callable[[CaseRow], float | None]) -> str:
    """Mean over seeds and cases, with its interval over both."""
    by_case: dict[str, list[float]] = defaultdict(list)
    for record in records:
        for case in record.cases:
            if (value := read(case)) is not None:
                by_case[case.case].append(value)
    shared = [values for values in by_case.values() if len(values) == len(records)]
    if not shared:
        return "–"
    mean = _short(statistics.fmean(v for values in shared for v in values))
    if len(records) < 2 or len(shared) < 8:
        return mean
    low, high = hierarchical_interval([list(row) for row in zip(*shared, strict=True)])
    return f"{mean} ({_short(low)} … {_short(high)})"


def hierarchical_interval(
    values: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 9999
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds (rows) and cases (columns).

    Draws seeds and cases, both with replacement; the drawn cases are the same for all drawn seeds,
    since every seed was measured on the same cases.

    Reference: Owen 2007, Ann. Appl. Stat. 1:386 (the pigeonhole bootstrap of crossed factors).
    """
    sample = np.asarray(values, dtype=float)
    least, spread = float(sample.min()), float(np.ptp(sample))
    if spread == 0:
        return least, least
    random = np.random.default_rng(0)
    seeds, cases = (
        random.multinomial(count, np.full(count, 1 / count), resamples) / count
        for count in sample.shape
    )
    means = ((seeds @ ((sample - least) / spread)) * cases).sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(least + spread * low), float(least + spread * high)


def _span(values: Sequence[float | None], style: str = "") -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "–"
    shown = [style.format(v) if style else _short(v) for v in (min(known), max(known))]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} … {shown[1]}"


def _short(value: float) -> str:
    return "0" if abs(value) < 1e-6 else f"{value:.2g}"


def _difference(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", help="folder of one folder per upsampling")
    return parser.parse_args()


if __name__ == "__main__":
    main()
