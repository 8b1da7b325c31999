"""`medseg check`: what is wrong with a dataset, before anything is trained."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.command import (
    add_output,
    add_overrides,
    add_overwrite,
    command,
    make_parser,
    print_table,
)
from medseg.errors import ConfigError, DataError
from medseg.formatting import counted, encodable, one_line

if TYPE_CHECKING:
    from medseg.checking import Checked

_KEYS = ("data.form", "data.files", "data.labels", "data.patient", "data.split_file")
_CASES = 8
_EXAMPLES = f"""\
examples:
  medseg check DIR                            a dataset of any form
  medseg check DIR -o checked                 also as a page with slices of every case, and as CSV
  medseg check DIR --fix -o repaired          a copy in which is put right what needs no guess
  medseg check DIR data.form=nnunet 'data.labels={{4: 3, 255: ignore}}'

overrides: {", ".join(_KEYS)}, as `medseg train data=folder` takes them
exit codes: 0 fine or warned, 2 a wrong word, 3 it cannot be trained as it is (--fix: not all of it
could be repaired)
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "check",
        "Read every file of a dataset and list all that is wrong with it, with remedies: files, "
        "grids, label values, intensities, units, copies, folds, classes.",
        _EXAMPLES,
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="its folder")
    add_overrides(parser, "what does not show in the folder")
    add_output(
        parser, "receives check.html, findings.csv and cases.csv; without it nothing is written"
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="write a repaired copy, as the Decathlon has datasets, to FOLDER instead",
    )
    add_overwrite(parser)
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> int:
    """Checks a dataset; returns 0, or 3 where it cannot be trained."""
    from medseg.checking import check_dataset, write_check, write_repaired
    from medseg.checking.fix import REPAIRS
    from medseg.checking.output import require_outside
    from medseg.data.forms import look_at_dataset
    from medseg.data.splits import read_folds

    given = _given(arguments.overrides)
    if arguments.fix and not arguments.output:
        raise ConfigError("--fix writes a repaired copy; name a new folder for it with -o FOLDER")
    if arguments.output:
        require_outside(arguments.output, arguments.dataset)
    dataset = look_at_dataset(
        arguments.dataset,
        given.get("data.labels"),
        form=given.get("data.form"),
        files=given.get("data.files"),
    )
    if (split_file := given.get("data.split_file")) is not None:
        folds = read_folds(Path(split_file).expanduser())
        dataset = replace(dataset, folds=folds, folds_from=str(split_file))
    pictures = arguments.output is not None and not arguments.fix
    patient = given.get("data.patient")
    checked = check_dataset(dataset, patient=patient, pictures=pictures)
    _show(checked)
    if arguments.fix and arguments.output:
        copied, left_out = write_repaired(checked, arguments.output, patient=patient)
        cases = counted(copied, "case")
        print(one_line(f"{arguments.output}: {cases}; {REPAIRS} says what was done to each"))
        for case_id, why in left_out.items():
            print(one_line(f"  left out: {case_id}: {why}"))
    elif arguments.output:
        for path in write_check(checked, arguments.output, overwrite=arguments.overwrite):
            print(one_line(str(path)))
    return DataError.exit_code if checked.is_refused(fixed=arguments.fix) else 0


def _given(words: list[str]) -> dict[str, Any]:
    """Overrides of the dataset: key → value.

    Raises:
        ConfigError: another key, or no override.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from medseg.cli.overrides import readable

    found = {}
    for override in OverridesParser.create().parse_overrides(readable(words)):
        if override.key_or_group not in _KEYS or str(override.input_line).startswith(("+", "~")):
            raise ConfigError(
                f"{override.input_line}: is of no use to a check; it takes values of "
                f"{', '.join(_KEYS)}"
            )
        found[override.key_or_group] = override.value()
    return found


def _show(checked: "Checked") -> None:
    from rich.console import Console
    from rich.text import Text

    from medseg.checking.output import classes_table, count_by_severity, headline
    from medseg.formatting import first_of

    console = Console(highlight=False)

    def line(text: str, style: str = "") -> None:
        console.print(Text(encodable(text, console.file), style), soft_wrap=True)

    line(headline(checked.dataset))
    if any(each.facts for each in checked.seen):
        print_table(classes_table(checked), console)
    colours = {"refuse": "bold red", "warn": "yellow", "repairable": "cyan"}
    for severity, count in count_by_severity(checked.findings).items():
        line(f"{severity} ({count})", colours[severity])
        for finding in checked.findings:
            if finding.severity == severity:
                where = f"{first_of(finding.cases, _CASES)}: " if finding.cases else ""
                line(one_line(f"  {where}{finding.text}"))
    line("it cannot be trained as it is" if checked.is_refused() else "it can be trained")
