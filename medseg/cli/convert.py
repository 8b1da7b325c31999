"""`medseg convert`: a trained network rewritten as one of other blocks, its output unchanged."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import add_output, add_overwrite, command, make_parser
from medseg.cli.volumes import say_skipped
from medseg.errors import ConfigError, DataError, one_volume
from medseg.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Collection

    from medseg.conversion.rewriting import Rewriting
    from medseg.data.dataset import Scan
    from medseg.models.weights import TrainedModel

_OF_A_RUN = ("model", "checkpoints")
_SLOTS = {
    "upsample": (("pixel_shuffle", "transposed"), "for targets without ConvTranspose, or with it"),
    "conv": (("standard",), "grouped, separable, dilated: one dense kernel each"),
    "downsample": (
        ("space_to_depth", "strided"),
        "a kernel as large as its stride, or the inverse",
    ),
}
_EXAMPLES = """\
examples:
  medseg convert runs/a -o converted --upsample pixel_shuffle
  medseg convert runs/a -o converted --conv standard --verify-on case.nii.gz
  medseg predict -m converted -i case.nii.gz -o labels

exit codes: 0 done, 2 a layer has no exact equivalent, 3 a file that cannot be used, 4 machine
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "convert",
        "Rewrite a trained network as one of other blocks that computes the same, and "
        "say how far the two lie apart. Nothing is written unless every layer of the slot has an "
        "exact equivalent.",
        _EXAMPLES,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, a .safetensors or a .ckpt file"
    )
    add_output(parser, required=True)
    for slot, (options, purpose) in _SLOTS.items():
        parser.add_argument(f"--{slot}", choices=options, help=purpose)
    parser.add_argument(
        "--verify-on",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="volumes that both networks segment, in the forms that predict takes",
    )
    add_overwrite(parser, "a model that medseg did not write as well")
    return parser


@command(_parser, stopped="stopped; nothing was written")
def main(arguments: argparse.Namespace) -> None:
    """Rewrites a trained network and shows how far the result lies from it."""
    wanted = {slot: option for slot in _SLOTS if (option := getattr(arguments, slot))}
    if not wanted:
        slots = ", ".join(f"--{slot}" for slot in _SLOTS)
        raise ConfigError(f"nothing to rewrite; give {slots}")
    from dataclasses import replace

    from medseg import __version__
    from medseg.conversion.rewriting import rewrite
    from medseg.conversion.targets import target_of
    from medseg.data.forms.scans import find_scans
    from medseg.files import replacing
    from medseg.models.weights import MODEL_FILES, load_model, save_model

    model = load_model(arguments.run)
    _require_other_folder(arguments.output, model.source)
    found, scans = find_scans(
        arguments.verify_on, channels=model.card.in_channels, names=model.card.channels
    )
    if found.unusable:  # a proof on fewer volumes than were named would be none
        raise DataError("; ".join(found.unusable.values()))
    say_skipped(found)
    targets = [target_of(slot, option) for slot, option in wanted.items()]
    rewriting = rewrite(model.network, model.card.network, targets)
    card = replace(model.card, network=rewriting.description, evidence=[], medseg=__version__)
    converted = replace(model, network=rewriting.network, card=card)
    written = [arguments.output / name for name in MODEL_FILES]
    with replacing(written, overwrite=arguments.overwrite):
        _show_layers(rewriting)
        _show_networks(model, converted)
        _show_volumes(model, converted, scans.values())
        save_model(arguments.output, rewriting.network, card)
    print(one_line(str(arguments.output)))


def _require_other_folder(folder: Path, source: Path) -> None:
    """Makes sure that a model is not written into the run that it is made from, or another."""
    own = source.resolve().parent
    run = own.parent if own.name in _OF_A_RUN else None
    if folder.resolve() == own or (run is not None and folder.resolve().is_relative_to(run)):
        raise DataError(
            f"{folder}: holds the network that is converted, which stays as it is; "
            "choose another folder"
        )
    if any((folder / name).exists() for name in _OF_A_RUN):
        raise DataError(f"{folder}: is a run, whose own network it holds; choose another folder")


def _show_layers(rewriting: "Rewriting") -> None:
    from medseg.formatting import markdown_table

    rows = [(row.layer, row.was, row.now, f"{row.difference:.2g}") for row in rewriting.layers]
    print(markdown_table(("layer", "was", "is", "largest difference"), rows))
    for line in rewriting.unchanged:
        print(line)


def _show_networks(model: "TrainedModel", converted: "TrainedModel") -> None:
    from medseg.analysis.cost import count_parameters
    from medseg.conversion.rewriting import largest_difference

    weights = (count_parameters(m.network) for m in (model, converted))
    print("weights: {:,} before, {:,} now".format(*weights))
    patch = model.card.patch_size
    odd = [size - 1 + size % 2 for size in patch]
    for size in (patch, odd) if odd != patch else (patch,):
        difference = largest_difference(
            model.network, converted.network, model.card.in_channels, size
        )
        voxels = "×".join(map(str, size))
        print(f"logits of noise, {voxels} voxels, fp32: largest difference {difference:.2g}")


def _show_volumes(
    model: "TrainedModel", converted: "TrainedModel", scans: "Collection[Scan]"
) -> None:
    from medseg.data.reading import read_scan
    from medseg.inference.agreement import agreement

    changed = 0
    for scan in scans:
        with one_volume(scan.image):
            volume = read_scan(scan, model.card.in_channels, nonfinite="replace")
            found = agreement(model, converted, volume)
        print(
            f"{one_line(str(scan.image))}: {found.changed} of {found.voxels} voxels change their "
            f"label, largest difference of a probability {found.difference:.2g}",
            flush=True,
        )
        changed += found.changed
    if len(scans) > 1:
        print(f"{len(scans)} volumes: {changed} voxels change their label")
