"""How often ablations err: `python docs/error_rates.py [ABLATIONS [DEFECTS]]`.

Draws ablations from the model of `medseg.statistics` and prints how often identical arms are called
different (of ABLATIONS, 400 unless said) and how often a defect is called worse (of DEFECTS, 100).
docs/statistics.md has 4000 and 300, which take an hour.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from medseg.statistics import Observations, compare

SPREADS = (0.0, 0.15, 0.5, 2.0)


@dataclass(frozen=True, kw_only=True)
class Design:
    """Sizes, and standard deviations of arm × case, trainings, and training × case."""

    arms: int
    seeds: int
    cases: int
    arm_case: float
    noise: float
    run: float = 0.0

    @property
    def difference(self) -> float:
        """Standard deviation between cases of the difference of two arms."""
        return float(np.sqrt(2 * (self.arm_case**2 + self.noise**2 / self.seeds)))

    def spread(self, ratio: float) -> "Design":
        """The same with trainings that differ by so many of these standard deviations."""
        return replace(self, run=ratio * self.difference)

    def draw(self, generator: np.random.Generator, defect: float) -> Observations:
        """One ablation; arm 1 is worse by `defect`."""
        shape = (self.arms, 1, self.seeds, self.cases)
        values = (
            generator.normal(scale=1.0, size=(1, 1, 1, self.cases))
            + generator.normal(scale=self.arm_case, size=(self.arms, 1, 1, self.cases))
            + generator.normal(scale=self.run, size=(self.arms, 1, self.seeds, 1))
            + generator.normal(scale=self.noise, size=shape)
        )
        values[1] -= defect
        return Observations((*at[:3], f"case{at[3]}", float(v)) for at, v in np.ndenumerate(values))


KINDS = {"training × case": (0.0, 1.0), "half arm × case": (0.7, 0.7), "arm × case": (1.0, 0.0)}


def alarms(design: Design, ablations: int) -> float:
    """Share of ablations of identical arms in which any is called better or worse."""
    generator, found = np.random.default_rng(0), 0
    for _ in range(ablations):
        verdicts = {c.verdict for c in compare(design.draw(generator, 0.0), 0, margin=None)}
        found += bool(verdicts & {"better", "worse"})
    return found / ablations


def power(design: Design, errors: int, ablations: int) -> float:
    """Share of ablations that call an arm worse which is worse by so many standard errors."""
    variance = design.difference**2 / design.cases + 2 * design.run**2 / design.seeds
    generator, found = np.random.default_rng(errors), 0
    for _ in range(ablations):
        observations = design.draw(generator, errors * np.sqrt(variance))
        found += compare(observations, 0, margin=None)[0].verdict == "worse"
    return found / ablations


def rows(ablations: int, defects: int) -> Iterator[str]:
    yield "| cases | arms × seeds × cases | " + " | ".join(map(str, SPREADS)) + " |"
    yield "| --- | --- | " + " | ".join("---" for _ in SPREADS) + " |"
    for kind, (arm_case, noise) in KINDS.items():
        for arms, seeds, cases in ((2, 2, 20), (2, 5, 50), (4, 2, 20)):
            design = Design(arms=arms, seeds=seeds, cases=cases, arm_case=arm_case, noise=noise)
            found = [f"{100 * alarms(design.spread(s), ablations):.1f}" for s in SPREADS]
            yield f"| {kind} | {arms} × {seeds} × {cases} | {' | '.join(found)} |"
    yield ""
    yield "| arms × seeds × cases | 2 | 3 | 4 | 6 |"
    yield "| --- | --- | --- | --- | --- |"
    for arms, seeds, cases in ((2, 2, 20), (2, 3, 20), (2, 5, 50), (6, 2, 20), (6, 3, 50)):
        design = Design(arms=arms, seeds=seeds, cases=cases, arm_case=0.7, noise=0.7)
        found = [
            " / ".join(f"{100 * power(design.spread(s), k, defects):.0f}" for s in SPREADS[1:3])
            for k in (2, 3, 4, 6)
        ]
        yield f"| {arms} × {seeds} × {cases} | {' | '.join(found)} |"


if __name__ == "__main__":
    ablations, defects, *_ = [*map(int, sys.argv[1:3]), *(400, 100)[len(sys.argv) - 1 :]]
    for line in rows(ablations, defects):
        print(line, flush=True)
