"""`medseg operators`: what can be swapped in, what it computes and what it costs."""

import argparse

from medseg.cli.command import command, make_parser


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "operators",
        "List every convolution, unit, downsampling and upsampling with its weights "
        "at 32 channels and its multiply-accumulates per voxel.",
    )
    parser.add_argument(
        "slot", nargs="?", choices=("conv", "unit", "downsample", "upsample"), help="of one slot"
    )
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Prints the catalogue of blocks as a Markdown table."""
    from medseg.analysis.catalogue import SLOTS, block_costs, contract
    from medseg.cli.compose import described, option_names
    from medseg.formatting import markdown_table

    rows = []
    for slot in SLOTS if arguments.slot is None else (arguments.slot,):
        for option in option_names(slot):
            block = described(f"{slot}/{option}", slot)
            parameters, macs = block_costs(slot, block)
            weights = ", ".join(f"{count:,}" for count in parameters)
            products = ", ".join(f"{count:,.0f}" for count in macs)
            rows.append((slot, f"`{option}`", contract(block), weights, products))
    head = ("slot", "option", "what it computes", "weights 2-D, 3-D", "MACs a voxel 2-D, 3-D")
    print(markdown_table(head, rows), end="")
