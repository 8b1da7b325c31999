"""Every arm against the reference, metric by metric."""

from typing import Any

import pandas as pd

from medseg.formatting import counted, interval, p_value, percent, signed
from medseg.record import METRICS
from medseg.report.figures.comparisons import forest
from medseg.report.page import Figure, Note, Section
from medseg.report.sections.doubts import doubts
from medseg.report.study import PRIMARY, ReportData, Study
from medseg.report.tables import Cell, Table, arm_cell, number, table

FOREST_ROWS = 40
_NOTE = (
    "Δ with its interval, p and the verdict count cases and trainings; “over cases”, Wilcoxon, d "
    "and “cases won” hold for these trainings only and decide nothing. Trimmed Δ leaves out a "
    "fifth of the cases at each end, counts cases and trainings, and decides nothing."
)
_BARS = (
    "Thick bars are 95 % intervals over runs and cases, thin bars over cases alone, which hold for "
    "these trainings only."
)


def verdicts(data: ReportData) -> Section:
    """For every dataset the verdicts by Dice, those by the other metrics folded, and the power."""
    several = len(data.studies) > 1
    parts: list[object] = []
    for study in data.studies:
        own = _of_study(study)
        parts += [Section(study.dataset or "Unnamed dataset", own)] if several else own
    return Section("Verdicts", parts or ["No arm has a Dice to compare."], key="verdicts")


def verdict_table(study: Study, metric: str) -> Table:
    """One row per arm, best first, the reference at its place."""
    title, unit = METRICS[metric].title, METRICS[metric].unit
    arms = {arm.number: arm for arm in study.arms}
    compared: list[Any] = [*study.by(metric, reference=True).itertuples()]
    return table(
        f"{title}: every arm minus the reference",
        [{"Arm": arm_cell(arms[one.arm])} | _row(one, metric) for one in compared],
        {
            "Verdict": "and why",
            f"Δ {title}": ", ".join(filter(None, [unit, "95 % over runs and cases"])),
            "95 % over cases": "these trainings",
            "p": "runs and cases, Holm",
            "p equal": "TOST",
            f"Trimmed Δ {title}": ", ".join(filter(None, [unit, "95 % over runs and cases"])),
            "p trimmed": "runs and cases, Holm",
            "p Wilcoxon": "cases only, Holm",
            "d": "of case differences",
            "Cases won": "ties half",
            "Seeds": "arm, reference",
            "Cases": "shared",
        },
    )


def _row(one: Any, metric: str) -> dict[str, Cell]:
    digits = METRICS[metric].digits
    is_reference = one.verdict == "reference"
    over_cases = interval(one.case_low, one.case_high, digits)
    gone = one.left_out + one.left_out_reference
    unknown, few = ("", "") if is_reference else ("interval unknown", "< 8 cases")
    return {
        "Verdict": Cell(one.verdict, one.verdict, one.reason, "verdict"),
        f"Δ {METRICS[metric].title}": number(
            one.estimate,
            lambda value: signed(value, digits),
            interval(one.low, one.high, digits) or unknown,
        ),
        "95 % over cases": number(one.case_low, lambda _: over_cases, "" if over_cases else few),
        "p": number(one.p_holm, p_value),
        "p equal": number(one.equivalence_p, p_value),
        f"Trimmed Δ {METRICS[metric].title}": number(
            one.trimmed,
            lambda value: signed(value, digits),
            interval(one.trimmed_low, one.trimmed_high, digits),
        ),
        "p trimmed": number(one.trimmed_holm, p_value),
        "p Wilcoxon": number(one.wilcoxon_holm, p_value),
        "d": number(one.effect_size, lambda d: signed(d, 2 if abs(d) < 10 else 0)),
        "Cases won": number(one.superiority, percent),
        "Seeds": Cell(
            f"{one.seeds}" if is_reference else f"{one.seeds}, {one.reference_seeds}", one.seeds
        ),
        "Cases": number(
            one.cases, str, f"{counted(gone, 'case')} of one arm only, left out" if gone else ""
        ),
    }


def comparisons(data: ReportData) -> pd.DataFrame:
    """All comparisons in tidy form: one row per dataset × metric × arm but the reference."""
    first = ["dataset", "metric", "number", "arm", "reference"]
    last = ["left_out", "left_out_reference"]
    found = []
    for study in data.studies:
        own = study.comparisons[study.comparisons["verdict"] != "reference"]
        if own.empty:
            continue
        numbers = [int(arm) for arm in own["arm"]]
        levels = [next(a.levels for a in study.arms if a.number == number) for number in numbers]
        factors = list(dict.fromkeys(factor for own_levels in levels for factor in own_levels))
        own = own.assign(
            dataset=study.dataset,
            number=numbers,
            arm=study.labels(numbers),
            reference=study.reference.label,
            **{f"level {f}": [own_levels.get(f) for own_levels in levels] for f in factors},
        )
        named = [*first, *(f"level {factor}" for factor in factors)]
        found.append(own[[*named, *own.columns.drop([*named, *last]), *last]])
    return pd.concat(found) if found else pd.DataFrame(columns=["dataset", "metric", "arm"])


def _of_study(study: Study) -> list[object]:
    if study.by().empty:
        return ["One arm has a result: there is nothing to compare it with."]
    parts: list[object] = [
        f"Every arm minus {study.reference.label} ({study.why}), case by case. Differences up to "
        f"±{study.margin:g} of Dice and Surface Dice are of no consequence; HD95 has no such "
        "margin."
    ]
    for metric in study.observations:
        shown = verdict_table(study, metric)
        if metric == PRIMARY:
            parts += [_forest(study, metric, _BARS), shown, Note(_NOTE)]
            continue
        words = study.by(metric)["verdict"].value_counts(sort=False)
        about = ", ".join(f"{count} {word}" for word, count in words.items())
        own = [_forest(study, metric, ""), shown]
        parts.append(Section(METRICS[metric].title, own, folded=True, about=about))
    return [*parts, *doubts(study)]


def _forest(study: Study, metric: str, caption: str) -> Figure:
    title = METRICS[metric].title
    known = study.by(metric).dropna(subset=["estimate"])
    ends = [known.head(FOREST_ROWS // 2), known.tail(FOREST_ROWS // 2)]
    drawn = pd.concat(ends) if len(known) > FOREST_ROWS else known
    figure = forest(
        drawn.assign(label=study.labels(drawn["arm"].tolist())),
        margin=None if METRICS[metric].unit else study.margin,
        metric=f"{title} in {METRICS[metric].unit}" if METRICS[metric].unit else title,
        reference=study.reference.label,
    )
    if len(drawn) < len(known):
        caption += f" {len(drawn)} of {len(known)} arms are drawn: the best and the worst."
    return Figure(figure, f"{title} of every arm minus the reference", caption.strip(), wide=True)
