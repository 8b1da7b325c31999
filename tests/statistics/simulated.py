"""Ablations drawn from the model: cases, arm × case, trainings, and their noise."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medseg.statistics.observations import Row


@dataclass(frozen=True, kw_only=True)
class Design:
    """Standard deviations and sizes; cases are split over the folds, or shared by all."""

    arms: int = 2
    folds: int = 1
    seeds: int = 2
    cases: int = 20
    case: float = 1.0
    arm_case: float = 0.0
    run: float = 0.0
    noise: float = 0.0
    shared: bool = False

    @property
    def difference_sd(self) -> float:
        """Of the difference of two arms between cases."""
        return float(np.sqrt(2 * (self.arm_case**2 + self.noise**2 / self.seeds)))


def rows(design: Design, generator: np.random.Generator, shifts: Sequence[float] = ()) -> list[Row]:
    """Every training's values; arm a is shifted by `shifts[a]`."""
    d, draw = design, generator.normal
    values = (
        draw(scale=d.case, size=(1, 1, 1, d.cases))
        + draw(scale=d.arm_case, size=(d.arms, 1, 1, d.cases))
        + draw(scale=d.run, size=(d.arms, d.folds, d.seeds, 1))
        + draw(scale=d.noise, size=(d.arms, d.folds, d.seeds, d.cases))
    )
    values += np.array([*shifts, *[0.0] * (d.arms - len(shifts))])[:, None, None, None]
    return [
        (arm, fold, seed, f"case{case}", float(values[arm, fold, seed, case]))
        for arm in range(d.arms)
        for fold in range(d.folds)
        for seed in range(d.seeds)
        for case in range(d.cases)
        if d.shared or case % d.folds == fold
    ]
