"""What each factor of an ablation does to Dice, and whether factors interact."""

import itertools

import pandas as pd

from medseg.formatting import fixed, interval, p_value, signed, significant
from medseg.report.figures.comparisons import interaction_figure
from medseg.report.page import Figure, Note, Section
from medseg.report.study import PRIMARY, ReportData, Study
from medseg.report.tables import Cell, Table, number, table, words
from medseg.statistics import Effect, LevelEffect

_GRIDS = 3  # pictures of pairs of factors
_NOTE = (
    "Share is that of the variance of arm means (η², type II sums of squares). F-tests compare run "
    "means, so they hold for these cases; arms whose trainings scatter count with their own "
    "spread, at a cost in power. Differences of levels count cases and trainings, are averaged over"
    " the levels of the other factors that both have, and are not corrected for "
    "their number. Where factors interact, look at the map before the means."
)


def factors(data: ReportData) -> Section:
    """Effects and levels of every dataset's factors."""
    parts: list[object] = []
    for study in data.studies:
        if study.effects:
            own = _of_study(study)
            several = len(data.studies) > 1
            parts += [Section(study.dataset or "Unnamed dataset", own)] if several else own
    nothing = "No factor was varied by a plan, so there are no effects to tell apart."
    return Section("Factors", parts or [nothing], key="factors")


def _of_study(study: Study) -> list[object]:
    main = [effect for effect in study.effects if effect.levels]
    return [_maps(study, main), _effects_table(study), _levels_table(main), Note(_NOTE)]


def _effects_table(study: Study) -> Table:
    rows = [
        {
            "Factor": words(effect.factor, effect.reason if effect.f is None else ""),
            "Share": number(effect.share, lambda share: f"{100 * share:.1f} %"),
            "F": number(effect.f, lambda f: significant(f, 3)),
            "df": number(None if effect.f is None else effect.df, str),
            "p": number(effect.p_value, p_value),
        }
        for effect in study.effects
    ]
    return table(
        "Effects on Dice: factors, then pairs of factors",
        rows,
        {"Share": "η² of arm means", "p": "F-test, these cases"},
    )


def _levels_table(main: list[Effect]) -> Table:
    rows = [
        {"Factor": words(effect.factor), "Level": words(level.level)} | _level(level)
        for effect in main
        for level in effect.levels
    ]
    return table(
        "Levels of each factor",
        rows,
        {
            "Mean Dice": "of its arms",
            "Δ": "to the first level",
            "p": "runs and cases",
            "Cases": "shared",
        },
    )


def _level(level: LevelEffect) -> dict[str, Cell]:
    found, mean = level.contrast, {"Mean Dice": number(level.mean, fixed)}
    if found is None or found.estimate is None:
        return mean
    return mean | {
        "Δ": number(found.estimate, signed, interval(found.low, found.high)),
        "p": number(found.p_value, p_value),
        "Cases": number(found.cases, str),
    }


def _maps(study: Study, main: list[Effect]) -> list[Figure]:
    """Mean Dice by the levels of two factors, for the pairs that interact most."""
    shares = {effect.factor: effect.share or 0.0 for effect in study.effects}
    levels = {effect.factor: [level.level for level in effect.levels] for effect in main}
    pairs = sorted(
        itertools.combinations(levels, 2), key=lambda pair: -shares.get(" × ".join(pair), 0.0)
    )
    means = [study.observations[PRIMARY].mean(arm.number) for arm in study.in_grid]
    table = pd.DataFrame([arm.levels for arm in study.in_grid]).assign(mean=means)
    return [
        Figure(
            interaction_figure(
                table.pivot_table(index=row, columns=column, values="mean").reindex(
                    index=levels[row], columns=levels[column]
                ),
                metric="Dice",
            ),
            f"Dice by {row} and {column}",
        )
        for row, column in pairs[:_GRIDS]
    ]
