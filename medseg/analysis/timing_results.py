"""What was measured, and the figures that follow from it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

STEP = "forward+backward"
"""The work by which candidates are compared."""


@dataclass(frozen=True)
class Series:
    """The rounds of one candidate at one work, precision and layout."""

    work: str
    precision: str
    layout: str
    samples_milliseconds: tuple[float, ...]

    @property
    def median_milliseconds(self) -> float:
        """The middle round."""
        return statistics.median(self.samples_milliseconds)

    @property
    def spread(self) -> float:
        """Interquartile range ÷ median; 0 of a single round."""
        if len(self.samples_milliseconds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.samples_milliseconds, n=4, method="inclusive")
        return (high - low) / self.median_milliseconds if self.median_milliseconds else 0.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """One candidate.

    Args:
        name: What the table calls it.
        series: Every work, precision and layout that was measured.
        batch: Items in the input.
        macs: Multiply-accumulates of one item's forward pass.
        parameters: Trainable parameters.
        peak_memory_bytes: Of one forward+backward pass in fp32.
        notes: What could not be measured, and why.
    """

    name: str
    series: tuple[Series, ...]
    batch: int
    macs: int | None = None
    parameters: int | None = None
    peak_memory_bytes: int | None = None
    notes: tuple[str, ...] = ()

    def best(self, work: str, precision: str) -> Series | None:
        """The series of the layout whose forward+backward pass is the fastest."""
        layout = self.best_layout(precision)
        wanted = (work, precision, layout)
        return next((s for s in self.series if (s.work, s.precision, s.layout) == wanted), None)

    def best_layout(self, precision: str) -> str | None:
        """The layout whose forward+backward pass is the fastest; None if none was measured."""
        steps = [s for s in self.series if s.work == STEP and s.precision == precision]
        return min(steps, key=lambda s: s.median_milliseconds).layout if steps else None


@dataclass(frozen=True)
class Case:
    """Candidates at one size, interleaved, and the name of the one they are compared with."""

    label: str
    reference: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Group:
    """The cases of one table."""

    slug: str
    title: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Figures:
    """What follows from a row and its reference.

    Args:
        speed_up: Precision → the reference's forward+backward time ÷ this row's.
        mac_ratio: The reference's multiply-accumulates ÷ this row's.
        realised_saving: Precision → speed-up ÷ MAC ratio.
        milliseconds_per_gmac: Precision → forward+backward time ÷ 10⁹ forward
            multiply-accumulates of the batch.
    """

    speed_up: dict[str, float]
    mac_ratio: float | None
    realised_saving: dict[str, float]
    milliseconds_per_gmac: dict[str, float]


def figures(row: Row, case: Case, precisions: Sequence[str]) -> Figures:
    """The figures of a row of a case."""
    reference = next(r for r in case.rows if r.name == case.reference)
    times = {p: s.median_milliseconds for p in precisions if (s := row.best(STEP, p))}
    bases = {p: s.median_milliseconds for p in precisions if (s := reference.best(STEP, p))}
    speed_up = {p: bases[p] / t for p, t in times.items() if p in bases and t}
    mac_ratio = reference.macs / row.macs if reference.macs and row.macs else None
    gmacs = (row.macs or 0) * row.batch / 1e9
    return Figures(
        speed_up=speed_up,
        mac_ratio=mac_ratio,
        realised_saving={p: s / mac_ratio for p, s in speed_up.items()} if mac_ratio else {},
        milliseconds_per_gmac={p: t / gmacs for p, t in times.items()} if gmacs else {},
    )
