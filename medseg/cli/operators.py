"""`medseg operators`: what can be swapped in, what it computes and what it costs."""

import argparse
import sys

from medseg.cli.errors import report_error
from medseg.errors import MedsegError


def main(argv: list[str] | None = None) -> int:
    """Prints the catalogue of blocks as a Markdown table; returns the exit code."""
    arguments = _parser().parse_args(argv)
    # Only now, so that `--help` and a usage error answer at once.
    from medseg.analysis.catalogue import SLOTS, catalogue_entry, markdown_table
    from medseg.cli.options import described, option_names

    try:
        entries = [
            catalogue_entry(slot, option, described(f"{slot}/{option}", slot))
            for slot in SLOTS
            if arguments.slot in (None, slot)
            for option in option_names(slot)
        ]
    except MedsegError as error:
        return report_error(error)
    print(markdown_table(entries), end="")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="medseg operators",
        description="List every convolution, unit, downsampling and upsampling with its weights "
        "at 32 channels and its multiply-accumulates per voxel.",
    )
    parser.add_argument(
        "slot", nargs="?", choices=("conv", "unit", "downsample", "upsample"), help="of one slot"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
