"""Everything that was asked for and gave no number, with the reason."""

from medseg.report.arms import Arm
from medseg.report.page import Section
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, table, words

MISSING_SHOWN = 200
_WHY = {
    "failed": "no error was recorded",
    "interrupted": "stopped by a signal",
    "running": "not finished: still going, or killed without a chance to say so",
}


def problems(data: ReportData) -> Section:
    """Runs without a result, missing cells of plans, unreadable files."""
    found = problems_table(data)
    text = "None of these contributes to any number of this report."
    parts = [text, found] if found else ["Nothing: every run that was found is complete."]
    return Section("Failed, interrupted, unfinished and missing", parts, key="problems")


def problems_table(data: ReportData) -> Table:
    """One row per run without a result, per missing cell and per file that cannot be read."""
    rows = []
    for arm in data.arms:
        for run in (run for run in arm.runs if run.status != "completed"):
            record = run
            what = record.error or _WHY[record.status]
            code = "" if record.exit_code is None else f" (exit code {record.exit_code})"
            rows.append(_row(record.status, arm, record.seed, what + code, run.source))
        for run in arm.superseded:
            what = "completed, but the same fold and seed was run again later; the later run counts"
            rows.append(_row("superseded", arm, run.seed, what, run.source))
    for gap in data.missing[:MISSING_SHOWN]:
        what = f"a cell of {gap.found.plan.name} without any record"
        rows.append(_row("missing", gap.text, gap.cell.seed, what, gap.found.source))
    more = len(data.missing) - MISSING_SHOWN
    if more > 0:
        rows.append(_row("missing", f"{more} more cells", None, "listed in the CSV file"))
    rows += [_row("unreadable", "", None, file.reason, file.source) for file in data.unreadable]
    return table("Runs without a result", rows)


def _row(
    status: str, arm: Arm | str, seed: int | None, what: str, source: str = ""
) -> dict[str, Cell]:
    known = isinstance(arm, Arm)
    return {
        "Status": Cell(status, status, look="status"),
        "Arm or cell": Cell(arm.label, arm.label, look="arm", arm=arm.number)
        if known
        else words(arm),
        "Seed": words("") if seed is None else Cell(str(seed), seed),
        "What happened": Cell(what, what, look="what"),
        "Record": words(source, code=True),
    }
