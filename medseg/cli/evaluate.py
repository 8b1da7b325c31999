"""`medseg evaluate`: label maps against the truth, whoever made them."""

import argparse
import sys
from pathlib import Path

from medseg.cli.command import (
    add_output,
    add_overwrite,
    command,
    make_parser,
    print_table,
    report_error,
)
from medseg.errors import ConfigError, DataError
from medseg.formatting import counted, one_line

_EXAMPLES = """\
examples:
  medseg evaluate out/ data/Dataset001_Heart            against the labels of a dataset
  medseg evaluate out/ labelsTs/ -o scores              against label maps; also as page and CSV
  medseg evaluate mine.nii.gz truth.nii.gz --tolerance 2

exit codes: 0 done, 2 a wrong word, 3 some label maps cannot be scored
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "evaluate",
        "Score label maps against true ones of the same name, per case and class: Dice, surface "
        "Dice, HD95 in mm, and the error of the volume in ml and percent.",
        _EXAMPLES,
    )
    parser.add_argument("predictions", type=Path, metavar="PRED", help="label maps: folder or file")
    parser.add_argument(
        "truth", type=Path, metavar="TRUTH", help="a dataset of any form, or label maps"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1.0,
        metavar="MM",
        help="distance up to which surfaces agree, for surface Dice (1)",
    )
    add_output(parser, "receives evaluation.html, scores.csv and classes.csv")
    add_overwrite(parser)
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> int:
    """Scores; returns 0, or 3 where some label map could not be scored."""
    from rich.console import Console

    from medseg.checking.output import require_outside
    from medseg.evaluation import evaluate, write_evaluation
    from medseg.evaluation.output import classes_table, unmatched
    from medseg.files import file_ids

    if not 0 <= arguments.tolerance < float("inf"):
        raise ConfigError(f"--tolerance={arguments.tolerance} must be a distance in mm, from 0 on")
    if arguments.output:
        require_outside(arguments.output, arguments.truth)
    found = evaluate(arguments.predictions, arguments.truth, tolerance_mm=arguments.tolerance)
    print(f"{counted(len(found.predictions), 'case')}; surface Dice at {arguments.tolerance:g} mm")
    print_table(classes_table(found), Console(highlight=False))
    for line in unmatched(found):
        print(f"warning: {line}", file=sys.stderr)
    if arguments.output:
        inputs = file_ids(found.predictions.values())
        written = write_evaluation(
            found, arguments.output, overwrite=arguments.overwrite, inputs=inputs
        )
        for path in written:
            print(one_line(str(path)))
    if not found.failures:
        return 0
    total = len(found.predictions) + len(found.failures)
    return report_error(DataError(f"{len(found.failures)} of {total} cases cannot be scored"))
