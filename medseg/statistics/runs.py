"""How far two trainings of one arm differ in their mean over cases.

With two seeds in some (arm, fold), the variance of run means around the mean of their (arm, fold),
pooled over all of them; such a mean square also holds the noise of its own cases, σ²_ε / C. With
one seed but several folds, the arm × fold interaction of run means, for then nothing else tells
trainings apart. Pooling takes the trainings of all arms to vary alike. Where one of two equal arms
varies four times as much, simulations call them different about twice as often as promised; look
at the spread of such an arm before its verdict.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medseg.statistics.table import Table


@dataclass(frozen=True, kw_only=True)
class RunVariance:
    """Variance of a run's mean over its cases.

    Attributes:
        value: The variance, in squared units of the values, at least 0.
        df: Its degrees of freedom.
        source: What it was estimated from.
        noise: σ²_ε, the variance of run × case within an (arm, fold), with source "seeds".
    """

    value: float
    df: int
    source: Literal["seeds", "folds"]
    noise: float


def run_variance(table: Table) -> RunVariance | None:
    """The pooled variance of run means; None if nothing tells trainings apart."""
    return _from_seeds(table) or _from_folds(table)


def _from_seeds(table: Table) -> RunVariance | None:
    between = within = 0.0
    df = noise_df = 0
    for cell in table.cells():
        block = table.common_block(cell)
        seeds, cases = block.shape
        if seeds < 2 or not cases:
            continue
        centred = block - block.mean(axis=0)
        runs = centred.mean(axis=1)
        between += float(runs @ runs)
        within += float(((centred - runs[:, None]) ** 2).sum())
        df += seeds - 1
        noise_df += (seeds - 1) * (cases - 1)
    if not df:
        return None
    noise = within / noise_df if noise_df else 0.0
    return RunVariance(value=between / df, df=df, source="seeds", noise=noise)


def _from_folds(table: Table) -> RunVariance | None:
    arm, fold, mean = _means_on_common_cases(table)
    arms, folds = len(np.unique(arm)), len(np.unique(fold))
    if arms < 2 or folds < 2:
        return None
    dummies = (fold[:, None] == np.unique(fold)).astype(float)
    within_arms = _without_group_means(np.column_stack([mean, dummies]), arm)
    fitted, _, rank, _ = np.linalg.lstsq(within_arms[:, 1:], within_arms[:, 0])
    df = len(mean) - arms - int(rank)
    if df < 1:
        return None
    residual = within_arms[:, 0] - within_arms[:, 1:] @ fitted
    return RunVariance(value=float(residual @ residual) / df, df=df, source="folds", noise=0.0)


def _means_on_common_cases(
    table: Table,
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Arm, fold and mean of each run over the cases that all runs of its fold have."""
    runs, means = [], []
    for fold in np.unique(table.fold):
        members = np.flatnonzero(table.fold == fold)
        block = table.common_block(members)
        if block.shape[1]:
            runs.append(members)
            means.append(block.mean(axis=1))
    chosen = np.concatenate([np.empty(0, dtype=np.intp), *runs])
    return table.arm[chosen], table.fold[chosen], np.concatenate([np.empty(0), *means])


def _without_group_means(
    columns: NDArray[np.float64], group: NDArray[np.intp]
) -> NDArray[np.float64]:
    _, member, size = np.unique(group, return_inverse=True, return_counts=True)
    sums = np.zeros((len(size), columns.shape[1]))
    np.add.at(sums, member, columns)
    return columns - (sums / size[:, None])[member]
