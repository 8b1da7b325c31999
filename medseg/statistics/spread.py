"""How far two trainings of an arm differ, and which arms may be judged by the spread of all.

The mean square between the trainings of an arm has few degrees of freedom, so it is pooled over
arms, by three rules (why, and how often they err: docs/statistics.md):

1. An arm leaves the pool if its mean square stands out at 1 % of Cochran's C: an F-test against the
   others with Bonferroni's correction, the largest first (Cochran 1941, Ann. Eugen. 11:47; 't Lam
   2010, Anal. Chim. Acta 659:68, for unequal numbers).
2. An arm is judged by the pool, or by its own mean square where that is larger.
3. An arm whose standard deviation exceeds that of the other arms by more than `LIMITS` is judged by
   its own mean square with its own degrees of freedom: alone.

Differences to the mean of the arm, case by case, are averaged over cases, in the robust companion
by a trimmed mean with its Winsorized variance (Yuen 1974, Biometrika 61:165).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special

OUTLYING = 0.01
LIMITS = (1.0, 1.7, 2.0)  # for 1, 2, and more degrees of freedom
ROUNDING = 1e-24

Array = NDArray[np.float64]
# For the arms kept: sum of squares and degrees of freedom of each, and of all together.
Squares = Callable[[NDArray[np.bool_]], tuple[Array, Array, float, int]]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The variance between two trainings' means over cases.

    Attributes:
        value: In squared units of the values, at least 0; with it the noise of its own cases.
        df: Its degrees of freedom; 0 where an arm has a single training.
        noise: σ²_ε, the variance of run × case within an (arm, fold), from seeds.
    """

    value: float
    df: int
    noise: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Trainings:
    """The spread of trainings of every arm, by its position.

    Attributes:
        pool: Over all arms that are alike.
        own: Of each arm alone.
        others: Of each arm, the variance that it is held against.
        apart: Arms that left the pool.
        alone: Arms that are judged by their own spread, those that left the pool among them.
        source: What tells trainings apart.
    """

    pool: Spread
    own: Sequence[Spread]
    others: Sequence[float]
    apart: frozenset[int]
    alone: frozenset[int]
    source: Literal["seeds", "folds"]

    def of(self, position: int) -> Spread:
        """What the arm is judged by."""
        own = self.own[position]
        if position in self.alone:
            return own
        larger = max(self.pool.value, own.value)
        return Spread(value=larger, df=self.pool.df, noise=self.pool.noise)


def average(values: Array, trim: float) -> tuple[Array, Array]:
    """Mean of each row and the variance of its values; trimmed and Winsorized at both ends.

    >>> average(np.array([[1.0, 2.0, 3.0, 4.0, 100.0]]), 0.2)[0]
    array([3.])
    """
    ordered, cut = np.sort(values, axis=-1), trimmed(values.shape[-1], trim)
    kept = ordered[..., cut : values.shape[-1] - cut]
    if values.shape[-1] < 2:
        return kept.mean(axis=-1), np.zeros(len(values))
    ends = kept.min(axis=-1, keepdims=True), kept.max(axis=-1, keepdims=True)
    return kept.mean(axis=-1), np.clip(values, *ends).var(axis=-1, ddof=1)


def trimmed(cases: int, trim: float) -> int:
    """How many of so many cases are left out at each end; two always stay."""
    return max(0, min(int(trim * cases), (cases - 2) // 2))


def limit(df: int) -> float:
    """How many times the others' standard deviation an arm's own may be, to be judged by theirs."""
    return LIMITS[min(df, len(LIMITS)) - 1]


def spread_of_seeds(cells: Sequence[tuple[int, Array]], arms: int, trim: float) -> Trainings | None:
    """From the runs of each (arm, fold): position of the arm, values (seeds, cases)."""
    between, within, df, noise_df = np.zeros((4, arms))
    for arm, block in cells:
        seeds, cases = block.shape
        if seeds < 2 or not cases:
            continue
        means, variances = average(block - block.mean(axis=0), trim)
        between[arm] += _unrounded(float(means @ means), block)
        within[arm] += variances.sum() * (cases - 1)
        df[arm] += seeds - 1
        noise_df[arm] += (seeds - 1) * (cases - 1)
    if not df.any():
        return None

    def squares(kept: NDArray[np.bool_]) -> tuple[Array, Array, float, int]:
        return between, df, float(between[kept].sum()), int(df[kept].sum())

    return _judged(squares, (within, noise_df), "seeds")


def spread_of_folds(
    blocks: Sequence[tuple[NDArray[np.intp], Array]], count: int, trim: float
) -> Trainings | None:
    """From one run per (arm, fold): of each fold the positions of its arms, (runs, cases).

    The mean square is arm × fold; that of one of `count` arms is around the mean of the others.
    """
    known = [(own, average(block - block.mean(axis=0), trim)[0]) for own, block in blocks]
    if len(known) < 2:
        return None
    arms = np.concatenate([own for own, _ in known])
    fold = np.repeat(np.arange(len(known)), [len(own) for own, _ in known])
    values = np.concatenate([means for _, means in known])
    largest = max(float(np.abs(block).max()) for _, block in blocks)
    values[np.abs(values) <= np.sqrt(ROUNDING) * largest] = 0.0

    def squares(kept: NDArray[np.bool_]) -> tuple[Array, Array, float, int]:
        rest, rank = _two_way(arms[kept[arms]], fold[kept[arms]], values[kept[arms]])
        own = np.bincount(arms[kept[arms]], rest**2, count)
        runs, n = np.bincount(arms[kept[arms]], minlength=count), int(kept.sum())
        df = np.maximum(0, runs - 1)
        return own * n / max(1, n - 1), df, float(rest @ rest), len(rest) - rank

    present = np.bincount(arms, minlength=count) > 0
    if present.sum() < 2 or squares(present)[3] < 1:
        return None
    return _judged(squares, (np.zeros(count), np.zeros(count)), "folds", present)


def _two_way(arms: NDArray[np.intp], fold: NDArray[np.intp], values: Array) -> tuple[Array, int]:
    """What arms and folds leave of the values, and how many numbers they fit."""
    within = [np.eye(fold.max() + 1)[fold], values[:, None]]
    table = np.hstack(within)
    counts = np.bincount(arms, minlength=arms.max() + 1)
    means = np.array([np.bincount(arms, column, len(counts)) for column in table.T])
    table = table - (means / np.maximum(counts, 1)).T[arms]
    fitted, _, rank, _ = np.linalg.lstsq(table[:, :-1], table[:, -1])
    return table[:, -1] - table[:, :-1] @ fitted, int(rank) + int((counts > 0).sum())


def _judged(
    squares: Squares,
    noise: tuple[Array, Array],
    source: Literal["seeds", "folds"],
    present: NDArray[np.bool_] | None = None,
) -> Trainings:
    count = len(noise[0])
    kept = np.ones(count, dtype=bool) if present is None else present.copy()
    while True:
        own, df, total, total_df = squares(kept)
        others_df = np.maximum(0, total_df - np.where(kept, df, 0))
        left = np.maximum(0.0, total - np.where(kept, own, 0.0))
        others = np.divide(left, others_df, out=np.zeros(count), where=others_df > 0)
        tested = np.flatnonzero(kept & (df > 0) & (others_df > 0))
        ratios = [_ratio(own[a] / df[a], others[a]) for a in tested]
        p_values = special.fdtrc(df[tested], others_df[tested], ratios) * len(tested)
        if not len(tested) or min(p_values) > OUTLYING:
            break
        kept[tested[np.argmin(p_values)]] = False
    apart = [a for a in range(count) if not kept[a] and (present is None or present[a])]
    for a in apart:
        beside, beside_df = squares(kept | (np.arange(count) == a))[:2]
        own[a], df[a], others[a] = beside[a], beside_df[a], total / max(1, total_df)
    alone = set(apart)
    for a in tested:
        if own[a] / df[a] > limit(int(df[a])) ** 2 * others[a] * (1 + 1e-9):
            alone.add(int(a))
    if source == "folds":  # the mean of the others, too, differs from fold to fold
        for a in alone:
            own[a] *= 1 + 1 / max(1, kept.sum() - kept[a])
    within, noise_df = noise
    pooled_noise = within[kept].sum() / max(1, noise_df[kept].sum())
    return Trainings(
        pool=Spread(value=total / max(1, total_df), df=total_df, noise=float(pooled_noise)),
        own=tuple(
            Spread(
                value=float(own[a] / max(1, df[a])),
                df=int(df[a]),
                noise=float(within[a] / max(1, noise_df[a])),
            )
            for a in range(count)
        ),
        others=tuple(map(float, others)),
        apart=frozenset(apart),
        alone=frozenset(alone),
        source=source,
    )


def _ratio(own: float, others: float) -> float:
    return own / others if others else (np.inf if own else 1.0)


def _unrounded(squares: float, block: Array) -> float:
    """Zero where it is no more than the rounding of the values."""
    return squares if squares > ROUNDING * float(np.abs(block).max()) ** 2 else 0.0
