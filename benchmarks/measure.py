"""Candidates in, measured rows out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from medseg.analysis.memory import peak_memory_bytes
from medseg.analysis.timing import Call, Clock, Outcome, interleave
from medseg.analysis.timing_results import STEP, Case, Row, Series
from medseg.analysis.workloads import Candidate, Setting

_SEED = 0

_Key = tuple[str, str, str, str]  # work, precision, candidate, layout


@dataclass(frozen=True, kw_only=True)
class Bench:
    """How everything is measured.

    Args:
        device: Where.
        precisions: `fp32`, and `bf16` where the machine has it.
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
        """Measures candidates against each other; see `Case`."""
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
