"""The opening: what was compared, what came out, what limits it, and every doubt."""

from collections.abc import Iterable, Iterator, Sequence

from medseg.formatting import (
    counted,
    fixed,
    joined,
    p_value,
    percent,
    signed,
    significant,
)
from medseg.record import RunRecord
from medseg.report.arms import Arm
from medseg.report.labels import levels_of, varying_settings
from medseg.report.page import Section
from medseg.report.sections.costs import COSTS
from medseg.report.sections.doubts import outlying_cases, scattering_arms
from medseg.report.study import PRIMARY, ReportData, Study
from medseg.statistics import smallest_detectable
from medseg.statistics.power import ALPHA, POWER

VERDICTS = ("better", "worse", "equal", "undecided")
_NAMED = 5
_TOLERANCE = 0.1  # of the quantity that arms were made equal in
_MACHINE = ("host", "device", "cpu", "threads", "precision", "execution")
_PACKAGES = ("medseg", "torch", "monai")
_OF_BUDGET = ("trainer.", "data.batch", "data.patch_size")  # what decides how much is seen
_BUDGETS = {"iterations": "the same number of training steps", "seconds": "the same training time"}


def summary(data: ReportData) -> Section:
    """Facts about every dataset, then the cautions."""
    single = len(data.studies) == 1
    states = [f"{n} {state}" for state, n in data.without_result.items()]
    gaps = {"Without a result": joined(states) or "no run"}
    parts = [
        facts | gaps if single else Section(study.dataset or "Unnamed dataset", [facts])
        for study in data.studies
        for facts in [_facts(data, study)]
    ]
    parts += [] if single else [gaps]
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
        "Cheapest arm shown to be no worse": _cheapest(data, study),
        "Smallest difference found": _detectable(study),
    }


def _compared(study: Study) -> str:
    arms = study.compared
    grid = [f"{factor} at {len(found)} levels" for factor, found in levels_of(arms).items()]
    seeds = sorted({len({run.seed for run in arm.counted}) for arm in arms})
    folds = max(len({run.fold for run in arm.counted} - {None}) for arm in arms)
    cases = {case for arm in arms for case in study.observations[PRIMARY].cases(arm.number)}
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
    equals = {plan.equal for plan in study.plans}
    matched = any(run.matched for arm in study.compared for run in arm.counted)
    quantity = next(iter(equals)) if len(equals) == 1 and matched else None
    widths = f"{quantity.replace('_', ' ')}, by the widths" if quantity else "no width was changed"
    budgets = {plan.budget for plan in study.plans}
    varying = [key for key in varying_settings(study.compared) if key.startswith(_OF_BUDGET)]
    if varying:
        return f"{widths}; runs differ in {joined(varying[:_NAMED])}"
    if len(budgets) == 1:
        return f"{widths}; {_BUDGETS.get(budget := next(iter(budgets)), budget)}"
    return f"{widths}; the same settings of the trainer"


def _outcome(study: Study) -> str:
    compared = study.by()
    if compared.empty:
        mean = study.observations[PRIMARY].mean(study.reference.number)
        return f"mean Dice {fixed(mean)}; no other arm has a result"
    parts = []
    for verdict in VERDICTS:
        own = compared[compared["verdict"] == verdict]
        word = f"equal within ±{study.margin:g}" if verdict == "equal" else verdict
        named = _some(study.labels(own["arm"].tolist()))
        parts += [f"{len(own)} {word} ({named})"] if len(own) else []
    reasons = set(compared.loc[compared["verdict"] == "undecided", "reason"])
    why = f", because {next(iter(reasons))}" if len(reasons) == 1 else ""
    return "; ".join(parts) + why


def _factors(study: Study) -> str:
    """Factors by their share of the variance of arm means, then the interactions shown."""
    if not study.effects:
        return "none was varied"
    known = [effect for effect in study.effects if effect.share is not None]
    if not known:
        return f"none can be told from the others: {study.effects[0].reason}"
    pairs = [e for e in known if not e.levels and e.p_value is not None]
    shown = [e for e in pairs if (e.p_value or 0.0) <= ALPHA / len(pairs)]
    main = sorted((e for e in known if e.levels), key=lambda e: -(e.share or 0.0))
    parts = [f"{e.factor} {percent(e.share)} (p {_p(e.p_value)})" for e in [*main, *shown]]
    text = f"share of the variance of arm means: {_some(parts)}"
    return text + ("" if shown or not pairs else "; no interaction shown")


def _p(value: float | None) -> str:
    text = p_value(value)
    return text if text.startswith("<") else f"= {text}"


def _cheapest(data: ReportData, study: Study) -> str:
    """By each cost the cheapest arm that is better or equal and costs less than the reference.

    Undecided is not shown to be no worse.
    """
    compared = study.by().set_index("arm")
    sound = compared[compared["verdict"].isin(["better", "equal"])].sort_index()
    parts = []
    for cost, (title, text) in COSTS.items():
        base = data.costs.at[study.reference.number, cost]
        known = data.costs.loc[sound.index, cost]
        known = known[known < base]
        if not known.empty:
            arm = known.idxmin()
            (label,), found = study.labels([arm]), sound.loc[arm]
            parts.append(
                f"by {title.lower()}, {label} ({found['verdict']}, {signed(found['estimate'])} "
                f"Dice): {text(known[arm])} against {text(base)} ({100 * known[arm] / base:.0f} %)"
            )
    return "; ".join(parts) or "none"


def _detectable(study: Study) -> str:
    found = smallest_detectable(study.observations[PRIMARY])
    if found is None:
        return (
            "unknown, for nothing tells how far trainings of one arm differ: train every arm with "
            "a second seed, better with two more"
        )
    difference, seeds, cases = found
    few = "; a third seed finds far more than any number of cases" if seeds == 2 else ""
    return (
        f"{significant(difference)} Dice, with {percent(POWER)} power, by "
        f"{counted(seeds, 'seed')} and {counted(cases, 'case')}, at p ≤ "
        f"{ALPHA:g} before the correction for the number of arms{few}"
    )


def _of_study(study: Study) -> Iterator[str]:
    if study.caution:
        yield study.caution
    yield from _of_arms(study)
    yield from _of_cases(study)
    margins = sorted({plan.margin for plan in study.plans})
    if len(margins) > 1:
        named = joined([f"{value:g}" for value in margins])
        yield f"Plans on {study.name} name the margins {named}; ±{study.margin:g} is used."
    if len({tuple(plan.reference.items()) for plan in study.plans}) > 1:
        yield (
            f"Plans on {study.name} name different references; all arms are compared with "
            f"{study.reference.label}."
        )
    others = [arm for arm in study.compared if arm not in study.in_grid] if study.effects else []
    if others:
        yield (
            f"{_labels(others)}: other factors than the rest, or none; no part in the table of "
            "factors."
        )


def _of_arms(study: Study) -> Iterator[str]:
    if wild := scattering_arms(study):
        yield (
            f"{_some(study.labels(wild))}: trainings differ more than those of the other arms, so "
            "each is judged by its own spread; see Verdicts."
        )
    if dropped := [arm for arm in study.arms if arm.dropped]:
        yield (
            f"{_labels(dropped)}: not in the plan any more; compared like the others, and counted "
            "in Holm’s correction."
        )
    short = [arm for arm in study.compared if len(arm.counted) < arm.wanted]
    if short:
        yield f"{_labels(short)}: fewer completed runs than asked for; the rest stand in for all."
    if far := [arm for arm in study.compared if _is_far(arm)]:
        yield f"{_labels(far)}: more than 10 % away from the size it was to be made equal to."


def _of_cases(study: Study) -> Iterator[str]:
    if far := outlying_cases(study):
        yield (
            f"{_some(list(far))}: the difference to {study.reference.label} stands out from that "
            "of the other cases and hides or makes differences; see Verdicts."
        )
    compared = study.by()
    lost = compared[compared["left_out"] + compared["left_out_reference"] > 0]
    if len(lost):
        yield (
            f"{_some(study.labels(lost['arm'].tolist()))}: not validated on the same cases as "
            f"{study.reference.label} on {study.name}; compared on those they share, as few as "
            f"{lost['cases'].min()}. Means in the table of arms are over all cases of each arm."
        )
    sets = {
        frozenset(case.case for case in run.cases)
        for arm in study.compared
        for run in arm.counted
        if run.fold is None
    }
    if len(sets) > 1 and not len(lost):
        yield (
            f"Runs of one arm on {study.name} were validated on different cases; a case counts "
            "with the runs that have it."
        )


def _of_runs(records: Sequence[RunRecord]) -> Iterator[str]:
    for package in _PACKAGES:
        known = {found for record in records if (found := record.versions.get(package))}
        if len(known) > 1:
            yield f"Runs come from {package} {joined(sorted(known))}."
    machines = [
        tuple(str(r.machine.get(key, "plain")) for key in _MACHINE) for r in records if r.machine
    ]
    if len(set(machines)) > 1:
        yield (
            "Runs come from different machines, devices, precisions or ways of execution; "
            "their times and memory do not compare."
        )
    if chosen := sum(record.is_chosen for record in records):
        yield (
            f"{chosen} of {counted(len(records), 'run')} had the epoch chosen by the very cases "
            "that are reported, as trainer.weights=best, trainer.patience and all versions up to "
            "0.1.0 do: their numbers are optimistic."
        )


def _of_files(data: ReportData) -> Iterator[str]:
    for name in data.changed:
        yield f"The files of {name} changed between runs; before and after are kept apart."
    again = sum(len(arm.superseded) for arm in data.arms)
    if again:
        yield (
            f"{counted(again, 'completed run')} of an arm, fold and seed that was run again: "
            "the newest counts."
        )


def _labels(arms: Iterable[Arm]) -> str:
    return _some([arm.label for arm in arms])


def _is_far(arm: Arm) -> bool:
    found = [run.matched for run in arm.counted if run.matched]
    return any(abs(m.value - m.wanted) > _TOLERANCE * abs(m.wanted) for m in found)


def _some(texts: Sequence[str]) -> str:
    """All of them, or the first and how many more."""
    if len(texts) <= _NAMED:
        return joined(texts)
    return f"{', '.join(texts[:_NAMED])} and {len(texts) - _NAMED} more"
