"""`medseg report`: compares the runs below some folders and writes one page about them."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import add_overwrite, command, make_parser
from medseg.formatting import encodable, one_line

if TYPE_CHECKING:
    from medseg.report import Report

_EXAMPLES = """\
examples:
  medseg report runs/                          writes report.html, .md, .tex and two .csv
  medseg report runs/ other/ -o both.html      compares the runs of two folders
  medseg report runs/ --reference 2            against arm 2

An arm is better, worse, equal within the margin, or undecided; the page says by which test.
"""

_COLUMNS = (
    "Arm", "Runs", "Verdict", "Dice", "Constant response", "Parameters", "Training step"
)  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "report",
        "Compare runs: one self-contained HTML page, and its tables as Markdown, "
        "CSV and LaTeX beside it.",
        _EXAMPLES,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        type=Path,
        metavar="RUNS",
        help="folders that are searched for record.json and ablation.json, or records",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="where the page goes (default: report.html); the other files take the same stem",
    )
    parser.add_argument(
        "--reference",
        metavar="ARM",
        help="label or number of the arm that others are compared with "
        "(default: the plan's, else the first)",
    )
    parser.add_argument(
        "--margin",
        type=float,
        metavar="DICE",
        help="differences up to this one are of no consequence (default: the plan's, else 0.01)",
    )
    add_overwrite(parser)
    parser.add_argument("--pdf", action="store_true", help=argparse.SUPPRESS)
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Reads records and writes the report."""
    from medseg.report import write_report

    if arguments.pdf:
        print("--pdf: open the page and print it, it has a print style", file=sys.stderr)
    report = write_report(
        arguments.sources,
        arguments.output,
        reference=arguments.reference,
        margin=arguments.margin,
        overwrite=arguments.overwrite,
    )
    for source, reason in report.unreadable.items():
        print(one_line(f"warning: {source}: {reason}"), file=sys.stderr)
    _show(report)


def _show(report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    numeric = dict(zip(report.arms.frame.columns, report.arms.numeric, strict=True))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in _COLUMNS:
        table.add_column(
            Text(title.replace(" ", "\n")),
            justify="right" if numeric[title] else "left",
            overflow="fold",
            no_wrap=numeric[title],
        )
    for cells in report.arms.frame[list(_COLUMNS)].itertuples(index=False):
        table.add_row(*(Text(encodable(one_line(cell.text), console.file)) for cell in cells))
    console.print(table)
    console.print()
    console.print(report.headline)
    for path in report.files:
        console.print(Text(encodable(one_line(str(path)), console.file)), soft_wrap=True)
