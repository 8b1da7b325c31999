"""`medseg match`: the widths at which two networks cost the same, as an override to paste."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from medseg.cli.command import add_overrides, command, make_parser
from medseg.errors import ConfigError

if TYPE_CHECKING:
    from medseg.analysis.cost import Load
    from medseg.analysis.match import Match
    from medseg.models.description import Description

_EQUAL = ("parameters", "macs", "memory", "inference_memory", "latency")
_MIB = 2**20
_UNITS = {"latency": (" ms", 1), "memory": (" MiB", _MIB), "inference_memory": (" MiB", _MIB)}
_EXAMPLES = """\
examples:
  medseg match conv@model.encoder.conv=depthwise_separable --equal parameters
  medseg match model=unet_3_plus data=hippocampus --equal memory --batch 2
  medseg match --like model=unet size@model.encoder=base -- model=monai_dynunet
  medseg match upsample@model.decoder.upsample=bilinear --equal latency --device cpu

Without --like the reference is the default network. Overrides of the data hold for both.
The last line is the override that makes them equal.
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "match",
        "Scale the widths of a network until it costs what another does.",
        _EXAMPLES,
    )
    add_overrides(parser, "of the network whose widths change")
    parser.add_argument(
        "--like", nargs="+", default=[], metavar="OVERRIDE", help="of the network that stays"
    )
    parser.add_argument(
        "--equal",
        choices=_EQUAL,
        default="macs",
        help="in what (default: macs); memory is that of a training step, without weights",
    )
    parser.add_argument(
        "--multiple-of", type=int, default=1, metavar="N", help="of the widths (default: 1)"
    )
    parser.add_argument(
        "--patch-size", type=int, nargs="+", metavar="N", help="voxels (default: the data's)"
    )
    parser.add_argument(
        "--batch", type=int, metavar="N", help="patches at once (default: the data's)"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        metavar="SHARE",
        help="difference at which the search stops (default: 0.001; of latency 0.05)",
    )
    parser.add_argument("--device", help="of latency: auto, cpu, cuda, cuda:N")
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> None:
    """Matches the costs of two networks."""
    if arguments.device is not None and arguments.equal != "latency":
        raise ConfigError(
            f"--device={arguments.device} has no effect here: only --equal latency runs a network"
        )
    from medseg.analysis.match import match
    from medseg.cli.compose import compose_network

    patch = arguments.patch_size
    other, other_load, _ = compose_network(arguments.overrides, patch)
    same_data = [] if _of_data(arguments.like) else _of_data(arguments.overrides)
    reference, reference_load, _ = compose_network([*same_data, *arguments.like], patch)
    load = _load(arguments, reference_load, other_load)
    found = match(reference, other, arguments.equal, load, **_search_options(arguments))
    _show({"reference": reference, "before": other, "after": found.description}, load)
    _show_match(arguments.equal, found)
    print(" ".join(_overrides(arguments.overrides, found)))


def _load(arguments: argparse.Namespace, reference: "Load", other: "Load") -> "Load":
    if (reference.in_channels, reference.patch_size) != (other.in_channels, other.patch_size):
        texts = [f"{a.in_channels}×{list(a.patch_size)}" for a in (reference, other)]
        raise ConfigError(
            f"the networks see different patches, {' and '.join(texts)} (channels×voxels); "
            "name the same data in both"
        )
    batch = other.batch if arguments.batch is None else arguments.batch
    if batch < 1:
        raise ConfigError(f"batch={batch} must be at least 1; choose a larger one")
    return replace(other, batch=batch)


def _search_options(arguments: argparse.Namespace) -> dict[str, Any]:
    options: dict[str, Any] = {"multiple_of": arguments.multiple_of}
    if arguments.tolerance is not None:
        options["tolerance"] = arguments.tolerance
    if arguments.equal == "latency":
        from medseg.hardware import choose_device

        options["device"] = choose_device(arguments.device or "auto")
    return options


def _show(networks: "dict[str, Description]", load: "Load") -> None:
    from medseg.analysis.cost import costs
    from medseg.analysis.widths import widths_of
    from medseg.experiment.grid import width_text
    from medseg.formatting import markdown_table

    rows = []
    for name, network in networks.items():
        own = costs(network, load)
        widths = "; ".join({width_text(w): None for w in widths_of(network).values()})
        memory = f"{own['memory'] / _MIB:,.1f}"
        rows.append((name, widths, f"{own['parameters']:,}", f"{own['macs']:,}", memory))
    head = ("network", "widths", "parameters", "MACs", "training memory, MiB")
    print(markdown_table(head, rows), end="")


def _show_match(quantity: str, found: "Match") -> None:
    unit, size = _UNITS.get(quantity, ("", 1))
    form = ",.2f" if unit else ",.0f"
    value, wanted = (format(amount / size, form) for amount in (found.value, found.wanted))
    multiples = f", in multiples of {found.multiple}" if found.multiple > 1 else ""
    print(f"\n{quantity}: {value}{unit}, wanted {wanted}{unit}: {found.error:+.2%}{multiples}")


def _of_data(overrides: Sequence[str]) -> list[str]:
    """Those that choose or change the data."""
    return [o for o in overrides if o.lstrip("+").startswith(("data=", "data."))]


def _overrides(own: Sequence[str], found: "Match") -> list[str]:
    """Those of the encoder suffice, unless the decoder's widths were overridden by themselves."""
    from medseg.cli.compose import described
    from medseg.experiment.grid import width_overrides

    every = dict(zip(found.widths, width_overrides(found.widths), strict=True))
    few = [text for path, text in every.items() if path != ("decoder", "channels")]
    alone = described("train", "model", *own, *few)
    return few if alone == found.description else list(every.values())
