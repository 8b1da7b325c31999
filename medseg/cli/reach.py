"""`medseg reach`: networks with a wanted receptive field, as overrides to paste."""

import argparse
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from medseg.cli.command import command, make_parser
from medseg.errors import ConfigError

if TYPE_CHECKING:
    from medseg.analysis.field_search import Advice, Candidate

_NOT_REACHED = 1
_MIB = 2**20
_MIRRORED = (".channels", ".strides")  # the decoder's follow the encoder's
_EXAMPLES = """\
examples:
  medseg reach 150 --spacing 1
  medseg reach 120 data=hepatic_vessel
  medseg reach 60 60 40 --spacing 0.8 0.8 2.5 data=pancreas model=resenc_unet

exit codes: 0 reached, 1 by no change that was tried, 2 a wrong number or override
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "reach",
        "Show the receptive field of a network, and which change of stages, depth, "
        "kernel or dilation gives it the wanted extent, without holes.",
        _EXAMPLES,
    )
    parser.add_argument(
        "words",
        nargs="+",
        metavar="MM | OVERRIDE",
        help="the extent in mm, of all axes or each; overrides of the network",
    )
    parser.add_argument(
        "--spacing",
        nargs="+",
        default=[],
        metavar="MM",
        help="of the voxels, of all axes or each (default: the data's)",
    )
    parser.add_argument(
        "--patch-size", type=int, nargs="+", metavar="N", help="voxels (default: the data's)"
    )
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> int:
    """Searches; returns 0, or 1 where nothing that was tried suffices."""
    from medseg.analysis.field_search import advise
    from medseg.cli.compose import compose_network

    extent, overrides = _split(arguments.words)
    spacing, further = _split(arguments.spacing)
    overrides = [*overrides, *further]
    network, load, own_spacing = compose_network(overrides, arguments.patch_size)
    advice = advise(network, extent, spacing or _spacing_of(own_spacing), load)
    _show(advice)
    _show_answer(advice, overrides)
    return 0 if advice.is_reached or advice.candidates else _NOT_REACHED


def _split(words: Sequence[str]) -> tuple[list[float], list[str]]:
    """Numbers, and what is none."""
    numbers, others = [], []
    for word in words:
        try:
            numbers.append(float(word))
        except ValueError:
            others.append(word)
    return numbers, others


def _spacing_of(spacing: tuple[float, ...] | None) -> tuple[float, ...]:
    if spacing is None:
        raise ConfigError(
            "data.spacing=null keeps each case's own spacing, and an extent in mm needs one; "
            "give --spacing, for instance --spacing 1"
        )
    return spacing


def _show(advice: "Advice") -> None:
    from medseg.formatting import markdown_table

    furthest = [advice.furthest] if advice.furthest else []
    rows = [
        (
            own.text,
            _extent(own),
            f"{own.costs['parameters']:,}",
            f"{own.costs['macs']:,}",
            f"{own.costs['memory'] / _MIB:,.1f}",
            f"`{shlex.join(own.overrides)}`" if own.overrides else "",
        )
        for own in (advice.base, *advice.candidates, *furthest)
    ]
    head = ("change", "extent, mm", "parameters", "MACs", "training memory, MiB", "overrides")
    print(markdown_table(head, rows))


def _show_answer(advice: "Advice", overrides: Sequence[str]) -> None:
    wanted = _millimetres(advice.wanted_mm)
    if advice.is_reached:
        print(f"reached: {wanted} mm wanted, {_millimetres(advice.surplus_mm)} mm to spare")
    elif advice.candidates:
        cheapest = advice.candidates[0]
        print(f"{wanted} mm: {cheapest.text} needs the fewest MACs")
        print(shlex.join(["medseg", "train", *_replaced(overrides, cheapest.overrides)]))
    elif advice.furthest is None:
        print(f"not reached: {wanted} mm; only a U-Net can be changed, choose model=unet")
    else:
        print(f"not reached: no change that was tried covers {wanted} mm without holes")


def _replaced(overrides: Sequence[str], new: Sequence[str]) -> list[str]:
    """Overrides with further ones; what those set anew, or stands below it, is left out."""
    keys = {_key(text) for text in new}
    mirrored = {key.replace("encoder", "decoder") for key in keys if key.endswith(_MIRRORED)}
    kept = [text for text in overrides if not _is_below(_key(text), keys | mirrored)]
    return [*kept, *new]


def _key(text: str) -> str:
    return text.partition("=")[0].lstrip("+").rpartition("@")[2]


def _is_below(key: str, others: set[str]) -> bool:
    return any(key == other or key.startswith(f"{other}.") for other in others)


def _extent(own: "Candidate") -> str:
    return _millimetres(own.extents_mm) + (", with holes" if own.holes else "")


def _millimetres(values: Sequence[float]) -> str:
    return " × ".join("all" if value == float("inf") else f"{value:g}" for value in values)
