"""`medseg predict`: volumes and a trained network in, label maps out."""

import argparse
import json
import sys
from pathlib import Path

from medseg.cli.command import add_prediction, command, make_parser, report_error
from medseg.errors import ConfigError, DataError

FAILURES = "failures.json"


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict",
        "Segments volumes with a trained network. Each label map lies on its "
        "volume's own grid, under the volume's name, with a JSON beside it that says what was "
        "done. A volume that cannot be used does not stop the others.",
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
        help="volumes (NIfTI, NRRD, MetaImage) and folders of volumes",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
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


@command(_parser, stopped="stopped; the cases done so far are complete")
def main(arguments: argparse.Namespace) -> int:
    """Predicts; returns the exit code (see `medseg.errors`)."""
    from medseg.files import replacing, require_writable
    from medseg.inference.files import Outputs, is_done, predict_file
    from medseg.inference.predictor import Predictor
    from medseg.models.weights import load_model
    from medseg.volumes import find_volumes

    sources = find_volumes(arguments.input)
    inputs = {source.resolve() for source in sources}
    require_writable(arguments.output)
    model = load_model(arguments.model)
    predictor = Predictor(model, device=arguments.device, overlap=arguments.overlap)
    failures: dict[str, str] = {}

    def segment(source: Path) -> str:
        outputs = Outputs.of(source, arguments.output)
        wanted = arguments.probabilities
        if arguments.resume and is_done(source, outputs, model, probabilities=wanted):
            return f"{source}: already done"
        for path in outputs.paths:
            if path.resolve() in inputs:
                raise DataError(
                    f"{source}: its output {path} would overwrite an input; "
                    "choose another output folder"
                )
            if path.exists() and not (arguments.overwrite or arguments.resume):
                raise DataError(f"{path} exists; use --overwrite or --continue")
        with replacing(outputs.paths, overwrite=arguments.overwrite):
            report = predict_file(
                source,
                outputs,
                model=model,
                predictor=predictor,
                probabilities=wanted,
                prefer=arguments.prefer,
            )
        for note in report["notes"]:
            print(f"warning: {source}: {note}", file=sys.stderr)
        return f"{outputs.labels}  {report['seconds']['total']:.1f} s"

    listing = arguments.output / FAILURES
    with replacing([listing], overwrite=arguments.overwrite):
        try:
            for position, source in enumerate(sources, start=1):
                try:
                    print(f"[{position}/{len(sources)}] {segment(source)}", flush=True)
                except (ConfigError, DataError) as error:
                    failures[str(source)] = str(error)
                    report_error(error)
        finally:  # also where a full disk or Ctrl-C ends the row
            _list_failures(listing, failures)
    if not failures:
        return 0
    return report_error(
        DataError(f"{len(failures)} of {len(sources)} volumes failed; see {listing}")
    )


def _list_failures(listing: Path, failures: dict[str, str]) -> None:
    from medseg.files import write_text

    if failures:
        write_text(listing, json.dumps(failures, indent=1) + "\n")
    else:
        listing.unlink(missing_ok=True)
