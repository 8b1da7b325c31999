"""What the page shows of one dataset: sentences, tables and figures, ready to be laid out."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from medseg.plotting import to_svg
from medseg.report import figures
from medseg.report.cells import Table, counted
from medseg.report.collect import Collection
from medseg.report.factors import Factors, effects_table, factors_of, levels_table
from medseg.report.figures import effects_figure, interaction_figure, variance_figure
from medseg.report.studies import Study, Verdicts
from medseg.report.summary import summarise
from medseg.report.trade import trades_of
from medseg.report.verdicts import ForestRow, forest_rows, verdict_counts, verdict_table
from medseg.statistics import Detectable, needed_for


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """Every arm against the reference by one metric."""

    title: str
    counts: str
    table: Table
    forest: Markup
    left_out: str


@dataclass(frozen=True, kw_only=True)
class FactorView:
    """What each factor does; `table` is empty where nothing was varied."""

    table: Table
    levels: Table
    effects: Markup
    grids: tuple[Markup, ...]


@dataclass(frozen=True, kw_only=True)
class StudyView:
    """One dataset.

    Args:
        study: What is shown.
        summary: The five sentences.
        verdicts: By metric, Dice first.
        factors: By Dice.
        variance: Where the variance of Dice lies, as a figure.
        power: What such a study can find, in sentences.
    """

    study: Study
    summary: tuple[str, ...]
    verdicts: tuple[VerdictView, ...]
    factors: FactorView
    variance: Markup
    power: tuple[str, ...]


def view_of(collection: Collection, study: Study) -> tuple[StudyView, Factors]:
    """The view of a study, and its factors for whoever has doubts about them."""
    factors = factors_of(study)
    view = StudyView(
        study=study,
        summary=tuple(summarise(collection, study, factors, trades_of(study))),
        verdicts=tuple(_verdicts(study, verdicts) for verdicts in study.verdicts.values()),
        factors=_factors(factors),
        variance=Markup(to_svg(variance_figure(study.split.shares()), "Where the variance lies")),
        power=tuple(_power(study)),
    )
    return view, factors


def _verdicts(study: Study, verdicts: Verdicts) -> VerdictView:
    chosen = forest_rows(study, verdicts)
    unit = " in mm" if verdicts.metric == "hd95_mm" else ""
    drawn = figures.forest(
        pd.DataFrame(map(vars, chosen.rows), columns=list(ForestRow.__annotations__)),
        margin=verdicts.margin,
        metric=f"{verdicts.title}{unit}",
        reference=study.reference.arm.label,
    )
    counts = verdict_counts(verdicts)
    return VerdictView(
        title=verdicts.title,
        counts=", ".join(f"{len(found)} {word}" for word, found in counts.items() if found),
        table=verdict_table(study, verdicts),
        forest=Markup(to_svg(drawn, f"{verdicts.title} of every arm minus the reference")),
        left_out=chosen.said,
    )


def _factors(factors: Factors) -> FactorView:
    return FactorView(
        table=effects_table(factors),
        levels=levels_table(factors),
        effects=Markup(to_svg(effects_figure(factors.main, metric="Dice"), "Effects on Dice")),
        grids=tuple(
            Markup(
                to_svg(
                    interaction_figure(
                        grid.means, grid.rows, grid.columns, titles=grid.titles, metric="Dice"
                    ),
                    f"Dice by {grid.titles[0]} and {grid.titles[1]}",
                )
            )
            for grid in factors.grids
        ),
    )


def _power(study: Study) -> Sequence[str]:
    found = study.detectable
    if found.difference is None:
        return [
            "Without two seeds of an arm, or two folds, nothing tells how far trainings of one arm "
            "differ, so no difference of arms can be told from the luck of a seed: train every arm "
            "with a second seed."
        ]
    return [_finds(found), *_needed(study)]


def _finds(found: Detectable) -> str:
    return (
        f"Two arms of this study, with {counted(found.seeds, 'seed')} and "
        f"{counted(found.cases, 'case')}, are told apart with {100 * found.power:.0f} % power if "
        f"their Dice differ by {found.difference:.2g}, at p ≤ {found.alpha:g} before the "
        "correction for the number of arms."
    )


def _needed(study: Study) -> list[str]:
    if not study.margin > 0 or (study.detectable.difference or 0.0) <= study.margin:
        return []
    needed = needed_for(study.chief.observations, study.margin)
    ways = [counted(needed.cases, "case") + " with the same seeds"] if needed.cases else []
    ways += [counted(needed.seeds, "seed") + " on the same cases"] if needed.seeds else []
    text = " or ".join(ways) or "more seeds and more cases together"
    return [f"To find a difference of the margin, {study.margin:g}, takes {text}."]
