"""Candidates measured against each other, and the figures that follow."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from benchmarks.candidates import STEP, Candidate, Setting
from medseg.analysis.memory import peak_memory_bytes
from medseg.analysis.timing import Call, Clock, Outcome, interleave

_SEED = 0

_Key = tuple[str, str, str, str]  # work, precision, candidate, layout


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
    """One measured candidate.

    Args:
        name: What the table calls it.
        series: Every work, precision and layout that was measured.
        batch: Items in the input.
        macs: Multiply-accumulates of one item's forward pass.
        parameters: Trainable parameters.
        peak_memory_bytes: Of one forward+backward pass in fp32, beyond its inputs.
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
        """The series in the layout whose forward+backward pass is the fastest."""
        wanted = (work, precision, self.best_layout(precision))
        return next((s for s in self.series if (s.work, s.precision, s.layout) == wanted), None)

    def best_layout(self, precision: str) -> str | None:
        """The layout whose forward+backward pass is the fastest; None if none was measured."""
        steps = [s for s in self.series if s.work == STEP and s.precision == precision]
        return min(steps, key=lambda s: s.median_milliseconds).layout if steps else None

    def step_milliseconds(self, precision: str) -> float | None:
        """Median time of the fastest forward+backward pass."""
        series = self.best(STEP, precision)
        return series.median_milliseconds if series else None


@dataclass(frozen=True)
class Case:
    """Candidates at one input, and the name of the one they are compared with."""

    label: str
    reference: str
    rows: tuple[Row, ...]

    def speed_up(self, row: Row, precision: str) -> float | None:
        """The reference's forward+backward time ÷ this row's; above 1 is faster."""
        own, base = row.step_milliseconds(precision), self._base.step_milliseconds(precision)
        return base / own if own and base is not None else None

    def mac_ratio(self, row: Row) -> float | None:
        """The reference's multiply-accumulates ÷ this row's."""
        return self._base.macs / row.macs if self._base.macs and row.macs else None

    def realised_saving(self, row: Row, precision: str) -> float | None:
        """Speed-up ÷ MAC ratio: 1 where the time follows the arithmetic."""
        faster, ratio = self.speed_up(row, precision), self.mac_ratio(row)
        return faster / ratio if faster is not None and ratio else None

    def milliseconds_per_gmac(self, row: Row, precision: str) -> float | None:
        """Forward+backward time ÷ 10⁹ forward multiply-accumulates of the batch."""
        own = row.step_milliseconds(precision)
        return own / (row.macs * row.batch / 1e9) if own is not None and row.macs else None

    @property
    def _base(self) -> Row:
        return next(row for row in self.rows if row.name == self.reference)


@dataclass(frozen=True)
class Group:
    """The cases of one table."""

    slug: str
    title: str
    cases: tuple[Case, ...]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How everything is measured.

    Args:
        device: Where.
        precisions: `fp32`, and `bf16` where the machine computes in it.
        rounds: Measured rounds.
        clock: What times a call.
        quick: Tiny sizes.
    """

    device: torch.device
    precisions: tuple[str, ...]
    rounds: int
    clock: Clock
    quick: bool = False

    def case(self, label: str, candidates: Sequence[Candidate], *, reference: str) -> Case:
        """Measures candidates in turn, so that a busy machine slows all of them alike."""
        torch.manual_seed(_SEED)
        calls = self._calls(candidates)
        outcomes = interleave(calls, self.rounds, self.clock)
        rows = tuple(self._row(candidate, calls, outcomes) for candidate in candidates)
        return Case(label, reference, rows)

    def _calls(self, candidates: Sequence[Candidate]) -> dict[_Key, Call]:
        calls: dict[_Key, Call] = {
            (work, precision, candidate.name, layout): call
            for candidate in candidates
            for precision in self.precisions
            for layout in candidate.layouts
            for work, call in candidate.calls(Setting(self.device, precision, layout)).items()
        }
        order = list(dict.fromkeys((work, precision) for work, precision, _, _ in calls))
        # rivals one right after the other; the sort keeps the order of the candidates
        return dict(sorted(calls.items(), key=lambda item: order.index(item[0][:2])))

    def _row(
        self, candidate: Candidate, calls: dict[_Key, Call], outcomes: dict[_Key, Outcome]
    ) -> Row:
        own = {key: outcome for key, outcome in outcomes.items() if key[2] == candidate.name}
        series = [
            Series(work, precision, layout, outcome.samples_milliseconds)
            for (work, precision, _, layout), outcome in own.items()
            if not outcome.failure
        ]
        row = Row(
            name=candidate.name,
            series=tuple(series),
            batch=candidate.batch,
            macs=candidate.macs,
            parameters=candidate.parameters,
            notes=tuple(
                f"{work} {precision}, {layout}: {outcome.failure}"
                for (work, precision, _, layout), outcome in own.items()
                if outcome.failure
            ),
        )
        return replace(row, peak_memory_bytes=self._peak(row, calls))

    def _peak(self, row: Row, calls: dict[_Key, Call]) -> int | None:
        precision = self.precisions[0]
        layout = row.best_layout(precision)
        if layout is None:
            return None
        return peak_memory_bytes(calls[STEP, precision, row.name, layout], self.device)
