"""`medseg artifacts`: patterns that are locked to the strides of a trained network."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import (
    add_output,
    add_prediction,
    command,
    limit_memory_to,
    make_parser,
)
from medseg.cli.volumes import each_volume, listings
from medseg.errors import ConfigError, DataError
from medseg.formatting import one_line

if TYPE_CHECKING:
    from medseg.data.dataset import Scan
    from medseg.models.weights import ModelCard
    from medseg.record import CaseRow
    from medseg.volumes import Found

_EXAMPLES = """\
examples:
  medseg artifacts runs/a case.nii.gz -o artifacts
  medseg artifacts runs/a imagesTr --labels labelsTr --spin -o artifacts

FOLDER receives artifacts.html (tables and figures), artifacts.md, artifacts.csv, artifacts.json,
figures/*.png, *.pdf and *.svg and, with --spin, maps/<case>_cycle_spin.nii.gz.

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
        "images",
        type=Path,
        nargs="+",
        metavar="IMAGE",
        help="volumes, and folders of them, in the forms that predict takes",
    )
    add_output(parser, required=True)
    parser.add_argument(
        "--labels",
        type=Path,
        nargs="+",
        default=[],
        metavar="LABEL",
        help="true labels, or folders of them, named as the volumes; or a dataset of any form",
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
    from medseg.analysis.memory import window_bytes
    from medseg.checkerboard import Study
    from medseg.checkerboard.decision import examine
    from medseg.files import file_ids, replacing, require_replaceable, require_writable
    from medseg.inference.files import files_of_scan
    from medseg.inference.predictor import Predictor
    from medseg.models.weights import load_model
    from medseg.report.artifacts import OUTPUTS, RESULT, write_results
    from medseg.volumes import files_of

    limit_memory_to(arguments)
    if arguments.shifts < 2:
        raise ConfigError(f"shifts={arguments.shifts} leaves nothing to compare; give at least 2")
    model = load_model(arguments.run)
    found, scans, labels = _inputs(arguments, model.card)
    inputs = file_ids(
        [p for scan in scans.values() for p in files_of_scan(scan)]
        + [p for path in labels.values() for p in files_of(path)]
    )
    maps = {
        source: arguments.output / "maps" / f"{scan.case_id}_cycle_spin.nii.gz"
        for source, scan in (scans.items() if arguments.spin else ())
    }
    existing = [path for name in OUTPUTS if (path := arguments.output / name).exists()]
    if existing and not arguments.overwrite:
        raise ConfigError(f"{existing[0]} exists; use --overwrite or choose another folder")
    require_replaceable(maps.values(), overwrite=True, inputs=inputs)
    require_writable(arguments.output)
    predictor = Predictor(
        model,
        device=arguments.device,
        overlap=arguments.overlap,
        precision=arguments.precision,
        window_bytes=window_bytes(model.card),
    )
    study = Study(predictor.network, model.card, shifts=arguments.shifts)

    def measure(source: Path) -> str:
        with replacing(filter(None, [maps.get(source)]), overwrite=True):
            case = examine(
                scans[source],
                labels.get(source),
                study=study,
                predictor=predictor,
                spin=maps.get(source),
                prefer=arguments.prefer,
            )
        return f"{source}  {_summary(case)}"

    failed = each_volume(found, measure, arguments.output, overwrite=arguments.overwrite)
    total = len(found.volumes) + len(found.unusable)
    if failed == total:
        listing = listings(arguments.output)[0]
        raise DataError(f"none of {total} volumes could be used, so there is no result: {listing}")
    record = study.record()
    write_results(
        arguments.output,
        record,
        study.figure_data(),
        title=f"Artifacts of {arguments.run}",
        run=arguments.run,
    )
    for note in record.notes:
        print(one_line(f"warning: {note}"), file=sys.stderr)
    prediction, windows = study.seconds["prediction"], study.seconds["windows"]
    print(f"prediction {prediction:.1f} s, measuring its windows {windows:.1f} s")
    print(one_line(str(arguments.output / RESULT)))
    return 3 if failed else 0


def _inputs(
    arguments: argparse.Namespace, card: "ModelCard"
) -> "tuple[Found, dict[Path, Scan], dict[Path, Path]]":
    """The volumes, and the labels of each that has some; what is left over is said or a failure."""
    from medseg.data.forms.scans import find_scans
    from medseg.volumes import Found, case_id

    images, scans = find_scans(arguments.images, channels=card.in_channels, names=card.channels)
    labels, by_case = _labels(arguments.labels)
    pairs = {
        source: by_case[name]
        for source, scan in scans.items()
        for name in [scan.case_id if scan.case_id in by_case else case_id(source)]
        if name in by_case
    }
    if by_case and not pairs:
        raise DataError(
            f"{next(iter(by_case.values()))}: no labels bear the name of a volume, such as "
            f"{next(iter(scans.values())).case_id}; name them alike"
        )
    alone = [path for path in by_case.values() if path not in pairs.values()]
    for source in scans if by_case else ():
        if source not in pairs:
            print(one_line(f"warning: {source}: no labels bear its name"), file=sys.stderr)
    skipped = images.skipped | labels.skipped | dict.fromkeys(alone, "labels of no volume")
    unusable = images.unusable | labels.unusable
    return Found(volumes=images.volumes, unusable=unusable, skipped=skipped), scans, pairs


def _labels(paths: Sequence[Path]) -> "tuple[Found, dict[str, Path]]":
    """Label maps by case: files, those of folders, and those of datasets."""
    from medseg.data.forms import read_dataset
    from medseg.data.forms.form import images_in
    from medseg.volumes import case_id, find_volumes

    datasets = [path for path in paths if path.is_dir() and not images_in(path)]
    found = find_volumes(path for path in paths if path not in datasets)
    by_case = {case_id(path): path for path in found.volumes}
    for folder in datasets:
        by_case |= {case.case_id: case.label for case in read_dataset(folder).cases}
    return found, by_case


def _summary(case: "CaseRow") -> str:
    from medseg.formatting import significant

    return (
        f"gain {significant(case.get('prediction', 'gain'), 3)} "
        f"(input {significant(case.get('image', 'gain'), 3)})  "
        f"cycle-spin {significant(case.get('cycle_spin', 'cycle_spin'), 3)}"
    )
