"""`medseg artifacts`: patterns that are locked to the strides of a trained network."""

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import add_prediction, command, make_parser, report_error
from medseg.errors import ConfigError, DataError

if TYPE_CHECKING:
    from medseg.record import CaseRow

_EXAMPLES = """\
examples:
  medseg artifacts runs/a case.nii.gz -o artifacts
  medseg artifacts runs/a imagesTr --labels labelsTr --spin -o artifacts

FOLDER receives artifacts.html (tables and figures), artifacts.md, artifacts.csv, artifacts.json,
figures/*.png and, with --spin, maps/<case>_cycle_spin.nii.gz.

exit codes: 0 done, 2 usage or a network without strides, 3 some volumes unusable, 4 machine,
130 interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "artifacts",
        "Measure the checkerboard patterns of a trained network: on its "
        "weights, by probes, and on volumes, with the input and the true labels beside it. "
        "Fewer than 8 volumes give sizes and no test.",
        _EXAMPLES,
    )
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="a run's folder, a .safetensors or a .ckpt file"
    )
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="volumes and folders of volumes"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="LABEL",
        help="true labels, or folders of them, named as the volumes",
    )
    parser.add_argument(
        "--shifts", type=int, default=8, help="of a cycle-spin residual, at least 2 (default 8)"
    )
    parser.add_argument(
        "--spin",
        action="store_true",
        help="map the cycle-spin deviation of whole volumes and, with --labels, say whether "
        "cycle spinning changes Dice; SHIFTS predictions a volume, twice with labels",
    )
    add_prediction(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace existing results")
    return parser


@command(
    _parser, stopped="stopped; maps of the cases done so far are complete", log_level=logging.ERROR
)
def main(arguments: argparse.Namespace) -> int:
    """Measures; returns the exit code (see `medseg.errors`)."""
    from medseg.checkerboard import Study
    from medseg.checkerboard.decision import examine, labels_of
    from medseg.files import require_writable
    from medseg.inference.predictor import Predictor
    from medseg.models.weights import load_model
    from medseg.report.artifacts import OUTPUTS, RESULT, write_results
    from medseg.volumes import find_volumes

    if arguments.shifts < 2:
        raise ConfigError(f"shifts={arguments.shifts} leaves nothing to compare; give at least 2")
    pairs = labels_of(find_volumes(arguments.images), find_volumes(arguments.labels))
    require_writable(arguments.output)
    found = [path for name in OUTPUTS if (path := arguments.output / name).exists()]
    if found and not arguments.overwrite:
        raise ConfigError(f"{found[0]} exists; use --overwrite or choose another folder")
    model = load_model(arguments.run)
    predictor = Predictor(model, device=arguments.device, overlap=arguments.overlap)
    study = Study(predictor.network, model.card, overlap=predictor.overlap, shifts=arguments.shifts)
    done = 0
    for position, (source, label) in enumerate(pairs.items(), start=1):
        try:
            case = examine(
                source,
                label,
                study=study,
                predictor=predictor,
                spin=arguments.output / "maps" if arguments.spin else None,
                prefer=arguments.prefer,
            )
        except DataError as error:
            report_error(error)
            continue
        done += 1
        print(f"[{position}/{len(pairs)}] {source}  {_summary(case)}", flush=True)
    if not done:
        raise DataError(f"none of {len(pairs)} volumes could be used; nothing was written")
    record = study.record()
    write_results(
        arguments.output,
        record,
        study.figure_data(),
        title=f"Artifacts of {arguments.run}",
        run=arguments.run,
    )
    for note in record.notes:
        print(f"warning: {note}", file=sys.stderr)
    prediction, windows = study.seconds["prediction"], study.seconds["windows"]
    print(f"prediction {prediction:.1f} s, measuring its windows {windows:.1f} s")
    print(arguments.output / RESULT)
    return 0 if done == len(pairs) else 3


def _summary(case: "CaseRow") -> str:
    from medseg.formatting import significant

    return (
        f"gain {significant(case.get('prediction', 'gain'), 3)} "
        f"(input {significant(case.get('image', 'gain'), 3)})  "
        f"cycle-spin {significant(case.get('cycle_spin', 'cycle_spin'), 3)}"
    )
