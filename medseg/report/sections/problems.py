"""Everything that was asked for and gave no number, with the reason."""

from medseg.report.arms import Arm, cell_name
from medseg.report.page import Section
from medseg.report.study import ReportData
from medseg.report.tables import Cell, Table, arm_cell, table, words

_WHY = {
    "failed": "no error was recorded",
    "interrupted": "stopped by a signal",
    "running": "not finished: a process is at work on it",
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
            what = run.error or _WHY[run.status]
            code = "" if run.exit_code is None else f" (exit code {run.exit_code})"
            rows.append(_row(run.status, arm, run.seed, what + code, run.source))
        for run in arm.superseded:
            what = "completed, but the same fold and seed was run again later; the later run counts"
            rows.append(_row("superseded", arm, run.seed, what, run.source))
    for plan, cell in data.missing:
        what = f"a cell of {plan.name} without any record"
        rows.append(_row("missing", cell_name(cell), cell.seed, what, plan.source))
    rows += [_row("unreadable", "", None, why, source) for source, why in data.unreadable.items()]
    return table("Runs without a result", rows)


def _row(
    status: str, arm: Arm | str, seed: int | None, what: str, source: str = ""
) -> dict[str, Cell]:
    return {
        "Status": Cell(status, status, look="status"),
        "Arm or cell": arm_cell(arm) if isinstance(arm, Arm) else words(arm),
        "Seed": words("") if seed is None else Cell(str(seed), seed),
        "What happened": Cell(what, what, look="what"),
        "Record": words(source, code=True),
    }
