"""What a reader must know before believing the numbers: one line for every doubt."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from medseg.record import RunRecord
from medseg.report.arm import Arm
from medseg.report.cells import counted, joined
from medseg.report.collect import Collection
from medseg.report.factors import Factors
from medseg.report.studies import CHIEF, Study

_MACHINE = ("host", "device", "cpu", "threads", "precision")
_PACKAGES = ("medseg", "torch", "monai")
_NAMED = 5
_TOLERANCE = 0.1  # of the quantity that arms were made equal in


def cautions_of(
    collection: Collection, studies: Sequence[Study], factors: Sequence[Factors]
) -> list[str]:
    """Doubts about single studies, then about all runs together."""
    found = [
        line for study, own in zip(studies, factors, strict=True) for line in _of_study(study, own)
    ]
    records = [run.record for arm in collection.arms for run in arm.counted]
    return [*found, *_of_runs(records), *_of_files(collection)]


def _of_study(study: Study, factors: Factors) -> Iterator[str]:
    where = study.dataset or "one dataset"
    if study.reference.caution:
        yield study.reference.caution
    yield from _of_arms(study)
    yield from _of_cases(study, where)
    margins = {found.plan.margin for found in study.plans}
    if len(margins) > 1:
        yield f"Plans on {where} name the margins {_numbers(margins)}; ±{study.margin:g} is used."
    references = {tuple(found.plan.reference.items()) for found in study.plans}
    if len(references) > 1:
        yield (
            f"Plans on {where} name different references; all arms are compared with "
            f"{study.reference.arm.label}."
        )
    if factors.left_out:
        yield (
            f"{_some(factors.left_out)} {_verb(factors.left_out)} other factors than the rest, or "
            "none, and no part in the table of factors."
        )
    others = [key for key in study.verdicts if key != CHIEF]
    lost = [
        v.title
        for k in others
        if len((v := study.verdicts[k]).observations.arms) < len(study.compared)
    ]
    if lost:
        yield f"{joined(lost)} is not recorded in every arm on {where}."
    records = [run.record for arm in study.compared for run in arm.counted]
    if len({tuple(r.patch_size) for r in records if r.patch_size}) > 1:
        yield f"The patch size differs between runs on {where}, and with it MACs."


def _of_arms(study: Study) -> Iterator[str]:
    dropped = [arm for arm in study.arms if arm.dropped]
    if dropped:
        yield (
            f"{_some(dropped)}: not in the plan any more; compared like the others, and counted in "
            "Holm’s correction."
        )
    without = [arm for arm in study.arms if arm not in study.compared]
    if without:
        yield f"{_some(without)}: no result, so no verdict."
    short = [arm for arm in study.compared if len(arm.counted) < arm.wanted]
    if short:
        yield f"{_some(short)}: fewer completed runs than asked for; the rest stand in for all."
    counts = {len(arm.counted) for arm in study.compared}
    if len(counts) > 1 and not short:
        yield f"Arms have between {min(counts)} and {counted(max(counts), 'run')}."
    far = [arm for arm in study.compared if _is_far(arm)]
    if far:
        yield f"{_some(far)}: more than 10 % away from the size it was to be made equal to."


def _of_cases(study: Study, where: str) -> Iterator[str]:
    lost = [c for c in study.chief.comparisons if any(c.left_out.values())]
    if lost:
        labels = {arm.number: arm for arm in study.arms}
        fewest = min(c.cases for c in lost)
        yield (
            f"{_some([labels[c.arm] for c in lost])}: not validated on the same cases as "
            f"{study.reference.arm.label} on {where}; compared on those they share, as few as "
            f"{fewest}. Means in the table of arms are over all cases of each arm."
        )
    sets = {
        frozenset(case.case for case in run.record.cases)
        for arm in study.compared
        for run in arm.counted
        if run.record.fold is None
    }
    if len(sets) > 1 and not lost:
        yield (
            f"Runs of one arm on {where} were validated on different cases; a case counts with the "
            "runs that have it."
        )


def _of_runs(records: Sequence[RunRecord]) -> Iterator[str]:
    for package in _PACKAGES:
        known = _different(records, lambda record, name=package: record.versions.get(name))
        if len(known) > 1:
            yield f"Runs come from {package} {joined(sorted(map(str, known)))}."
    machines = {
        tuple(str(record.machine.get(key)) for key in _MACHINE)
        for record in records
        if record.machine
    }
    if len(machines) > 1:
        yield (
            "Runs come from different machines, devices or precisions; "
            "their times and memory do not compare."
        )
    resumed = [record for record in records if record.restarts > 0]
    if resumed:
        yield (
            f"{counted(len(resumed), 'run')} {'was' if len(resumed) == 1 else 'were'} continued "
            "after a stop; the times of setting up and of validation are those of the last start."
        )


def _of_files(collection: Collection) -> Iterator[str]:
    again = sum(len(arm.superseded) for arm in collection.arms)
    if again:
        yield (
            f"{counted(again, 'completed run')} of an arm, fold and seed that was run again: "
            "the newest counts."
        )
    if collection.unreadable:
        yield f"{counted(len(collection.unreadable), 'file')} could not be read; listed below."


def _different(records: Iterable[RunRecord], read: Callable[[RunRecord], Any]) -> set[Any]:
    return {value for record in records if (value := read(record)) is not None}


def _is_far(arm: Arm) -> bool:
    found = [run.record.matched for run in arm.counted if run.record.matched]
    return any(abs(m.value - m.wanted) > _TOLERANCE * abs(m.wanted) for m in found)


def _some(arms: Sequence[Arm]) -> str:
    """The labels, or the first and how many more."""
    if len(arms) <= _NAMED:
        return joined([arm.label for arm in arms])
    return f"{', '.join(arm.label for arm in arms[:_NAMED])} and {len(arms) - _NAMED} more arms"


def _verb(arms: Sequence[Arm]) -> str:
    return "has" if len(arms) == 1 else "have"


def _numbers(values: Iterable[float]) -> str:
    return joined([f"{value:g}" for value in sorted(values)])
