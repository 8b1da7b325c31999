"""A table as plain data, and numbers as a reader wants them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

NOTHING = "n/a"
TO = "\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}"  # an interval stays on one line


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column.

    Args:
        key: Names it in code.
        title: Its header.
        unit: Small print below the header.
        numeric: Aligned right, with figures of equal width.
    """

    key: str
    title: str
    unit: str = ""
    numeric: bool = False


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What is shown, what it is sorted by (None goes last), and small print below it."""

    text: str
    value: float | str | None = None
    note: str = ""
    code: bool = False


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells in the order of the columns; `arm` is the number of the arm, 0 for none."""

    cells: tuple[Cell, ...]
    arm: int = 0


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows; every row has one cell per column."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    def column(self, key: str) -> list[Cell]:
        """The cells of one column, from top to bottom."""
        place = [column.key for column in self.columns].index(key)
        return [row.cells[place] for row in self.rows]


def words(text: str, *, note: str = "", code: bool = False) -> Cell:
    """A cell of text, sorted by that text."""
    return Cell(text=text or "–", value=text or None, note=note, code=code)


def figure(value: float, text: str, *, note: str = "") -> Cell:
    """A cell of a number; NaN is shown as n/a and sorted last."""
    if math.isnan(value):
        return Cell(text=NOTHING, note=note)
    return Cell(text=text, value=value, note=note)


def fixed(value: float, digits: int = 3) -> str:
    """A number with that many decimals: `0.912`."""
    return NOTHING if math.isnan(value) else f"{value:.{digits}f}"


def spread(mean: float, deviation: float, digits: int = 3) -> str:
    """`0.912 ± 0.031`; the second part is absent where a single value has no spread."""
    if math.isnan(mean) or math.isnan(deviation):
        return fixed(mean, digits)
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign: `+0.012`, `−0.003`.

    >>> signed(-0.0031), signed(0.0)
    ('−0.003', '0.000')
    """
    text = fixed(value, digits)
    if text.lstrip("-").strip("0.") == "":
        return text.lstrip("-")
    return text.replace("-", "−") if value < 0 else f"+{text}" if value > 0 else text


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """`−0.003 … +0.012` on one line; nothing where an end is unknown."""
    if low is None or high is None:
        return ""
    return f"{signed(low, digits)}{TO}{signed(high, digits)}"


def p_value(value: float | None) -> str:
    """A probability as it is printed: `0.34`, `0.021`, `< 0.001`; never stars."""
    if value is None or math.isnan(value):
        return NOTHING
    return "< 0.001" if value < 0.001 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def chance(value: float | None, *, note: str = "") -> Cell:
    """A cell of a p-value."""
    if value is None or math.isnan(value):
        return Cell(text=NOTHING)
    return Cell(text=p_value(value), value=value, note=note)


def significant(value: float) -> str:
    """Two significant digits, for quantities that span decades: `0.083`, `3.1e-7`."""
    if math.isnan(value):
        return NOTHING
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.2g}" if abs(value) < 100 else f"{value:.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def amount(value: float) -> str:
    """A count with an SI prefix: `1.23 M`, `4.50 G`."""
    return _scaled(value, 1000, ("", "k", "M", "G", "T", "P"))


def memory(value: float) -> str:
    """Bytes with a binary prefix: `123 MiB`."""
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(value: float) -> str:
    """Seconds for reading: `12 ms`, `3.4 s`, `5 min 20 s`, `2 h 05 min`."""
    if math.isnan(value):
        return NOTHING
    if value < 1:
        return f"{value * 1000:.3g} ms"
    if value < 59.5:
        return f"{value:.3g} s"
    minutes, seconds = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(round(value / 60), 60)
    return f"{hours} h {minutes:02d} min"


def counted(count: int, noun: str) -> str:
    """`1 case`, `3 cases`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def percent(share: float) -> str:
    """A share in [0, 1]: `12 %`, `< 1 %`, `> 99 %` where rounding would say none or all.

    >>> percent(0.12), percent(0.001), percent(0.999), percent(1.0)
    ('12 %', '< 1 %', '> 99 %', '100 %')
    """
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def joined(parts: Sequence[str]) -> str:
    """Parts as a sentence has them.

    >>> joined(["one", "two", "three"])
    'one, two and three'
    """
    *most, last = parts or ("",)
    return f"{', '.join(most)} and {last}" if most else last


def _scaled(value: float, base: int, units: tuple[str, ...]) -> str:
    if math.isnan(value):
        return NOTHING
    power = 0
    while abs(value) >= base * 0.9995 and power < len(units) - 1:
        value, power = value / base, power + 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {units[power]}".strip()
