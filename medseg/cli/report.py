"""`medseg report`: compares the runs below some folders and writes one page about them."""

import argparse
import sys
from pathlib import Path

from medseg.cli.command import add_overwrite, command, make_parser, print_table
from medseg.formatting import encodable, one_line

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
    from rich.console import Console

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
    console = Console(highlight=False)
    print_table(report.arms, console, _COLUMNS)
    print(encodable(f"\n{report.headline}", sys.stdout))
    for path in report.files:
        print(encodable(one_line(str(path)), sys.stdout))
