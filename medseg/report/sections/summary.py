"""The opening: what was compared, what came out, what limits it, and every doubt."""

from collections.abc import Iterable, Iterator, Sequence

from medseg.formatting import (
    counted,
    fixed,
    interval,
    joined,
    p_value,
    percent,
    signed,
    significant,
)
from medseg.record import METRICS, RunRecord
from medseg.report.arms import Arm
from medseg.report.labels import varying_settings
from medseg.report.page import Section
from medseg.report.sections.costs import COSTS
from medseg.report.study import PRIMARY, ReportData, Study
from medseg.statistics import Comparison

VERDICTS = ("better", "worse", "equal", "undecided")
_NAMED = 5
_ALPHA = 0.05
_TOLERANCE = 0.1  # of the quantity that arms were made equal in
_MACHINE = ("host", "device", "cpu", "threads", "precision")
_PACKAGES = ("medseg", "torch", "monai")
_BUDGETS = {"iterations": "the same number of training steps", "seconds": "the same training time"}


def summary(data: ReportData) -> Section:
    """Facts about every dataset, then the cautions."""
    single = len(data.studies) == 1
    parts = [
        facts if single else Section(study.dataset or "Unnamed dataset", [facts])
        for study in data.studies
        for facts in [_facts(data, study)]
    ]
    cautions = [line for study in data.studies for line in _of_study(study)]
    cautions += [*_of_runs([run for arm in data.arms for run in arm.counted])]
    cautions += [*_of_files(data)]
    doubts = [Section("Cautions", [cautions])] if cautions else []
    return Section("Summary", [*parts, *_nothing(data), *doubts], key="summary")


def _nothing(data: ReportData) -> Iterator[str]:
    if not any(arm.counted for arm in data.arms):
        yield "No run has finished, so there is nothing to compare yet."
    known = {study.dataset for study in data.studies}
    for dataset in dict.fromkeys(arm.dataset for arm in data.arms if arm.counted):
        if dataset not in known:
            yield f"On {dataset or 'an unnamed dataset'} no Dice value is defined."


def _facts(data: ReportData, study: Study) -> dict[str, str]:
    return {
        "Compared": _compared(study),
        "Held equal": _equal(study),
        f"Dice against {study.reference.label}": _outcome(study),
        "Factors": _factors(study),
        "Cheapest arm shown to be no worse": _cheapest(study),
        "Variance of a single Dice": _variance(study),
        "Smallest difference found": _detectable(study),
        "Without a result": _gaps(data, study),
    }


def _compared(study: Study) -> str:
    arms = study.compared
    levels: dict[str, set[str]] = {}
    for arm in arms:
        for factor, level in arm.levels.items():
            levels.setdefault(factor, set()).add(level)
    grid = [f"{factor} at {len(found)} levels" for factor, found in levels.items() if found]
    seeds = sorted({len({run.seed for run in arm.counted}) for arm in arms})
    folds = max(len({run.fold for run in arm.counted} - {None}) for arm in arms)
    cases = {case for arm in arms for case in study.primary.observations.cases(arm.number)}
    return ", ".join(
        [
            counted(len(arms), "arm") + (f" ({joined(grid)})" if grid else ""),
            f"{seeds[0]} to {seeds[-1]} seeds" if len(seeds) > 1 else counted(seeds[0], "seed"),
            *([counted(folds, "fold")] if folds else []),
            f"validated on {counted(len(cases), 'case')} of {study.name}",
        ]
    )


def _equal(study: Study) -> str:
    """What the arms were made equal in, and the budget."""
    equals = {found.plan.equal for found in study.plans}
    matched = any(run.matched for arm in study.compared for run in arm.counted)
    quantity = next(iter(equals)) if len(equals) == 1 and matched else None
    widths = f"{quantity.replace('_', ' ')}, by the widths" if quantity else "no width was changed"
    budgets = {found.plan.budget for found in study.plans}
    varying = [key for key in varying_settings(study.compared) if key.startswith("trainer.")]
    if varying:
        return f"{widths}; runs differ in {joined(varying[:_NAMED])}"
    if len(budgets) == 1:
        return f"{widths}; {_BUDGETS.get(budget := next(iter(budgets)), budget)}"
    return f"{widths}; the same settings of the trainer"


def _outcome(study: Study) -> str:
    if not study.primary.comparisons:
        mean = study.primary.observations.mean(study.reference.number)
        return f"mean Dice {fixed(mean)}; no other arm has a result"
    labels = {arm.number: arm.label for arm in study.arms}
    parts = []
    for verdict in VERDICTS:
        found = study.primary.called(verdict)
        word = f"equal within ±{study.margin:g}" if verdict == "equal" else verdict
        if not found:
            continue
        if verdict in ("better", "worse"):
            most = found[0 if verdict == "better" else -1]
            parts.append(f"{len(found)} {word} (most {labels[most.arm]}: {_estimate(most)})")
        elif len(found) <= _NAMED:
            parts.append(f"{len(found)} {word} ({joined([labels[one.arm] for one in found])})")
        else:
            parts.append(f"{len(found)} {word}")
    reasons = {one.reason for one in study.primary.called("undecided")}
    why = f", because {next(iter(reasons))}" if len(reasons) == 1 else ""
    return "; ".join(parts) + why


def _estimate(found: Comparison) -> str:
    ends = interval(found.low, found.high)
    return f"{signed(found.estimate)} [{ends}], p {_p(found.p_holm)}"


def _p(value: float | None) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _factors(study: Study) -> str:
    if not study.effects:
        return "none was varied"
    known = [effect for effect in study.effects if effect.levels and effect.share is not None]
    if not known:
        return f"none can be told from the others: {study.effects[0].reason}"
    first = max(known, key=lambda effect: effect.share or 0.0)
    means = [level.mean for level in first.levels]
    shown = first.p_value is not None and first.p_value <= _ALPHA
    parts = [
        f"{first.factor} first: {percent(first.share)} of the variance of arm means, "
        f"{fixed(max(means) - min(means))} between its best and its worst level "
        f"(F-test over runs on these cases, p {_p(first.p_value)}"
        f"{'' if shown else '; not shown to matter'})"
    ]
    pairs = [e for e in study.effects if not e.levels and e.p_value is not None]
    strong = [e for e in pairs if (e.p_value or 0.0) <= _ALPHA / len(pairs)]
    if strong:
        named = [f"{e.factor} ({percent(e.share)}, p {_p(e.p_value)})" for e in strong[:_NAMED]]
        parts.append(f"{joined(named)} interact, so levels are not good or bad by themselves")
    elif pairs:
        least = min(pairs, key=lambda effect: effect.p_value or 0.0)
        parts.append(f"no interaction shown (least p {_p(least.p_value)}, {least.factor})")
    return "; ".join(parts)


def _cheapest(study: Study) -> str:
    """By each cost the cheapest arm that is better or equal and costs less than the reference.

    Undecided is not shown to be no worse.
    """
    parts = []
    for cost in COSTS:
        base = cost.of(study.reference)
        sound = [arm for arm in study.compared if _is_sound(study, arm) and cost.of(arm) < base]
        if sound:
            arm = min(sound, key=lambda arm: (cost.of(arm), arm.number))
            found = study.primary.of(arm.number)
            difference = f"{found.verdict}, {signed(found.estimate)} Dice" if found else ""
            parts.append(
                f"by {cost.title.lower()}, {arm.label} ({difference}): {cost.text(cost.of(arm))} "
                f"against {cost.text(base)} ({100 * cost.of(arm) / base:.0f} %)"
            )
    return "; ".join(parts) or "none"


def _is_sound(study: Study, arm: Arm) -> bool:
    found = study.primary.of(arm.number)
    return found is not None and found.verdict in ("better", "equal")


def _variance(study: Study) -> str:
    names = {"case": "cases", "fold": "folds", "seed": "seeds", "residual": "seed × case"}
    shares = study.split
    return joined([f"{names[key]} {percent(part)}" for key, part in shares.items()]) or "unknown"


def _detectable(study: Study) -> str:
    found = study.detectable
    if found.difference is None:
        return "unknown, for nothing tells how far trainings of one arm differ"
    return (
        f"{significant(found.difference)} Dice, with {percent(found.power)} power, by "
        f"{counted(found.seeds, 'seed')} and {counted(found.cases, 'case')}"
    )


def _gaps(data: ReportData, study: Study) -> str:
    own = {found.path for found in study.plans}
    missing = sum(gap.found.path in own for gap in data.missing)
    runs = [run.status for arm in study.arms for run in arm.runs]
    without = [status for status in runs if status != "completed"]
    parts = [counted(missing, "run") + " missing"] if missing else []
    parts += [f"{without.count(status)} {status}" for status in dict.fromkeys(without)]
    return joined(parts) or "no run"


def _of_study(study: Study) -> Iterator[str]:
    if study.caution:
        yield study.caution
    yield from _of_arms(study)
    yield from _of_cases(study)
    margins = sorted({found.plan.margin for found in study.plans})
    if len(margins) > 1:
        named = joined([f"{value:g}" for value in margins])
        yield f"Plans on {study.name} name the margins {named}; ±{study.margin:g} is used."
    if len({tuple(found.plan.reference.items()) for found in study.plans}) > 1:
        yield (
            f"Plans on {study.name} name different references; all arms are compared with "
            f"{study.reference.label}."
        )
    others = [arm for arm in study.compared if arm not in study.in_grid] if study.effects else []
    if others:
        yield (
            f"{_some(others)}: other factors than the rest, or none; no part in the table of "
            "factors."
        )
    lost = [
        METRICS[key].title
        for key, found in study.verdicts.items()
        if key != PRIMARY and len(found.observations.arms) < len(study.compared)
    ]
    if lost:
        yield f"{joined(lost)} is not recorded in every arm on {study.name}."
    records = [run for arm in study.compared for run in arm.counted]
    if len({tuple(r.patch_size) for r in records if r.patch_size}) > 1:
        yield f"The patch size differs between runs on {study.name}, and with it MACs."


def _of_arms(study: Study) -> Iterator[str]:
    if dropped := [arm for arm in study.arms if arm.dropped]:
        yield (
            f"{_some(dropped)}: not in the plan any more; compared like the others, and counted in "
            "Holm’s correction."
        )
    if without := [arm for arm in study.arms if arm not in study.compared]:
        yield f"{_some(without)}: no result, so no verdict."
    short = [arm for arm in study.compared if len(arm.counted) < arm.wanted]
    if short:
        yield f"{_some(short)}: fewer completed runs than asked for; the rest stand in for all."
    counts = {len(arm.counted) for arm in study.compared}
    if len(counts) > 1 and not short:
        yield f"Arms have between {min(counts)} and {counted(max(counts), 'run')}."
    if far := [arm for arm in study.compared if _is_far(arm)]:
        yield f"{_some(far)}: more than 10 % away from the size it was to be made equal to."


def _of_cases(study: Study) -> Iterator[str]:
    lost = [c for c in study.primary.comparisons if any(c.left_out.values())]
    if lost:
        labels = {arm.number: arm for arm in study.arms}
        yield (
            f"{_some([labels[c.arm] for c in lost])}: not validated on the same cases as "
            f"{study.reference.label} on {study.name}; compared on those they share, as few as "
            f"{min(c.cases for c in lost)}. Means in the table of arms are over all cases of each "
            "arm."
        )
    sets = {
        frozenset(case.case for case in run.cases)
        for arm in study.compared
        for run in arm.counted
        if run.fold is None
    }
    if len(sets) > 1 and not lost:
        yield (
            f"Runs of one arm on {study.name} were validated on different cases; a case counts "
            "with the runs that have it."
        )


def _of_runs(records: Sequence[RunRecord]) -> Iterator[str]:
    for package in _PACKAGES:
        known = {found for record in records if (found := record.versions.get(package))}
        if len(known) > 1:
            yield f"Runs come from {package} {joined(sorted(known))}."
    machines = [tuple(str(r.machine.get(key)) for key in _MACHINE) for r in records if r.machine]
    if len(set(machines)) > 1:
        yield (
            "Runs come from different machines, devices or precisions; "
            "their times and memory do not compare."
        )
    resumed = sum(record.restarts > 0 for record in records)
    if resumed:
        yield (
            f"{counted(resumed, 'run')} continued after a stop; the times of setting up and of "
            "validation are those of the last start."
        )


def _of_files(data: ReportData) -> Iterator[str]:
    again = sum(len(arm.superseded) for arm in data.arms)
    if again:
        yield (
            f"{counted(again, 'completed run')} of an arm, fold and seed that was run again: "
            "the newest counts."
        )
    if data.unreadable:
        yield f"{counted(len(data.unreadable), 'file')} could not be read; listed below."


def _is_far(arm: Arm) -> bool:
    found = [run.matched for run in arm.counted if run.matched]
    return any(abs(m.value - m.wanted) > _TOLERANCE * abs(m.wanted) for m in found)


def _some(arms: Iterable[Arm]) -> str:
    """The labels, or the first and how many more."""
    labels = [arm.label for arm in arms]
    if len(labels) <= _NAMED:
        return joined(labels)
    return f"{', '.join(labels[:_NAMED])} and {len(labels) - _NAMED} more arms"
