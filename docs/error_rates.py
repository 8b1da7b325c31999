"""How often ablations err, and what they find: `python docs/error_rates.py [ABLATIONS]`.

Prints the tables of docs/statistics.md, each of ABLATIONS (4000; seed 0) ablations that are drawn
from the model of `medseg.statistics` and judged by its rules, many at once: tests/statistics holds
these verdicts to be those of `medseg.statistics.compare`.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import special

from medseg.statistics import bca
from medseg.statistics.spread import LIMITS, OUTLYING, average, trimmed

Array = NDArray[np.float64]
AT_ONCE = 1000
KINDS = {"training × case": (0.0, 1.0), "half arm × case": (0.7, 0.7), "arm × case": (1.0, 0.0)}
SPREADS = (0.0, 0.15, 0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Sizes; standard deviations of cases, arm × case, trainings and training × case.

    Attributes:
        shared: Whether every fold tests all cases; else each its own.
        wild: Arm → how many times its trainings differ as far as those of the others.
        failed: An arm whose first training reaches so much less.
        outlier: Added to the first case of arm 1.
        shift: Added to arm 1.
        tails: Degrees of freedom of Student's t of arm × case and of trainings; 0 for the normal.
    """

    arms: int = 2
    folds: int = 1
    seeds: int = 2
    cases: int = 20
    case: float = 0.0
    arm_case: float = 0.0
    run: float = 0.0
    noise: float = 0.0
    shared: bool = False
    wild: tuple[tuple[int, float], ...] = ()
    failed: tuple[tuple[int, float], ...] = ()
    outlier: float = 0.0
    shift: float = 0.0
    tails: int = 0

    @property
    def difference(self) -> float:
        """Standard deviation between cases of the difference of two arms."""
        return float(np.sqrt(2 * (self.arm_case**2 + self.noise**2 / self.seeds)))

    def spread(self, ratio: float) -> "Design":
        """The same with trainings that differ by so many of these standard deviations."""
        return replace(self, run=ratio * self.difference)

    def draw(self, generator: np.random.Generator, ablations: int) -> Array:
        """Values (ablations, arms, folds, seeds, cases)."""

        def drawn(scale: float, *shape: int, tails: int = 0) -> Array:
            if not tails:
                return generator.normal(scale=scale, size=(ablations, *shape))
            unit = np.sqrt(tails / (tails - 2))
            return scale / unit * generator.standard_t(tails, size=(ablations, *shape))

        runs = drawn(self.run, self.arms, self.folds, self.seeds, 1, tails=self.tails)
        for arm, times in self.wild:
            runs[:, arm] *= times
        for arm, less in self.failed:
            runs[:, arm, 0, 0] -= less
        values = runs + drawn(self.arm_case, self.arms, 1, 1, self.cases, tails=self.tails)
        values = values + drawn(self.noise, self.arms, self.folds, self.seeds, self.cases)
        values += drawn(self.case, 1, 1, 1, self.cases)
        values[:, 1] += self.shift
        values[:, 1, ..., 0] += self.outlier
        return values


EIGHT = Design(arms=8, arm_case=0.01, noise=0.01, run=0.005)


def judged_spreads(own: Array, df: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which arms stay in the pool, and which are judged alone, by their mean squares."""
    kept = np.ones(own.shape, dtype=bool)
    for _ in range(own.shape[1] - 2):
        count = kept.sum(axis=1)
        total = np.where(kept, own, 0).sum(axis=1)
        largest = np.where(kept, own, -1).argmax(axis=1)
        ratio = np.take_along_axis(own, largest[:, None], 1)[:, 0]
        ratio = ratio / np.maximum((total - ratio) / np.maximum(1, count - 1), 1e-300)
        p_value = count * special.fdtrc(df, np.maximum(1, count - 1) * df, ratio)
        out = (p_value <= OUTLYING) & (count > 1)
        kept[np.flatnonzero(out), largest[out]] = False
    count = kept.sum(axis=1, keepdims=True)
    total = np.where(kept, own, 0).sum(axis=1, keepdims=True)
    beside = (total - np.where(kept, own, 0)) / np.maximum(1, count - kept)
    limit = LIMITS[min(df, len(LIMITS)) - 1]
    return kept, ~kept | ((own > limit**2 * beside * (1 + 1e-9)) & (count - kept > 0))


def judged(values: Array, trim: float = 0.0, *, pooled: bool = False) -> tuple[Array, Callable]:
    """Differences to arm 0 (ablations, arms − 1), and their half-widths for a one-sided tail.

    Args:
        values: Of `Design.draw`, of one fold.
        trim: Share of the cases left out at each end.
        pooled: The rule before: one spread for all arms, whatever they are.
    """
    ablations, arms, seeds, cases = values.shape
    kept_cases = cases - 2 * trimmed(cases, trim)
    unit, df = (cases - 1) / (kept_cases * (kept_cases - 1)), seeds - 1
    means = values.mean(axis=2)
    centred = (values - means[:, :, None]).reshape(-1, cases)
    run_means, run_variances = (part.reshape(values.shape[:3]) for part in average(centred, trim))
    own = (run_means**2).sum(axis=2) / df
    noise = run_variances.sum(axis=2) / df
    kept, alone = judged_spreads(own, df)
    if pooled:
        kept, alone = np.ones_like(kept), np.zeros_like(alone)
    count = kept.sum(axis=1, keepdims=True)
    pool = np.where(kept, own, 0).sum(axis=1, keepdims=True) / count
    pool_df = count * df
    pool_noise = np.where(kept, noise, 0).sum(axis=1, keepdims=True) / count
    used_noise = np.where(alone, noise, pool_noise) / seeds * unit
    estimate, variance = average((means[:, 1:] - means[:, :1]).reshape(-1, cases), trim)
    by_cases = variance.reshape(ablations, arms - 1) * unit
    shared = used_noise[:, 1:] + used_noise[:, :1]

    def half(tail: float) -> Array:
        wide = special.stdtrit(pool_df, tail) ** 2 * (pool if pooled else np.maximum(own, pool))
        runs = np.where(alone, special.stdtrit(df, tail) ** 2 * own, wide) / seeds
        rest = special.stdtrit(kept_cases - 1, tail) ** 2 * by_cases
        rest = np.maximum(0, rest - special.ndtri(tail) ** 2 * shared)
        return np.sqrt(runs[:, 1:] + runs[:, :1] + rest)

    return estimate.reshape(ablations, arms - 1), half


def rate(design: Design, ablations: int, counted: Callable, *, seed: int = 0, **how) -> float:
    """Share of ablations that are counted, from the differences and their half-widths."""
    generator, found = np.random.default_rng(seed), 0.0
    for start in range(0, ablations, AT_ONCE):
        size = min(AT_ONCE, ablations - start)
        found += counted(*judged(design.draw(generator, size)[:, :, 0], **how)).sum()
    return found / ablations


def any_different(differences: Array, half: Callable) -> NDArray[np.bool_]:
    """Any arm is called better or worse: the first step of Holm's correction."""
    return (np.abs(differences) >= half(0.025 / differences.shape[1])).any(axis=1)


def first_different(differences: Array, half: Callable) -> NDArray[np.bool_]:
    """Arm 1 is called better or worse."""
    return np.abs(differences[:, 0]) >= half(0.025 / differences.shape[1])[:, 0]


def equal_at(margin: float) -> Callable:
    """Arm 1 is called equal within the margin."""

    def counted(differences: Array, half: Callable) -> NDArray[np.bool_]:
        return np.abs(differences[:, 0]) + half(0.05)[:, 0] <= margin

    return counted


def alike(ablations: int) -> Iterator[tuple[str, ...]]:
    """Identical arms whose trainings differ alike: % in which any is called different."""
    yield ("cases", "arms × seeds × cases", *map(str, SPREADS))
    for kind, (arm_case, noise) in KINDS.items():
        for arms, seeds, cases in ((2, 2, 20), (2, 5, 50), (4, 2, 20), (8, 3, 6)):
            design = Design(arms=arms, seeds=seeds, cases=cases, arm_case=arm_case, noise=noise)
            found = [rate(design.spread(s), ablations, any_different) for s in SPREADS]
            yield (kind, f"{arms} × {seeds} × {cases}", *map(percent, found))


def defects(ablations: int) -> Iterator[tuple[str, ...]]:
    """% that find an arm worse by so many standard errors; trainings differ by 0.15 / 0.5."""
    yield ("arms × seeds × cases", "2", "3", "4", "6", "10")
    for arms, seeds, cases in ((2, 2, 20), (2, 3, 20), (2, 5, 50), (6, 2, 20), (6, 3, 50)):
        base = Design(arms=arms, seeds=seeds, cases=cases, arm_case=0.7, noise=0.7)
        row = []
        for errors in (2, 3, 4, 6, 10):
            found = []
            for ratio in SPREADS[1:3]:
                design = base.spread(ratio)
                variance = design.difference**2 / cases + 2 * design.run**2 / seeds
                design = replace(design, shift=-errors * float(np.sqrt(variance)))
                found.append(rate(design, ablations, first_different, seed=errors))
            row.append(" / ".join(f"{100 * share:.0f}" for share in found))
        yield (f"{arms} × {seeds} × {cases}", *row)


def scattering(ablations: int) -> Iterator[tuple[str, ...]]:
    """% now (with one spread for all) where trainings differ by 0.005, in one arm by 0.04."""
    yield ("8 arms, 20 cases", "2 seeds", "3 seeds", "5 seeds")
    base = EIGHT
    tested, third = ((1, 8.0),), ((7, 8.0),)
    shift, margin = replace(base, shift=0.03), 0.2
    rows: list[tuple[str, Design, Callable]] = [
        ("alike: called different", base, any_different),
        ("one arm scatters: called different", replace(base, wild=tested), any_different),
        ("the reference scatters: any called different", replace(base, wild=((0, 8.0),)),
         any_different),
        ("half of the arms scatter: called different",
         replace(base, wild=tuple((a, 8.0) for a in (0, 2, 4, 6))), any_different),
        ("one arm scatters twice as far: called different",
         replace(base, wild=((1, 2.0),)), any_different),
        ("t₃ tails of trainings and cases: called different", replace(base, tails=3),
         any_different),
        ("differs by the margin: called equal", replace(base, shift=margin), equal_at(margin)),
        ("… and scatters: called equal", replace(base, shift=margin, wild=tested),
         equal_at(margin)),
        ("alike: 0.03 found", shift, first_different),
        ("a third arm scatters: 0.03 found", replace(shift, wild=third), first_different),
        ("a seed of a third arm fails by 0.3: 0.03 found", replace(shift, failed=((7, 0.3),)),
         first_different),
        ("alike: 0.06 found", replace(shift, shift=0.06), first_different),
    ]  # fmt: skip
    for name, design, counted in rows:
        row = []
        for seeds in (2, 3, 5):
            sized = replace(design, seeds=seeds)
            now = rate(sized, ablations, counted)
            row.append(f"{percent(now)} ({percent(rate(sized, ablations, counted, pooled=True))})")
        yield (name, *row)


def robust(ablations: int) -> Iterator[tuple[str, ...]]:
    """% of the verdict's test and of its trimmed companion; 4 arms, 5 seeds, 20 cases."""
    yield ("design", "mean", "trimmed mean")
    base = replace(EIGHT, arms=4, seeds=5)
    rows = [
        ("alike: called different", base, any_different),
        ("t₃ tails: called different", replace(base, tails=3), any_different),
        ("8 cases: called different", replace(base, cases=8), any_different),
        ("one case of arm 1 off by 0.3: arm 1 called different", replace(base, outlier=0.3),
         first_different),
        ("0.03 found", replace(base, shift=0.03), first_different),
        ("one case of arm 1 off by −0.3: 0.03 found", replace(base, shift=0.03, outlier=-0.3),
         first_different),
        ("t₃ tails: 0.03 found", replace(base, shift=0.03, tails=3), first_different),
    ]  # fmt: skip
    for name, design, counted in rows:
        both = [rate(design, ablations, counted, trim=trim) for trim in (0.0, 0.2)]
        yield (name, *map(percent, both))


def cover(ablations: int) -> Iterator[tuple[str, ...]]:
    """% of intervals over cases, nominal 95 %, that hold the mean (a quarter of the draws)."""
    yield ("cases", "normal", "exponential", "Student's t₃", "log-normal")
    generator = np.random.default_rng(0)
    kinds: list[tuple[Callable, float]] = [
        (generator.standard_normal, 0.0),
        (generator.standard_exponential, 1.0),
        (lambda cases: generator.standard_t(3, cases), 0.0),
        (lambda cases: np.exp(generator.standard_normal(cases)), float(np.exp(0.5))),
    ]
    for cases in (8, 10, 20, 50):
        row = []
        for draw, mean in kinds:
            found = [bca(draw(cases)) or (np.nan, np.nan) for _ in range(max(1, ablations // 4))]
            row.append(percent(float(np.mean([low <= mean <= high for low, high in found]))))
        yield (str(cases), *row)


def grid(rows: int, columns: int) -> dict[str, NDArray]:
    """The projections of arm means on the effects of a full grid's two factors, and on both."""
    means: list[Array] = [np.full((n, n), 1 / n) for n in (rows, columns)]
    rest: list[Array] = [np.eye(len(mean)) - mean for mean in means]
    return {
        "first": np.kron(rest[0], means[1]),
        "second": np.kron(means[0], rest[1]),
        "both": np.kron(rest[0], rest[1]),
    }


def significant(
    values: Array, projection: Array, *, pooled: bool = False, alpha: float = 0.05
) -> NDArray[np.bool_]:
    """Whether the test of an effect has p ≤ alpha, by the rule of `medseg.statistics.effects`.

    Args:
        values: (ablations, arms, seeds, cases).
        projection: Of `grid`.
        pooled: The rule before: one error for all arms.
        alpha: The level.
    """
    means = values.mean(axis=3)
    seeds, arm_means, own = means.shape[2], means.mean(axis=2), means.var(axis=2, ddof=1)
    alone = judged_spreads(own, seeds - 1)[1] & (not pooled)
    count = (~alone).sum(axis=1, keepdims=True)
    pool = np.where(alone, 0, own).sum(axis=1, keepdims=True) / count
    variance = np.where(alone, own, pool)
    parts = np.diag(projection) * variance
    df = parts.sum(axis=1) ** 2 / np.einsum("ra,ab,rb->r", variance, projection**2, variance)
    freedom = np.where(alone, 1, count) * (seeds - 1)
    squares = seeds * np.einsum("ra,ab,rb->r", arm_means, projection, arm_means)
    return squares >= (parts * special.fdtri(df[:, None], freedom, 1 - alpha)).sum(axis=1)


def effects_found(
    design: Design, shape: tuple[int, int], ablations: int, *, pooled: bool = False
) -> dict[str, float]:
    """Share of ablations in which each effect of a grid is significant."""
    values = design.draw(np.random.default_rng(0), ablations)[:, :, 0]
    return {
        name: float(significant(values, projection, pooled=pooled).mean())
        for name, projection in grid(*shape).items()
    }


def factors(ablations: int) -> Iterator[tuple[str, ...]]:
    """% of F-tests of factors with p ≤ 0.05 (one error for all); the worst of three effects."""
    yield ("arms", "design", "2 seeds", "3 seeds", "5 seeds")
    for shape in ((2, 2), (2, 4), (4, 4)):
        base = Design(arms=shape[0] * shape[1], cases=6, run=0.005, noise=0.001)
        half = tuple((arm, 8.0) for arm in range(0, base.arms, 2))
        designs = {
            "alike": base,
            "one arm scatters": replace(base, wild=((1, 8.0),)),
            "half of the arms scatter": replace(base, wild=half),
            "alike, but arm 1 differs by 0.02": replace(base, shift=0.02),
        }
        for name, design in designs.items():
            row = []
            for seeds in (2, 3, 5):
                sized = replace(design, seeds=seeds)
                now, one = (
                    max(effects_found(sized, shape, ablations, pooled=pooled).values())
                    for pooled in (False, True)
                )
                row.append(f"{percent(now)} ({percent(one)})")
            yield (f"{shape[0]} × {shape[1]}", name, *row)


def percent(share: float) -> str:
    """One decimal of a share in %."""
    return f"{100 * share:.1f}"


TABLES = (alike, scattering, factors, robust, defects, cover)

if __name__ == "__main__":
    for table in TABLES:
        print(f"\n{table.__doc__}\n")
        for place, row in enumerate(table(int(sys.argv[1]) if sys.argv[1:] else 4000)):
            print(f"| {' | '.join(row)} |", flush=True)
            if not place:
                print(f"| {' | '.join('---' for _ in row)} |")
