"""`medseg plan`: what to train on a dataset."""

import argparse
import logging
import math
from pathlib import Path

from medseg.cli.command import add_overrides, add_overwrite, command, make_parser
from medseg.errors import ConfigError

_EXAMPLES = """\
examples:
  medseg plan DIR                             a dataset of any form, for this machine
  medseg plan DIR --memory 24 --step-seconds inf      for a GPU of 24 GB elsewhere
  medseg plan DIR --nnunet                    nnU-Net's own patch and batch, for a fair comparison
  medseg plan DIR model=resenc_unet data.spacing=[1,1,1]      what is given stays
  medseg train plan=FILE
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "plan",
        "Read a dataset and write what to train on it: spacing, patch, batch, stages and "
        "normalisation, by nnU-Net's rules, for a memory and the speed of this machine.",
        _EXAMPLES,
    )
    parser.add_argument("dataset", type=Path, metavar="DATASET", help="its folder")
    add_overrides(parser, "as `medseg train` takes them")
    parser.add_argument(
        "--memory", type=_positive, metavar="GB", help="of a training step; else what is free"
    )
    parser.add_argument(
        "--step-seconds",
        type=_positive,
        metavar="S",
        help="longest training step on this machine (10); inf measures none",
    )
    parser.add_argument(
        "--nnunet", action="store_true", help="estimate memory as nnU-Net does (8 GB)"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="(the dataset's name).yaml"
    )
    add_overwrite(parser)
    return parser


@command(_parser, log_level=logging.INFO)
def main(arguments: argparse.Namespace) -> int:
    """Writes the plan of a dataset and prints it."""
    from medseg.cli.planned import plan_of
    from medseg.files import replacing, write_text
    from medseg.formatting import one_line
    from medseg.planning.make import STEP_SECONDS, Limits

    folder = arguments.dataset
    output = arguments.output or Path(f"{folder.expanduser().resolve().name or 'plan'}.yaml")
    if output.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"-o {output} must end in .yaml; for instance -o {output}.yaml")
    if arguments.nnunet and arguments.step_seconds is not None:
        raise ConfigError("--step-seconds has no effect with --nnunet, which measures nothing")
    limits = Limits(
        memory_gb=arguments.memory,
        step_seconds=arguments.step_seconds or STEP_SECONDS,
        like_nnunet=arguments.nnunet,
    )
    text = plan_of([f"data.root={folder}", *arguments.overrides], limits)
    with replacing([output], overwrite=arguments.overwrite):
        write_text(output, text)
    print(text, end="")
    print(f"\nwritten to {one_line(str(output))}; next: medseg train plan={one_line(str(output))}")
    return 0


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0 or math.isnan(number):
        raise argparse.ArgumentTypeError(f"{text} must be above 0")
    return number
