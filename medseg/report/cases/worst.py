"""The cases with the lowest Dice, arm by arm."""

from collections.abc import Sequence

from medseg.report.arm import Arm
from medseg.report.cases.values import CaseValues
from medseg.report.cells import Cell, Column, Row, Table, figure, fixed, words

ROWS = 20


def worst_table(arms: Sequence[Arm], values: CaseValues, reference: int) -> Table:
    """At most `ROWS` pairs of case and class, by the lowest Dice of any arm.

    HD95 is that of the arm with the lowest Dice: the arm whose number stands below it.
    """
    dice = {arm.number: values.by_class("dice", arm.number) for arm in arms}
    pairs = {
        (case, name): {a: d[name][case] for a, d in dice.items() if case in d.get(name, {})}
        for classes in dice.values()
        for name, cases in classes.items()
        for case in cases
    }
    ranked = sorted(pairs, key=lambda pair: (min(pairs[pair].values()), pair))
    columns = (
        Column(key="case", title="Case"),
        Column(key="class", title="Class"),
        Column(key="lowest", title="Lowest Dice", numeric=True),
        Column(key="hd95", title="HD95", unit="mm, same arm", numeric=True),
        *(_column(arm, reference) for arm in arms),
    )
    rows = [_row(pair, pairs[pair], arms, values) for pair in ranked[:ROWS]]
    more = len(ranked) - len(rows)
    caption = "Lowest Dice of any arm shown, mean over its runs"
    return Table(
        caption=f"{caption}; {more} more not listed" if more else caption,
        columns=columns,
        rows=tuple(rows),
    )


def _column(arm: Arm, reference: int) -> Column:
    unit = "Dice, reference" if arm.number == reference else "Dice"
    return Column(key=f"dice_{arm.number}", title=f"Arm {arm.number}", unit=unit, numeric=True)


def _row(
    pair: tuple[str, str], dice: dict[int, float], arms: Sequence[Arm], values: CaseValues
) -> Row:
    case, name = pair
    lowest = min(dice, key=lambda arm: (dice[arm], arm))
    distance = values.by_class("hd95_mm", lowest).get(name, {}).get(case, float("nan"))
    cells = (
        words(case),
        words(name),
        figure(dice[lowest], fixed(dice[lowest]), note=f"arm {lowest}"),
        figure(distance, fixed(distance, 2)),
        *(_dice(dice.get(arm.number, float("nan"))) for arm in arms),
    )
    return Row(cells=cells)


def _dice(value: float) -> Cell:
    return figure(value, fixed(value))
