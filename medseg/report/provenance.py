"""Where the numbers come from: what all runs share said once, then what each run differs in."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from medseg.record import RunRecord
from medseg.report.arm import Arm
from medseg.report.cells import Cell, Column, Row, Table, words
from medseg.report.collect import Collection
from medseg.report.sources import Run

_NONE = "not recorded"
_COLUMNS = {
    "run": ("Run", ""),
    "digest": ("Digest", "of its configuration"),
    "started": ("Started", ""),
    "finished": ("Finished", ""),
    "overrides": ("Overrides", "but the shared ones"),
    "command": ("Command", ""),
    "split": ("Split", ""),
    "machine": ("Machine", ""),
    "versions": ("Versions", ""),
    "source": ("Record", ""),
}


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What is the same in all runs, as pairs of name and text, and a row for each run."""

    shared: tuple[tuple[str, str], ...]
    runs: Table


def provenance_of(collection: Collection) -> Provenance:
    """Facts about every run; those that all runs share are taken out of the rows."""
    runs = [(arm, run) for arm in collection.arms for run in arm.runs]
    common = _common_overrides([run.record for _, run in runs])
    facts = [_facts(run, common) for _, run in runs]
    single = len(runs) == 1
    same = {key for key in _COLUMNS if single or len({fact[key] for fact in facts}) == 1}
    same -= {"run", "source"} if not single else set()
    kept = [key for key in _COLUMNS if key not in same]
    shared = [(_COLUMNS[key][0], facts[0][key]) for key in _COLUMNS if key in same and facts]
    if common and not single:
        shared.append(("Overrides of all", " ".join(common)))
    shared += [("Plan", _plan(found.source, found.plan.command)) for found in collection.plans]
    return Provenance(shared=tuple(shared), runs=_table(runs, facts, kept))


def _table(
    runs: Sequence[tuple[Arm, Run]], facts: Sequence[Mapping[str, str]], kept: Sequence[str]
) -> Table:
    columns = (
        Column(key="arm", title="Arm"),
        Column(key="seed", title="Seed", numeric=True),
        Column(key="fold", title="Fold", numeric=True),
        Column(key="status", title="Status"),
        *(Column(key=key, title=_COLUMNS[key][0], unit=_COLUMNS[key][1]) for key in kept),
    )
    rows = [
        Row(
            arm=arm.number,
            cells=(
                words(arm.label),
                Cell(text=str(run.record.seed), value=run.record.seed),
                _fold(run.record),
                words(run.record.status),
                *(words(fact[key], code=True) for key in kept),
            ),
        )
        for (arm, run), fact in zip(runs, facts, strict=True)
    ]
    return Table(caption="What each run has of its own", columns=columns, rows=tuple(rows))


def _facts(run: Run, common: Sequence[str]) -> dict[str, str]:
    record = run.record
    own = list((Counter(record.overrides) - Counter(common)).elements())
    return {
        "run": record.name,
        "digest": record.digest or _NONE,
        "started": record.started or _NONE,
        "finished": record.finished or _NONE,
        "overrides": " ".join(own) or "none",
        "command": " ".join(record.command) or _NONE,
        "split": _split(record),
        "machine": _pairs(record.machine.items()),
        "versions": _pairs(record.versions.items()),
        "source": run.source,
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


def _pairs(items: Iterable[tuple[str, object]]) -> str:
    return ", ".join(f"{key} {value}" for key, value in items) or _NONE


def _plan(source: str, command: Sequence[str]) -> str:
    return f"{source}: {' '.join(command) or _NONE}"


def _fold(record: RunRecord) -> Cell:
    return words("") if record.fold is None else Cell(text=str(record.fold), value=record.fold)
