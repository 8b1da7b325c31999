"""`medseg audit`: cost, memory and receptive field of a network before it is trained."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.command import (
    add_overwrite,
    command,
    make_parser,
    output_folder,
    patch_of,
    positive,
)
from medseg.errors import ConfigError
from medseg.formatting import one_line

if TYPE_CHECKING:
    from torch import nn

    from medseg.analysis.audit import Audit, Subject

_MIB = 2**20
_SILENT = "6"  # above every level at which the profiler speaks of its own start and stop
_SEED = 0  # of the weights of a network that is not trained
_EXAMPLES = """\
examples:
  medseg audit                                     the default configuration
  medseg audit model=monai_dynunet data=spleen     any that `medseg train` takes
  medseg audit --model runs/mni152/2026-01-31_12-00-00
  medseg audit --network net.yaml --patch-size 64 64 64
    with net.yaml:  {name: monai.VNet, spatial_dims: 3, in_channels: 1, out_channels: 3}
  medseg audit --network my_package.nets:make --allow-import --patch-size 64 64 64
    with a function make() that returns a torch.nn.Module
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "audit",
        "Show a network's cost and receptive field, layer by layer and in total, "
        "without running it if that can be: parameters, multiply-accumulates, bytes moved, memory, "
        "valid input sizes, receptive field, gridding, checkerboard.",
        _EXAMPLES,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="OVERRIDE", help="as `medseg train` takes them"
    )
    parser.add_argument("--model", type=Path, metavar="RUN", help="a trained network instead")
    parser.add_argument(
        "--network",
        metavar="FILE",
        help="a network described in YAML or JSON instead, or PACKAGE.MODULE:FACTORY of your own",
    )
    parser.add_argument(
        "--allow-import",
        action="store_true",
        help="import PACKAGE.MODULE and call FACTORY; off by default, since whatever code stands "
        "there runs with your rights: allow it for modules that you trust",
    )
    parser.add_argument(
        "--patch-size", type=positive, nargs="+", metavar="N", help="voxels along each axis"
    )
    parser.add_argument("--in-channels", type=positive, metavar="N")
    parser.add_argument(
        "--spacing", type=_millimetres, nargs="+", metavar="MM", help="per voxel, for extents in mm"
    )
    parser.add_argument("--batch", type=positive, metavar="N", help="images at once, for memory")
    parser.add_argument("--layers", action="store_true", help="print every layer")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="also run it, for the memory that tensors and the process really take",
    )
    parser.add_argument(
        "--effective", action="store_true", help="also run it for the effective receptive field"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=output_folder,
        metavar="DIR",
        help="write audit.md, audit.json, audit.csv",
    )
    add_overwrite(parser)
    return parser


@command(_parser)
def main(arguments: argparse.Namespace) -> int:
    """Audits the network that is asked for."""
    os.environ.setdefault("KINETO_LOG_LEVEL", _SILENT)
    from medseg.analysis.audit import audit
    from medseg.analysis.audit_document import OUTPUTS, markdown, write_audit
    from medseg.files import file_ids, require_replaceable

    named = arguments.network
    inputs = file_ids([Path(named)] if named and not _is_import(named) else [])
    overwrite = arguments.overwrite
    if arguments.output is not None:
        targets = [arguments.output / name for name in OUTPUTS]
        require_replaceable(targets, overwrite=overwrite, inputs=inputs)
    network, shape, options = _network(arguments)
    result = audit(network, shape, **options)
    print(markdown(result, layers=arguments.layers), end="")
    if arguments.measure:
        print(_measured(result), end="")
    if arguments.effective:
        print(_effective(result.subject), end="")
    if arguments.output is not None:
        for path in write_audit(result, arguments.output, overwrite=overwrite, inputs=inputs):
            print(one_line(str(path)))
    return 0


def _network(arguments: argparse.Namespace) -> "tuple[nn.Module, tuple[int, ...], dict[str, Any]]":
    """The network, the shape of its input, and the other arguments of `audit`."""
    chosen = [arguments.model, arguments.network, arguments.overrides or None]
    if sum(source is not None for source in chosen) > 1:
        raise ConfigError("--model, --network and overrides name a network each; choose one")
    if arguments.allow_import and not _is_import(arguments.network or ""):
        raise ConfigError(
            "--allow-import is for --network PACKAGE.MODULE:FACTORY alone; leave it out"
        )
    import torch

    from medseg.cli.compose import compose_network
    from medseg.models.description import build_network
    from medseg.models.weights import load_model

    torch.manual_seed(_SEED)  # the DC gains of untrained weights are the same at every audit
    batch, channels, spacing, deep = 1, 1, None, False
    if arguments.model is not None:
        trained = load_model(arguments.model)
        card, network = trained.card, trained.network
        name, deep = str(arguments.model), bool(card.network.get("deep_supervision", False))
        channels, patch_size = card.in_channels, tuple(card.patch_size)
        spacing = card.preprocessing.get("spacing")
    elif arguments.network is not None:
        if arguments.patch_size is None:
            raise ConfigError("--network needs --patch-size; for instance --patch-size 64 64 64")
        patch_size = (0,) * len(arguments.patch_size)
        if _is_import(arguments.network):
            name = arguments.network
            network = _imported(name, allowed=arguments.allow_import)
        else:
            description = _read(Path(arguments.network))
            network, name = build_network(description), str(description.get("name"))
            channels = description.get("in_channels", 1)
            deep = bool(description.get("deep_supervision", False))
            patch_size = (0,) * description.get("spatial_dims", len(patch_size))
    else:
        description, load, spacing = compose_network(arguments.overrides, arguments.patch_size)
        network, batch = build_network(description), load.batch
        name, deep = " ".join(arguments.overrides), bool(description.get("deep_supervision", False))
        name = name or "the default configuration"
        channels, patch_size = load.in_channels, load.patch_size
    patch_size = patch_of(arguments.patch_size, patch_size)
    shape = (arguments.batch or batch, arguments.in_channels or channels, *patch_size)
    options = {
        "name": one_line(name)
        if arguments.model
        else f"{one_line(name)} (untrained, seed {_SEED})",
        "spacing": _spacing(arguments.spacing, spacing, len(patch_size)),
        "deep_supervision": deep,
    }
    return network, shape, options


def _is_import(network: str) -> bool:
    """Whether it is PACKAGE.MODULE:FACTORY; a file of that name comes first."""
    module, _, factory = network.partition(":")
    names = [*module.split("."), factory]
    return all(name.isidentifier() for name in names) and not Path(network).exists()


def _imported(network: str, *, allowed: bool) -> "nn.Module":
    """What the user's own factory makes.

    Raises:
        ConfigError: not allowed, it cannot be imported or called, or what it makes is no module.
    """
    from torch import nn

    if not allowed:
        raise ConfigError(
            f"--network={network} is code of yours that would run; "
            "if you trust it, repeat the command with --allow-import"
        )
    module, _, factory = network.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # as `python -m` does
    try:
        made = getattr(importlib.import_module(module), factory)()
    except Exception as error:  # whatever the user's code raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ConfigError(
            f"--network={network} cannot be made ({reason}); "
            f"{factory}() must work without arguments in Python, started in this folder"
        ) from error
    if not isinstance(made, nn.Module):
        raise ConfigError(
            f"--network={network} made {type(made).__name__}, which is no torch.nn.Module; "
            "return one from the factory"
        )
    return made


def _read(path: Path) -> dict[str, Any]:
    import yaml

    from medseg.models.description import describe

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML or JSON ({reason})") from error
    if not isinstance(content, dict):
        shown = json.dumps(content, default=str)[:60]
        raise ConfigError(f"{path}: holds {shown}, not a network; write name: monai.VNet and so on")
    return describe(content)


def _spacing(
    given: Sequence[float] | None, known: Sequence[float] | None, dims: int
) -> tuple[float, ...] | None:
    """Of the network's axes; a volume's spacing does not tell that of a slice."""
    if given is not None and len(given) != dims:
        raise ConfigError(f"--spacing={given} must have one number for each of the {dims} axes")
    spacing = given or known
    return tuple(spacing) if spacing and len(spacing) == dims else None


def _measured(result: "Audit") -> str:
    import torch

    from medseg.analysis.memory import network_peak_bytes
    from medseg.formatting import markdown_table
    from medseg.resources import peak_memory_bytes, restart_peak_memory

    subject, cpu = result.subject, torch.device("cpu")
    shape = (subject.batch, subject.in_channels, *subject.patch_size)
    rows = []
    for use in result.memory:
        for precision in ("fp32", "bf16"):
            training = use == "training"
            restart_peak_memory(cpu)
            try:
                peak = network_peak_bytes(
                    subject.network,
                    shape,
                    training=training,
                    bf16=precision == "bf16",
                    run=subject.call(training=training),
                )
            except Exception as error:  # whatever a foreign module raises
                rows.append((use, precision, "", "", "", one_line(str(error))[:80], ""))
                continue
            predicted = result.memory[use].get(precision)
            process = f"{peak_memory_bytes(cpu) / _MIB:.0f}"
            known = ("", "", "")
            if predicted is not None:
                estimate = ("not known", "")
                if not predicted.unseen:
                    estimate = (f"{predicted.peak / _MIB:.1f}", f"{predicted.peak / peak - 1:+.1%}")
                known = (f"{predicted.tensors / _MIB:.1f}", *estimate)
            rows.append((use, precision, f"{peak / _MIB:.1f}", *known, process))
    head = ("MiB", "", "measured", "tensors", "with what operations take", "difference",
            "peak of the process")  # fmt: skip
    return (
        f"\n## Memory, measured\n\n{markdown_table(head, rows)}\n"
        "Of the process: all that it held, Python, torch, weights and gradients included.\n"
    )


def _effective(subject: "Subject") -> str:
    from medseg.analysis.effective_field import effective_field

    field = effective_field(subject.network, subject.in_channels, subject.patch_size)
    deviations = ", ".join(f"{deviation:.1f}" for deviation in field.deviation)
    return (
        f"\n## Effective receptive field\n\nAt these weights, on noise: a cube of "
        f"{field.extent:.1f} voxels holds what counts at least 4.55 % of the most important "
        f"voxel; standard deviation {deviations} voxels along the axes.\n"
    )


def _millimetres(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} must be a positive number of mm")
    return number
