"""Where the numbers come from: what all runs share once, then what each run differs in."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence

from medseg.formatting import counted
from medseg.record import RunRecord
from medseg.report.page import Section
from medseg.report.study import ReportData
from medseg.report.tables import Cell, arm_cell, table, words

_NONE = "not recorded"
_OWN = ("Run", "Record")  # of each run, even if one is like another


def provenance(data: ReportData) -> Section:
    """Facts about every run; those that all runs share are taken out of the rows."""
    runs = [(arm, run) for arm in data.arms for run in arm.runs]
    common = _common_overrides([run for _, run in runs])
    facts = [_facts(run, common) for _, run in runs]
    single = len(runs) == 1
    same = {
        title: facts[0][title]
        for title in facts[0]
        if single or (len({fact[title] for fact in facts}) == 1 and title not in _OWN)
    }
    shared = same | ({"Overrides of all": " ".join(common)} if common and not single else {})
    for plan in data.plans:
        shared[f"Plan {plan.source}"] = " ".join(plan.command) or _NONE
    rows = [
        {
            "Arm": arm_cell(arm),
            "Seed": Cell(str(run.seed), run.seed),
            "Fold": words("") if run.fold is None else Cell(str(run.fold), run.fold),
            "Status": words(run.status),
        }
        | {title: words(text, code=True) for title, text in fact.items() if title not in same}
        for (arm, run), fact in zip(runs, facts, strict=True)
    ]
    units = {"Digest": "of its configuration", "Overrides": "but the shared ones"}
    own = table("What each run has of its own", rows, units)
    whose = "Of the run:" if single else f"Shared by all {len(runs)} runs:"
    title = "The run" if single else f"What each of the {counted(len(runs), 'run')} has of its own"
    parts = [whose if shared else "", shared, Section(title, [own], folded=True)]
    return Section("Provenance", parts, key="provenance")


def _facts(run: RunRecord, common: Sequence[str]) -> dict[str, str]:
    own = list((Counter(run.overrides) - Counter(common)).elements())
    return {
        "Run": run.name,
        "Digest": run.digest or _NONE,
        "Started": run.started or _NONE,
        "Finished": run.finished or _NONE,
        "Overrides": " ".join(own) or "none",
        "Command": " ".join(run.command) or _NONE,
        "Split": _split(run),
        "Weights": _weights(run),
        "Machine": _pairs(run.machine.items()),
        "Versions": _pairs(run.versions.items()),
        "Record": run.source,
    }


def _common_overrides(records: Sequence[RunRecord]) -> list[str]:
    """Overrides that every run was given, if there are several runs."""
    if len(records) < 2:
        return []
    shared = set.intersection(*(set(record.overrides) for record in records))
    return [override for override in dict.fromkeys(records[0].overrides) if override in shared]


def _split(record: RunRecord) -> str:
    """Sizes, and digits that are equal for equal cases."""
    if not record.split:
        return _NONE
    text = json.dumps({part: sorted(cases) for part, cases in record.split.items()})
    digits = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{_pairs((part, len(cases)) for part, cases in record.split.items())}, digest {digits}"


def _weights(record: RunRecord) -> str:
    told = record.weights
    if not told:
        return "of the epoch with the best validation Dice" if record.is_chosen else _NONE
    text = f"of epoch {told.get('epoch')}, the {told.get('kept')} one"
    text += f", averaged over steps with decay {told['ema']}" if told.get("ema") else ""
    return text + (f", chosen by {told['chosen_by']}" if record.is_chosen else "")


def _pairs(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{key} {value}" for key, value in items) or _NONE
