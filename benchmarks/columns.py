"""The columns of the tables: title, what it means, and the text of a row's cell."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medseg.analysis.timing_results import STEP, Case, Figures, Group, Row, Series, figures

PER_GMAC = ("networks", "pairs")
"""Groups whose candidates differ in more than one layer: time per arithmetic says more."""

_NONE = "–"

Cell = Callable[[Case, Row, Figures], str]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    meaning: str
    cell: Cell
    numeric: bool = True


def columns_of(group: Group, precisions: Sequence[str]) -> list[Column]:
    """The columns that a group has figures for."""
    rows = [row for case in group.cases for row in case.rows]
    works = list(dict.fromkeys(series.work for row in rows for series in row.series))
    shown = [
        Column("input", "dimensions, channels, grid and batch of the input", _label, numeric=False),
        Column("candidate", "what is measured", lambda case, row, figure: row.name, numeric=False),
        _layout_column(precisions),
        *(_time_column(work, precision) for work in works for precision in precisions),
        *(_speed_up_column(group, precision) for precision in precisions),
    ]
    if any(row.macs is not None for row in rows):
        shown.append(_macs_column())
    if any(len({row.macs for row in case.rows}) > 1 for case in group.cases):
        shown += _ratio_columns(precisions, per_gmac=group.slug in PER_GMAC)
    if any(row.parameters is not None for row in rows):
        shown.append(Column("parameters", "trainable numbers", _parameters))
    memory = f"most bytes held at once by one {STEP} in {precisions[0]}, beyond its inputs"
    shown.append(Column("peak MiB", memory, _peak))
    return shown


def row_cells(columns: Sequence[Column], case: Case, precisions: Sequence[str]) -> list[list[str]]:
    """The texts of a case, one list per row."""
    return [
        [column.cell(case, row, figures(row, case, precisions)) for column in columns]
        for row in case.rows
    ]


def time_title(work: str, precision: str) -> str:
    """Title of the column with the time of a work."""
    return f"{work} {precision}, ms"


def time_text(series: Series | None) -> str:
    """Median and spread: `12.3 (4 %)`."""
    if series is None:
        return _NONE
    return f"{series.median_milliseconds:.4g} ({series.spread:.0%})".replace("%", " %")


def _label(case: Case, row: Row, figure: Figures) -> str:
    return case.label


def _layout_column(precisions: Sequence[str]) -> Column:
    def cell(case: Case, row: Row, figure: Figures) -> str:
        layouts = {p: layout for p in precisions if (layout := row.best_layout(p))}
        if len(set(layouts.values())) < 2:
            return next(iter(layouts.values()), _NONE)
        return ", ".join(f"{layout} ({p})" for p, layout in layouts.items())

    meaning = (
        "memory layout of the input, the faster one where both were measured; "
        "our networks lay theirs out channels last on a CPU"
    )
    return Column("layout", meaning, cell, numeric=False)


_MEANINGS = {
    "forward": "forward pass without gradients, as in prediction",
    "input gradient": "backward pass by the input alone",
    "weight gradient": "backward pass by the weight alone",
    STEP: "forward pass and all gradients, as in training",
}


def _time_column(work: str, precision: str) -> Column:
    return Column(
        time_title(work, precision),
        f"{_MEANINGS[work]}: median (interquartile range ÷ median)",
        lambda case, row, figure: time_text(row.best(work, precision)),
    )


def _speed_up_column(group: Group, precision: str) -> Column:
    references = " or ".join(dict.fromkeys(case.reference for case in group.cases))
    return Column(
        f"speed-up {precision}",
        f"{STEP} time of {references} ÷ this row's; above 1 is faster",
        lambda case, row, figure: _number(figure.speed_up.get(precision)),
    )


def _macs_column() -> Column:
    counted = "multiply-accumulates of one item's forward pass (convolutions and matrix products)"
    return Column("MACs", counted, lambda case, row, figure: _count(row.macs))


def _ratio_columns(precisions: Sequence[str], *, per_gmac: bool) -> list[Column]:
    ratio = Column(
        "MAC ratio",
        "the reference's MACs ÷ this row's",
        lambda case, row, figure: _number(figure.mac_ratio),
    )
    column = _gmac_column if per_gmac else _saving_column
    return [ratio, *(column(precision) for precision in precisions)]


def _saving_column(precision: str) -> Column:
    return Column(
        f"realised saving {precision}",
        "speed-up ÷ MAC ratio: 100 % where the time follows the arithmetic",
        lambda case, row, figure: _share(figure.realised_saving.get(precision)),
    )


def _gmac_column(precision: str) -> Column:
    return Column(
        f"ms/GMAC {precision}",
        f"{STEP} time ÷ 10⁹ forward MACs of the batch",
        lambda case, row, figure: _number(figure.milliseconds_per_gmac.get(precision)),
    )


def _parameters(case: Case, row: Row, figure: Figures) -> str:
    return _NONE if row.parameters is None else f"{row.parameters:,}".replace(",", " ")


def _peak(case: Case, row: Row, figure: Figures) -> str:
    return _NONE if row.peak_memory_bytes is None else _number(row.peak_memory_bytes / 2**20)


def _number(value: float | None) -> str:
    return _NONE if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _share(value: float | None) -> str:
    return _NONE if value is None else f"{value * 100:.0f} %"


def _count(value: int | None) -> str:
    if value is None:
        return _NONE
    for size, letter in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{value / size:.3g} {letter}"
    return str(value)
