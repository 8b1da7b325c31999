"""Ablations of docs/error_rates.py as rows of observations."""

import runpy
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from medseg.statistics.observations import Row

SCRIPT = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[2] / "docs/error_rates.py")))
Design = SCRIPT.Design


def rows(design: Design, generator: np.random.Generator, shifts: Sequence[float] = ()) -> list[Row]:
    """Every training's values; arm a is shifted by `shifts[a]`."""
    (values,) = design.draw(generator, 1)
    values[: len(shifts)] += np.reshape(shifts, (-1, 1, 1, 1))
    return [
        (arm, fold, seed, f"case{case}", float(value))
        for (arm, fold, seed, case), value in np.ndenumerate(values)
        if design.shared or case % design.folds == fold
    ]
