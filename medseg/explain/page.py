"""An operator as text, as a figure and as a page."""

from pathlib import Path

import numpy as np
import pandas as pd

from medseg.errors import ConfigError
from medseg.explain.example import small, worked
from medseg.explain.figure import FIGURES, draw_operator, written
from medseg.explain.formulas import LETTERS, formulas
from medseg.explain.operator import Operator, full_grid
from medseg.files import replacing, write_text
from medseg.plotting import save
from medseg.report.page import Figure, Note, Page, Section, render_html
from medseg.report.tables import Table, table


def operator_text(operator: Operator) -> str:
    """Its meaning, formulas with the numbers put in, sizes and worked example as plain text."""
    lines = [operator.title, operator.about.meaning, operator.about.source, ""]
    for formula in formulas(operator):
        lines += [formula.name, f"  {formula.formula}", f"  {formula.numbers}"]
    lines += ["", "Sizes", f"  {sizes_text(operator)}", ""]
    try:
        cut = small(operator)
        lines.append(f"Example with one channel on {full_grid(cut.size)} voxels")
        for title, values in worked(cut).items():
            lines += ["", f"  {title}", *_aligned(values.numpy())]
    except ConfigError as error:
        lines.append(f"Example not shown: {error}")
    return "\n".join(lines) + "\n"


def sizes_text(operator: Operator) -> str:
    """The grid before and after each application."""
    return " → ".join(map(full_grid, operator.sizes))


def formula_table(operator: Operator) -> Table:
    """The formulas in letters and in numbers."""
    rows = [
        {"Quantity": name, "Formula": formula, "With numbers": numbers}
        for name, formula, numbers in formulas(operator)
    ]
    return table("Formulas with the numbers put in", rows)


def operator_figure(operator: Operator, name: str) -> Figure | Note:
    """A figure of `FIGURES` for a page; a note where the operator is too large to draw."""
    try:
        drawn = draw_operator(operator, [name])
    except ConfigError as error:
        return Note(f"{name.capitalize()} not drawn: {error}.")
    return Figure(drawn, title=f"{operator.title}, {name}", wide=True)


def operator_page(operator: Operator) -> str:
    """HTML with the operator's formulas and figures, in one file that fetches nothing."""
    about = operator.about
    sections = [
        Section(
            "Formulas",
            [
                about.meaning,
                f"Sizes: {sizes_text(operator)}",
                formula_table(operator),
                Note(LETTERS),
                Note(about.source),
            ],
            key="formulas",
        ),
        Section("Figures", [operator_figure(operator, name) for name in FIGURES], key="figures"),
    ]
    return render_html(Page(operator.title), sections)


def write_explanation(
    operator: Operator,
    target: Path,
    *,
    figure: str = "",
    html: bool = False,
    overwrite: bool = False,
) -> None:
    """Writes a figure, a page or text; a file that medseg did not write is left alone.

    Args:
        operator: What is explained.
        target: The file; its ending must fit.
        figure: A name of `FIGURES`, or `all`; empty for none.
        html: Whether a page is written.
        overwrite: Whether a file that medseg did not write is replaced.

    Raises:
        ConfigError: the ending does not fit, the operator is too large to draw, or a file is there
            that medseg did not write.
        ResourceError: the file cannot be written.
    """
    ending = target.suffix.lower()
    if figure and ending not in (".pdf", ".png", ".svg"):
        raise ConfigError(
            f"output={target}: a figure is an image; give a name ending in .png, .svg or .pdf"
        )
    if not (figure or html) and ending in (".png", ".svg", ".pdf", ".html", ".htm"):
        raise ConfigError(
            f"output={target}: without --figure or --html it would hold text; "
            "add one of them, or give a name ending in .txt"
        )
    if html and ending not in (".html", ".htm"):
        raise ConfigError(f"output={target}: this is a page; give a name ending in .html")
    if figure:
        drawn = draw_operator(operator, FIGURES if figure == "all" else [figure])
        with replacing([target], overwrite=overwrite):
            save(drawn, target)
        return
    text = operator_page(operator) if html else operator_text(operator)
    with replacing([target], overwrite=overwrite):
        write_text(target, text)


def _aligned(values: np.ndarray) -> list[str]:
    """Rows of numbers in columns of one width; slices of a volume apart."""
    if values.ndim == 3:
        return [line for plane in values for line in (*_aligned(plane), "")]
    frame = pd.DataFrame(np.atleast_2d(values)).map(written)
    return [f"  {line}" for line in frame.to_string(header=False, index=False).splitlines()]
