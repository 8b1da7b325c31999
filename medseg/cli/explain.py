"""`medseg explain`: one operator worked through."""

import argparse
from pathlib import Path
from typing import Any

from medseg.cli.command import add_overwrite, command, make_parser
from medseg.errors import ConfigError
from medseg.explain.kinds import KINDS
from medseg.explain.operator import COUNTED, SIZED, make_operator

_FIGURE = "example"
_EXAMPLES = """\
examples:
  medseg explain transposed                            a 3×3 kernel on a 2×2 input, as text
  medseg explain conv --size 64 --stride 2 --times 4   the sizes of four in a row
  medseg explain transposed --kernel 4 --figure example -o example.svg
  medseg explain dilated --dims 3 --html -o dilated.html
"""
_MEANINGS = {
    "size": "voxels of the input",
    "kernel": "taps",
    "stride": "step between windows; of an upsampling its factor",
    "padding": "zeros on each side; of a transposed convolution what is trimmed",
    "output_padding": "voxels added at the end, transposed only",
    "dilation": "distance between taps",
    "groups": "groups of channels",
    "in_channels": "channels of the input",
    "out_channels": "channels of the output",
}


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "explain",
        "Explain one operator: its formulas with the numbers put in, its cost, its "
        "sizes and an example that is really computed.",
        f"kinds: {', '.join(KINDS)}\n\n{_EXAMPLES}",
    )
    parser.add_argument("kind", nargs="?", choices=list(KINDS), metavar="KIND", help="see below")
    parser.add_argument("--lecture", metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--dims", type=int, choices=(1, 2, 3), help="axes (default: 2)")
    for name in SIZED:
        _add_number(parser, name, nargs="+", more=", one number or one per axis")
    for name in COUNTED:
        _add_number(parser, name)
    parser.add_argument("--times", type=int, metavar="N", help="how often in a row (default: 1)")
    shape = parser.add_argument_group("output (default: text)")
    shape.add_argument(
        "--figure", metavar=_FIGURE, help=f"`{_FIGURE}`: the arrays drawn, as PNG, SVG or PDF"
    )
    shape.add_argument("--html", action="store_true", help="one self-contained page")
    shape.add_argument("-o", "--output", type=Path, metavar="PATH", help="file")
    add_overwrite(shape)
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> int:
    """Explains one operator."""
    _require_one_subject(arguments)
    operator = make_operator(
        arguments.kind,
        dims=arguments.dims,
        times=1 if arguments.times is None else arguments.times,
        **{name: getattr(arguments, name) for name in (*SIZED, *COUNTED)},
    )
    from medseg.explain.page import operator_text, write_explanation

    if arguments.output is None:
        print(operator_text(operator), end="")
        return 0
    form = "figure" if arguments.figure else "page" if arguments.html else "text"
    write_explanation(operator, arguments.output, form=form, overwrite=arguments.overwrite)
    print(arguments.output)
    return 0


def _require_one_subject(arguments: argparse.Namespace) -> None:
    if arguments.lecture:
        raise ConfigError(
            f"lecture={arguments.lecture}: the lectures are pages of the course now; "
            "run `make course` in a checkout of medseg"
        )
    if not arguments.kind:
        raise ConfigError("nothing to explain; give a KIND")
    if arguments.figure not in (None, _FIGURE):
        raise ConfigError(
            f"figure={arguments.figure}: only {_FIGURE} is drawn here; the others are figures of "
            "the course, run `make course` in a checkout of medseg"
        )
    if arguments.figure and arguments.html:
        raise ConfigError(
            f"figure={arguments.figure} with --html: the page has the figure; leave one out"
        )
    shape = "--figure" if arguments.figure else "--html" if arguments.html else ""
    if shape and arguments.output is None:
        raise ConfigError(f"{shape} needs a file to write; give one with -o FILE")


def _add_number(parser: argparse.ArgumentParser, name: str, more: str = "", **how: Any) -> None:
    parser.add_argument(
        f"--{name.replace('_', '-')}", type=int, metavar="N", help=_MEANINGS[name] + more, **how
    )
