"""`medseg convert`: a trained network rewritten as one of other blocks, its output unchanged."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import command
from medseg.errors import ConfigError

if TYPE_CHECKING:
    from medseg.conversion.rewriting import Rewriting
    from medseg.models.weights import TrainedModel

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
    parser = argparse.ArgumentParser(
        prog="medseg convert",
        description="Rewrite a trained network as one of other blocks that computes the same, and "
        "say how far the two lie apart. Nothing is written unless every layer of the slot has an "
        "exact equivalent.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, a .safetensors or a .ckpt file"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    for slot, (options, purpose) in _SLOTS.items():
        parser.add_argument(f"--{slot}", choices=options, help=purpose)
    parser.add_argument(
        "--verify-on",
        type=Path,
        nargs="+",
        default=[],
        metavar="IMAGE",
        help="volumes, and folders of volumes, that both networks segment",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model")
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
    from medseg.conversion.folder import check_output, save_whole
    from medseg.conversion.rewriting import rewrite
    from medseg.conversion.targets import target_of
    from medseg.models.weights import load_model
    from medseg.volumes import find_volumes

    model = load_model(arguments.run)
    check_output(arguments.output, model, overwrite=arguments.overwrite)
    volumes = find_volumes(arguments.verify_on)
    targets = [target_of(slot, option) for slot, option in wanted.items()]
    rewriting = rewrite(model.network, model.card.network, targets)
    card = replace(model.card, network=rewriting.description, medseg=__version__)
    converted = replace(model, network=rewriting.network, card=card)
    _show_layers(rewriting)
    _show_networks(model, converted)
    _show_volumes(model, converted, volumes)
    save_whole(arguments.output, rewriting.network, card)
    print(arguments.output)


def _show_layers(rewriting: "Rewriting") -> None:
    print("| layer | was | is | largest difference |")
    print("| --- | --- | --- | --- |")
    for row in rewriting.layers:
        print(f"| {row.layer} | {row.was} | {row.now} | {row.difference:.2g} |")
    print()
    for row in rewriting.unchanged:
        print(f"{row.layer} stays {row.block}: {row.reason}")


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


def _show_volumes(model: "TrainedModel", converted: "TrainedModel", sources: list[Path]) -> None:
    from medseg.inference.predictor import agreement
    from medseg.volumes import read_image

    changed = 0
    for source in sources:
        volume = read_image(source, channels=model.card.in_channels, nonfinite="replace")
        found = agreement(model, converted, volume)
        print(
            f"{source}: {found.changed} of {found.voxels} voxels change their label, "
            f"largest difference of a probability {found.difference:.2g}",
            flush=True,
        )
        changed += found.changed
    if len(sources) > 1:
        print(f"{len(sources)} volumes: {changed} voxels change their label")
