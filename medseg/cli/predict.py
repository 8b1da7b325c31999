"""`medseg predict`: volumes and a trained network in, label maps out."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.command import (
    add_prediction,
    command,
    make_parser,
    output_folder,
    report_error,
)
from medseg.cli.volumes import FAILURES, TRACES, each_volume
from medseg.errors import DataError
from medseg.formatting import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from medseg.data.dataset import Scan
    from medseg.inference.files import Outputs
    from medseg.volumes import Found

_NAME_BYTES = 255  # of a file's name, on the file systems in use


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict",
        "Segments volumes with a trained network. Each label map lies on its "
        "volume's own grid, under the case's name, with a JSON beside it that says what was "
        "done. A volume that cannot be used does not stop the others. Several channels are one "
        "file, or one file each: case_0000.nii.gz, case_0001.nii.gz, or after their names.",
        "exit codes: 0 all done, 2 usage, 3 some inputs unusable (failures.json), "
        "4 machine (memory, disk, device), 130 interrupted",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        required=True,
        metavar="RUN",
        help="a run's folder, a .safetensors or a .ckpt file",
    )
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        nargs="+",
        metavar="PATH",
        help="volumes, pictures, DICOM series (a folder or one of its files), folders of them, of "
        "patients or of channels, and tables (CSV)",
    )
    parser.add_argument("-o", "--output", type=output_folder, required=True, metavar="FOLDER")
    add_prediction(parser)
    parser.add_argument(
        "--probabilities", action="store_true", help="also write the probability of each class"
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    existing.add_argument(
        "--continue", dest="resume", action="store_true", help="skip volumes that are done"
    )
    return parser


@command(_parser, stopped="stopped; the cases done so far are complete", continued_by="--continue")
def main(arguments: argparse.Namespace) -> int:
    """Predicts; returns the exit code (see `medseg.errors`)."""
    from medseg.analysis.memory import window_bytes
    from medseg.data.forms.scans import find_scans
    from medseg.files import replacing, require_writable
    from medseg.inference.files import is_done, predict_file
    from medseg.inference.predictor import Predictor
    from medseg.models.weights import load_model

    model = load_model(arguments.model)
    card = model.card
    found, scans = find_scans(arguments.input, channels=card.in_channels, names=card.channels)
    planned = _planned(found, scans, arguments)
    require_writable(arguments.output)
    predictor = Predictor(
        model,
        device=arguments.device,
        overlap=arguments.overlap,
        window_bytes=window_bytes(model.network, card),
    )
    options = {"probabilities": arguments.probabilities, "prefer": arguments.prefer}

    def segment(source: Path) -> str:
        outputs, scan = planned[source], scans[source]
        if isinstance(outputs, DataError):
            raise outputs
        if arguments.resume and is_done(scan, outputs, model, predictor=predictor, **options):
            return f"{source}: already done"
        had_probabilities = os.path.lexists(outputs.probabilities)
        for path in outputs.paths:
            if os.path.lexists(path) and not (arguments.overwrite or arguments.resume):
                raise DataError(f"{path} exists; use --overwrite or --continue")
        with replacing(outputs.paths, overwrite=arguments.overwrite):
            report = predict_file(scan, outputs, model=model, predictor=predictor, **options)
        notes = report["notes"]
        if had_probabilities and not os.path.lexists(outputs.probabilities):
            notes = [*notes, f"{outputs.probabilities} was of the older label map; removed"]
        for note in notes:
            print(one_line(f"warning: {source}: {note}"), file=sys.stderr)
        return f"{outputs.labels}  {report['seconds']['total']:.1f} s"

    failed = each_volume(found, segment, arguments.output, overwrite=arguments.overwrite)
    if not failed:
        return 0
    total = len(found.volumes) + len(found.unusable)
    listing = arguments.output / FAILURES
    return report_error(DataError(f"{failed} of {total} volumes failed; see {listing}"))


def _planned(
    found: "Found", scans: "Mapping[Path, Scan]", arguments: argparse.Namespace
) -> "dict[Path, Outputs | DataError]":
    """The outputs of every volume, or why it can have none: all names are settled beforehand."""
    from medseg.files import file_ids
    from medseg.inference.files import Outputs, files_of_scan
    from medseg.volumes import files_of

    inputs = file_ids(
        [p for scan in scans.values() for p in files_of_scan(scan)]
        + [p for volume in found.unusable for p in files_of(volume)]
    )
    listings = (arguments.output / name for name in (FAILURES, TRACES))
    taken: dict[Path, Any] = dict.fromkeys(listings, "the list of failures")
    planned: dict[Path, Outputs | DataError] = {}

    def fault(path: Path) -> str:
        if inputs & file_ids([path]):
            return "would overwrite an input; choose another output folder"
        if path in taken:
            return f"is also that of {taken[path]}; rename one, or run them apart"
        too_long = len(os.fsencode(path.name)) > _NAME_BYTES
        return "would have too long a name; shorten that of the volume" if too_long else ""

    for source in found.volumes:
        outputs = Outputs.of(scans[source], arguments.output)
        written = outputs.written(probabilities=arguments.probabilities)
        faults = [f"its output {path} {why}" for path in written if (why := fault(path))]
        planned[source] = DataError(f"{source}: {faults[0]}") if faults else outputs
        if not faults:
            taken |= dict.fromkeys(written, source)
    return planned
