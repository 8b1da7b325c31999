r"""Tables of arms and comparisons for `\input` in a LaTeX document."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from medseg.report.cells import Cell, Column, Table

_ARMS = ("arm", "seeds", "verdict", "dice", "surface_dice", "hd95_mm", "parameters", "step")
_VERDICTS = ("arm", "verdict", "difference", "p", "tost", "effect", "seeds", "cases")
# Notes that are numbers: the interval of a difference.
_WITH_NOTE = ("difference",)
_HEAD = """\
% Tables of a comparison of segmentation arms; \\input them into a document with
% \\usepackage{booktabs,longtable}"""
_SPECIAL = {
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
    "…": r"\ldots{}",
    "–": "--",
    "’": "'",
} | {letter: rf"\{letter}" for letter in "&%$#_"}


def render_latex(content: dict[str, Any]) -> str:
    """One `longtable` of the arms, and one of the comparisons by each metric and dataset."""
    tables = [_table(content["arms"], _ARMS, "arms")]
    for place, view in enumerate(content["views"]):
        for verdicts in view.verdicts:
            key = f"comparisons-{place}-{verdicts.title.lower().replace(' ', '-')}"
            where = f"{verdicts.table.caption} ({view.study.dataset})"
            tables.append(_table(verdicts.table, _VERDICTS, key, where))
    return "\n\n".join([_HEAD, *tables]) + "\n"


def escaped(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escaped("a_b & 50 %"))
    a\_b \& 50 \%
    """
    kept = (letter for letter in " ".join(text.split()) if unicodedata.category(letter) != "Cc")
    return "".join(_SPECIAL.get(letter, letter) for letter in kept)


def _table(table: Table, wanted: Sequence[str], key: str, caption: str = "") -> str:
    places = [
        place for name in wanted for place, column in enumerate(table.columns) if column.key == name
    ]
    columns = [table.columns[place] for place in places]
    rows = [
        [_cell(row.cells[place], table.columns[place]) for place in places] for row in table.rows
    ]
    aligned = "".join("r" if column.numeric else "l" for column in columns)
    head = _line(escaped(column.title) for column in columns)
    return "\n".join(
        [
            f"\\begin{{longtable}}{{@{{}}{aligned}@{{}}}}",
            f"\\caption{{{escaped(caption or table.caption)}}}\\label{{tab:{key}}}\\\\",
            f"\\toprule\n{head}\n\\midrule\n\\endfirsthead",
            f"\\toprule\n{head}\n\\midrule\n\\endhead",
            "\\bottomrule\n\\endfoot",
            *map(_line, rows),
            "\\end{longtable}",
        ]
    )


def _cell(cell: Cell, column: Column) -> str:
    note = f" [{cell.note}]" if cell.note and column.key in _WITH_NOTE else ""
    return escaped(re.sub(r"\s+", " ", f"{cell.text}{note}"))


def _line(cells: Iterable[str]) -> str:
    return f"{' & '.join(cells)} \\\\"
