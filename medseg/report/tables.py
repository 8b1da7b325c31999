r"""Tables: pandas frames of cells, written as HTML (`page`), Markdown, LaTeX and CSV.

A cell is text, or a `Cell` that also has a value to sort by and small print.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import pandas as pd
from pandas.api.types import is_numeric_dtype

from medseg.formatting import MISSING, is_missing, markdown_table, one_line
from medseg.report.arms import Arm

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "[": "{[}",  # at the start of a line it would be an option of the line before
    "]": "{]}",
    "*": "{*}",
    "`": r"\textasciigrave{}",
    "−": r"$-$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "Δ": r"$\Delta$",
    "κ": r"$\kappa$",
    "η": r"$\eta$",
    "²": r"$^2$",
    "≤": r"$\le$",
    "∞": r"$\infty$",
    "…": r"\ldots{}",
    "–": "--",
    "’": "'",
} | {letter: rf"\{letter}" for letter in "&%$#_"}


@dataclass(frozen=True)
class Cell:
    """What a cell shows.

    Args:
        text: Its text.
        value: What it is sorted by; None goes last.
        note: Small print below it.
        look: `arm`, `verdict`, `code`, or empty.
        arm: Number of an arm, for its colour.
    """

    text: str
    value: float | str | None = None
    note: str = ""
    look: str = ""
    arm: int = 0


@dataclass(frozen=True, eq=False)
class Table:
    """A caption, a frame of cells with the titles as its columns, and the titles' small print."""

    caption: str
    frame: pd.DataFrame
    units: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return len(self.frame) > 0

    @property
    def rows(self) -> list[list[Cell]]:
        """The cells from left to right, from top to bottom."""
        return [[_cell(value) for value in row] for row in self.frame.itertuples(index=False)]

    @property
    def numeric(self) -> list[bool]:
        """For each column whether it holds no text that it is sorted by."""
        columns = [[cell.value for cell in cells] for cells in zip(*self.rows, strict=True)]
        return [not any(isinstance(value, str) for value in values) for values in columns]


def table(
    caption: str, rows: Sequence[Mapping[str, Cell | str]], units: Mapping[str, str] | None = None
) -> Table:
    """Makes a table of rows, each title → cell; a title that a row lacks is empty there."""
    titles = list(dict.fromkeys(title for row in rows for title in row))
    cells = [[row.get(title, Cell(MISSING)) for title in titles] for row in rows]
    return Table(caption, pd.DataFrame(cells, columns=titles, dtype=object), units or {})


def number(value: float | None, text: Callable[[float], str], note: str = "") -> Cell:
    """Makes the cell of a number; a missing one is shown as such and sorted last."""
    if value is None or is_missing(value):
        return Cell(MISSING, note=note)
    return Cell(text(value), value, note)


def mean_cell(values: Iterable[float | None], text: Callable[[float], str]) -> Cell:
    """Makes the cell of a mean of the known values, with their range below."""
    known = [value for value in values if value is not None]
    ends = [text(end) for end in (min(known), max(known))] if known else ["", ""]
    note = " … ".join(ends) if ends[0] != ends[1] else ""
    return number(fmean(known) if known else None, text, note)


def arm_cell(arm: Arm) -> Cell:
    """Makes the cell of an arm: its label with its number and colour."""
    return Cell(arm.label, arm.label, look="arm", arm=arm.number)


def words(text: str, note: str = "", *, code: bool = False) -> Cell:
    """Makes the cell of a text, sorted by it."""
    return Cell(text or MISSING, text or None, note, "code" if code else "")


def to_markdown(found: Table) -> str:
    """Writes the table with its units in the header and its notes in brackets."""
    units = ((str(title), found.units.get(str(title))) for title in found.frame.columns)
    head = [plain_markdown(f"{title} ({unit})" if unit else title) for title, unit in units]
    rows = [
        [plain_markdown(f"{cell.text} ({cell.note})" if cell.note else cell.text) for cell in row]
        for row in found.rows
    ]
    return markdown_table(head, rows, found.numeric).rstrip("\n")


def plain_markdown(text: str) -> str:
    """Escapes text so that Markdown shows it as it is."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_\[\]|#~])", r"\\\1", " ".join(text.split()))


def to_latex(found: Table, titles: Iterable[str], label: str, caption: str = "") -> str:
    r"""Writes these columns as a `longtable` for `\input`; it needs `booktabs` and `longtable`."""
    kept = [title for title in titles if title in found.frame.columns]
    numeric = dict(zip(found.frame.columns, found.numeric, strict=True))
    plain = pd.DataFrame(
        [
            [plain_latex(_with_interval(_cell(cell))) for cell in row]
            for row in found.frame[kept].itertuples(index=False)
        ],
        columns=[plain_latex(title) for title in kept],
    )
    return plain.to_latex(
        index=False,
        longtable=True,
        caption=plain_latex(caption or found.caption),
        label=f"tab:{label}",
        column_format="@{}" + "".join("r" if numeric[t] else "l" for t in kept) + "@{}",
    )


def plain_latex(text: str) -> str:
    r"""Escapes text so that LaTeX prints it as it is.

    >>> print(plain_latex("a_b & 50 %"))
    a\_b \& 50 \%
    """
    kept = (letter for letter in " ".join(text.split()) if unicodedata.category(letter) != "Cc")
    return "".join(_LATEX.get(letter, letter) for letter in kept)


def to_csv(frame: pd.DataFrame) -> str:
    """Writes values as CSV, texts on one line; one that would be a formula gets an apostrophe."""
    frame = frame.rename(columns=_harmless)
    for name, column in frame.items():
        if not is_numeric_dtype(column):
            texts = (value for value in column.unique() if isinstance(value, str))
            frame[name] = column.replace({t: _harmless(t) for t in texts if _harmless(t) != t})
    return frame.to_csv(index=False, lineterminator="\n")


def _harmless(text: str) -> str:
    text = one_line(text)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _cell(value: Cell | str) -> Cell:
    return value if isinstance(value, Cell) else words(value)


def _with_interval(cell: Cell) -> str:
    """An interval belongs to its estimate; other small print stays out of a paper."""
    return f"{cell.text} [{cell.note}]" if "\N{NO-BREAK SPACE}…" in cell.note else cell.text
