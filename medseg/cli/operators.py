"""`medseg operators`: what can be swapped in, what it computes and what it costs."""

import argparse
from difflib import get_close_matches

from medseg.cli.command import command, make_parser
from medseg.errors import ConfigError

_SLOTS = ("conv", "unit", "downsample", "upsample")


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "operators",
        "List every convolution, unit, downsampling and upsampling with its weights "
        "at 32 channels and its multiply-accumulates per voxel.",
    )
    parser.add_argument("slot", nargs="?", metavar="SLOT", help=f"of one slot: {', '.join(_SLOTS)}")
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Prints the catalogue of blocks as a Markdown table."""
    from medseg.analysis.cost import SLOTS, block_costs, contract
    from medseg.cli.compose import described, option_names
    from medseg.formatting import markdown_table

    if arguments.slot not in (None, *SLOTS):
        raise ConfigError(f"{arguments.slot}: there is no such slot; {_meant(arguments.slot)}")
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


def _meant(word: str) -> str:
    """The slot that was probably meant, perhaps by the name of one of its operators."""
    from medseg.cli.compose import option_names

    slots = {option: slot for slot in _SLOTS for option in option_names(slot)}
    if close := get_close_matches(word, [*_SLOTS, *slots], n=1):
        slot = slots.get(close[0], close[0])
        of = f" for {close[0]}" if close[0] in slots else ""
        return f"did you mean `medseg operators {slot}`{of}?"
    return f"choose from {', '.join(_SLOTS)}"
