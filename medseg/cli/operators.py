"""`medseg operators`: what can be swapped in, what it computes and what it costs."""

import argparse

from medseg.cli.command import command


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


@command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Prints the catalogue of blocks as a Markdown table."""
    from medseg.analysis.catalogue import SLOTS, catalogue_entry, markdown_table
    from medseg.cli.compose import described, option_names

    entries = [
        catalogue_entry(slot, option, described(f"{slot}/{option}", slot))
        for slot in SLOTS
        if arguments.slot in (None, slot)
        for option in option_names(slot)
    ]
    print(markdown_table(entries), end="")
