"""Every arm against the reference, metric by metric, and what such a study can find."""

from collections.abc import Mapping
from dataclasses import asdict

import pandas as pd

from medseg.formatting import (
    MISSING,
    counted,
    fixed,
    interval,
    p_value,
    percent,
    signed,
    significant,
)
from medseg.record import METRICS
from medseg.report import figures
from medseg.report.arms import Arm
from medseg.report.page import Figure, Note, Section
from medseg.report.study import ReportData, Study, Verdicts
from medseg.report.tables import Cell, Table, number, table
from medseg.statistics import Comparison, needed_for

FOREST_ROWS = 40
_ENDS = ("low", "high", "case_low", "case_high")
_NOTE = (
    "Δ with its interval, p and the verdict count cases and trainings; “over cases”, Wilcoxon, d "
    "and “cases won” hold for these trainings only and decide nothing. “Least” is the smallest p "
    "that Wilcoxon’s test can reach with so few cases. P(best) is the chance to be the best of all "
    "arms if cases and trainings were drawn again."
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


def verdict_table(study: Study, found: Verdicts) -> Table:
    """One row per arm, best first, the reference at its place."""
    metric = METRICS[found.metric]
    labels = {arm.number: arm for arm in study.arms}
    rows = [_row(found, one, labels[one.arm]) for one in found.comparisons]
    sign = -1.0 if metric.lower_is_better else 1.0
    above = sum(c.estimate is not None and sign * c.estimate > 0 for c in found.comparisons)
    rows.insert(above, _reference_row(study, found, rows[0] if rows else {}))
    unit = f"{metric.unit}, " if metric.unit else ""
    return table(
        f"{metric.title}: every arm minus the reference",
        rows,
        {
            "Verdict": "and why",
            f"Δ {metric.title}": f"{unit}95 % over runs and cases",
            "95 % over cases": "these trainings",
            "p": "runs and cases, Holm",
            "p equal": "TOST",
            "p Wilcoxon": "cases only, Holm",
            "d": "of case differences",
            "Cases won": "ties half",
            "Seeds": "arm, reference",
            "Cases": "shared",
        },
    )


def comparisons(data: ReportData) -> pd.DataFrame:
    """All comparisons in tidy form: one row per dataset × metric × arm but the reference."""
    rows = []
    for study in data.studies:
        arms = {arm.number: arm for arm in study.arms}
        for metric, found in study.verdicts.items():
            for one in found.comparisons:
                values = asdict(one)
                left_out, arm = values.pop("left_out"), arms[values.pop("arm")]
                names = {"number": arm.number, "arm": arm.label}
                names["reference"] = arms[values.pop("reference")].label
                levels = {f"level {factor}": level for factor, level in arm.levels.items()}
                rows.append(
                    {"dataset": study.dataset, "metric": metric}
                    | names
                    | levels
                    | values
                    | {
                        "probability_best": found.best.get(one.arm),
                        "left_out": left_out.get(one.arm, 0),
                        "left_out_reference": left_out.get(one.reference, 0),
                    }
                )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["dataset", "metric", "arm"])


def _of_study(study: Study) -> list[object]:
    if not study.primary.comparisons:
        return ["One arm has a result: there is nothing to compare it with."]
    parts: list[object] = [
        f"Every arm minus {study.reference.label} ({study.why}), case by case. Differences up to "
        f"±{study.margin:g} of Dice and Surface Dice are of no consequence; HD95 has no such "
        "margin."
    ]
    for place, found in enumerate(study.verdicts.values()):
        drawn, shown = (
            _forest(study, found, _BARS if not place else ""),
            verdict_table(study, found),
        )
        if not place:
            parts += [drawn, shown, Note(_NOTE)]
            continue
        words = dict.fromkeys(one.verdict for one in found.comparisons)
        about = ", ".join(f"{len(found.called(word))} {word}" for word in words)
        title = METRICS[found.metric].title
        parts.append(Section(title, [drawn, shown], folded=True, about=about))
    variance = Figure(
        figures.variance_figure(study.split),
        "Where the variance of Dice lies",
        caption="Where the values of one arm differ: between cases, between folds, between seeds, "
        "and seed by case.",
    )
    return [*parts, Section("What this study can find", [[variance], *_power(study)])]


def _power(study: Study) -> list[str]:
    found = study.detectable
    if found.difference is None:
        return [
            "Without two seeds of an arm, or two folds, nothing tells how far trainings of one arm "
            "differ, so no difference of arms can be told from the luck of a seed: train every arm "
            "with a second seed."
        ]
    lines = [
        f"Two arms of this study, with {counted(found.seeds, 'seed')} and "
        f"{counted(found.cases, 'case')}, are told apart with {100 * found.power:.0f} % power if "
        f"their Dice differ by {significant(found.difference)}, at p ≤ {found.alpha:g} before the "
        "correction for the number of arms."
    ]
    if 0 < study.margin < found.difference:
        cases, seeds = needed_for(study.primary.observations, study.margin)
        ways = [counted(cases, "case") + " with the same seeds"] if cases else []
        ways += [counted(seeds, "seed") + " on the same cases"] if seeds else []
        text = " or ".join(ways) or "more seeds and more cases together"
        lines.append(f"To find a difference of the margin, {study.margin:g}, takes {text}.")
    return lines


def drawn_comparisons(found: Verdicts) -> list[Comparison]:
    """What the forest shows: all, or a quarter from each end and the rest nearest to 0."""
    known = [one for one in found.comparisons if one.estimate is not None]
    if len(known) <= FOREST_ROWS:
        return known
    quarter = FOREST_ROWS // 4
    ends = {*range(quarter), *range(len(known) - quarter, len(known))}
    middle = [place for place in range(len(known)) if place not in ends]
    middle.sort(key=lambda place: abs(known[place].estimate or 0.0))
    return [known[place] for place in sorted(ends | set(middle[: FOREST_ROWS - len(ends)]))]


def _forest(study: Study, found: Verdicts, caption: str) -> Figure:
    drawn = drawn_comparisons(found)
    labels = {arm.number: arm.label for arm in study.arms}
    rows = [
        {"arm": one.arm, "label": labels[one.arm], "verdict": one.verdict}
        | {name: getattr(one, name) for name in ("estimate", *_ENDS)}
        for one in drawn
    ]
    columns = ["arm", "label", "verdict", "estimate", *_ENDS]
    metric = METRICS[found.metric]
    unit = f" in {metric.unit}" if metric.unit else ""
    figure = figures.forest(
        pd.DataFrame(rows, columns=columns),
        margin=found.margin,
        metric=f"{metric.title}{unit}",
        reference=study.reference.label,
    )
    total = sum(one.estimate is not None for one in found.comparisons)
    if len(drawn) < total:
        caption += (
            f" {len(drawn)} of {total} arms are drawn: the best, the worst, and those "
            "nearest to the reference. The table has all."
        )
    title = f"{metric.title} of every arm minus the reference"
    return Figure(figure, title, caption.strip(), wide=True)


def _row(found: Verdicts, one: Comparison, arm: Arm) -> dict[str, Cell]:
    metric, digits = METRICS[found.metric].title, METRICS[found.metric].digits
    least = f"least {one.least_p:.2g}" if one.least_p > 1e-3 else ""
    gone = sum(one.left_out.values())
    over_cases = interval(one.case_low, one.case_high, digits)
    size = one.effect_size
    return {
        "Arm": Cell(arm.label, arm.label, look="arm", arm=arm.number),
        "Verdict": Cell(one.verdict, one.verdict, one.reason, "verdict"),
        f"Δ {metric}": number(
            one.estimate,
            signed(one.estimate, digits),
            interval(one.low, one.high, digits) or "interval unknown",
        ),
        "95 % over cases": number(one.case_low, over_cases, "" if over_cases else "< 8 cases"),
        "p": number(one.p_holm, p_value(one.p_holm)),
        "p equal": number(one.equivalence_p, p_value(one.equivalence_p)),
        "p Wilcoxon": number(one.wilcoxon_holm, p_value(one.wilcoxon_holm), least),
        "d": number(size, signed(size, 2 if size is None or abs(size) < 10 else 0)),
        "Cases won": number(one.superiority, percent(one.superiority)),
        "P(best)": _best(found.best, one.arm),
        "Seeds": Cell(f"{one.seeds}, {one.reference_seeds}", one.seeds),
        "Cases": Cell(
            str(one.cases),
            one.cases,
            f"{counted(gone, 'case')} of one arm only, left out" if gone else "",
        ),
    }


def _reference_row(study: Study, found: Verdicts, titles: Mapping[str, Cell]) -> dict[str, Cell]:
    arm, seen, metric = study.reference, found.observations, METRICS[found.metric]
    seeds, cases = seen.seeds(arm.number), len(seen.cases(arm.number))
    return dict.fromkeys(titles, Cell(MISSING)) | {
        "Arm": Cell(arm.label, arm.label, look="arm", arm=arm.number),
        "Verdict": Cell("reference", "reference", study.why, "verdict"),
        f"Δ {metric.title}": Cell(fixed(0.0, metric.digits), 0.0),
        "P(best)": _best(found.best, arm.number),
        "Seeds": Cell(str(seeds), seeds),
        "Cases": Cell(str(cases), cases),
    }


def _best(chances: Mapping[int, float], arm: int) -> Cell:
    """Draws that an arm never won do not show that it cannot win."""
    chance = chances.get(arm)
    return number(chance, "< 1 %" if chance == 0 else percent(chance))
