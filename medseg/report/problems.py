"""Everything that was asked for and gave no number, with the reason."""

from medseg.report.arm import Arm
from medseg.report.cells import Cell, Column, Row, Table, words
from medseg.report.collect import Collection
from medseg.report.plans import Missing

MISSING_SHOWN = 200
_SAID = {
    "failed": "no error was recorded",
    "interrupted": "stopped by a signal",
    "running": "not finished: still going, or killed without a chance to say so",
}


def problems_table(collection: Collection) -> Table:
    """One row per run without a result, per missing cell and per file that cannot be read."""
    rows = []
    for arm in collection.arms:
        for run in arm.runs:
            record = run.record
            if record.status == "completed":
                continue
            what = record.error or _SAID[record.status]
            if record.exit_code is not None:
                what = f"{what} (exit code {record.exit_code})"
            rows.append(_row(record.status, arm.label, record.seed, what, run.source, arm))
        for run in arm.superseded:
            what = "completed, but the same fold and seed was run again later; the later run counts"
            rows.append(_row("superseded", arm.label, run.record.seed, what, run.source, arm))
    rows += [_missing(gap) for gap in collection.missing[:MISSING_SHOWN]]
    more = len(collection.missing) - MISSING_SHOWN
    if more > 0:
        rows.append(_row("missing", f"{more} more cells", None, "listed in the CSV file"))
    for file in collection.unreadable:
        rows.append(_row("unreadable", "", None, file.reason, file.source))
    columns = (
        Column(key="status", title="Status"),
        Column(key="arm", title="Arm or cell"),
        Column(key="seed", title="Seed", numeric=True),
        Column(key="what", title="What happened"),
        Column(key="source", title="Record"),
    )
    return Table(caption="Runs without a result", columns=columns, rows=tuple(rows))


def _missing(gap: Missing) -> Row:
    what = f"a cell of {gap.found.plan.name} without any record"
    return _row("missing", gap.text, gap.cell.seed, what, gap.found.source)


def _row(
    status: str, label: str, seed: int | None, what: str, source: str = "", arm: Arm | None = None
) -> Row:
    seeds = words("") if seed is None else Cell(text=str(seed), value=seed)
    cells = (words(status), words(label), seeds, words(what), words(source, code=True))
    return Row(cells=cells, arm=arm.number if arm else 0)
