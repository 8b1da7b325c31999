"""What a run came to, as lines for the terminal."""

import statistics

from medseg.formatting import MISSING, fixed, markdown_table
from medseg.record import METRICS, RunRecord


def score_lines(record: RunRecord) -> list[str]:
    """A table of the metrics of every class, averaged over the held-out cases that define them."""
    head = ["class", *(f"{m.title} {m.unit}".strip() for m in METRICS.values())]
    rows = []
    for name in record.classes:
        row = [name]
        for metric, about in METRICS.items():
            values = [case.metrics[name][metric] for case in record.cases]
            defined = [value for value in values if value is not None]
            row.append(fixed(statistics.fmean(defined), about.digits) if defined else MISSING)
        rows.append(row)
    return markdown_table(head, rows, [False, *[True] * len(METRICS)]).splitlines()
