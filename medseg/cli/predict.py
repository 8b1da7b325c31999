"""`medseg predict`: volumes and trained networks in, label maps out."""

import argparse
import os
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import (
    add_engine,
    add_prediction,
    command,
    limit_memory_to,
    make_parser,
    positive,
    report_error,
)
from medseg.cli.predicted import add_form, add_further, plan_outputs, target_of
from medseg.cli.volumes import each_volume, listings, named_by
from medseg.errors import ConfigError, DataError
from medseg.formatting import counted, one_line

if TYPE_CHECKING:
    from medseg.volumes import Found

_EXAMPLES = """\
examples:
  medseg predict -m runs/liver/2026-01-31_12-00-00 -i scan.nii.gz "other scans/" -o out/
  medseg predict -m runs/a runs/b -i in/ -o out/ --mirror         mean of two networks and views
  medseg predict -m runs/a -i in/ -o out/ --keep-largest liver --min-volume tumour=50
  medseg predict -m runs/a -i in/ -o out/ --continue --num-parts 8 --part-id "$SLURM_ARRAY_TASK_ID"

exit codes: 0 all done, 2 usage, 3 some inputs unusable (failures.json), 4 machine (memory, disk,
device), 130 interrupted
"""


def _parser() -> argparse.ArgumentParser:
    parser = make_parser(
        "predict",
        "Segments volumes with a trained network, or by the mean of several. Each label map lies "
        "on its volume's own grid, under the case's name, with a JSON beside it that says what was "
        "done. A volume that cannot be used does not stop the others. Several channels are one "
        "file, or one file each: case_0000.nii.gz, case_0001.nii.gz, or after their names.",
        _EXAMPLES,
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        required=True,
        nargs="+",
        metavar="RUN",
        help="runs' folders, .safetensors or .ckpt files; several: those, the folder of a "
        "cross-validation, or one with ensemble.json",
    )
    parser.add_argument(
        "-i",
        "--input",
        type=Path,
        required=True,
        nargs="+",
        metavar="PATH",
        help="volumes, pictures, DICOM series (a folder or one of its files), folders of them, of "
        "patients or of channels, tables (CSV), and patterns ('in/**/*_ct.nii.gz')",
    )
    add_form(parser)
    add_prediction(parser)
    parser.add_argument(
        "--window",
        type=positive,
        nargs="+",
        metavar="VOXELS",
        help="per axis, instead of the patch of training; networks that normalise each window "
        "give other results on others",
    )
    add_engine(parser)
    views = parser.add_argument_group("mean over several views of a volume")
    views.add_argument(
        "--mirror",
        nargs="*",
        metavar="AXIS",
        help="and its mirror images along left-right, anterior-posterior, head-foot; without a "
        "word, along all that training mirrored: n axes take 2^n times as long",
    )
    views.add_argument(
        "--shifts",
        type=positive,
        metavar="N",
        help="and N - 1 views moved below the network's strides (cycle spinning): N times as long",
    )
    cleaned = parser.add_argument_group("post-processing per class, in this order")
    cleaned.add_argument(
        "--min-volume",
        nargs="+",
        default=[],
        metavar="CLASS=MM3",
        help="remove components that are smaller",
    )
    cleaned.add_argument(
        "--keep-largest",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="remove all components but the largest; `learned`: of the classes whose Dice that "
        "raised on the validation cases",
    )
    cleaned.add_argument(
        "--fill-holes",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="fill the background that a class encloses",
    )
    further = parser.add_argument_group("further outputs")
    further.add_argument(
        "--probabilities",
        nargs="*",
        metavar="CLASS",
        help="probabilities of some classes, or of every one",
    )
    further.add_argument(
        "--uncertainty", action="store_true", help="entropy of the probabilities in bits"
    )
    further.add_argument(
        "--summary",
        action="store_true",
        help="volume and mean intensity of every class (statistics.csv); inputs, options, hashes "
        "and times of all cases (manifest.json)",
    )
    add_further(further)
    batch = parser.add_argument_group("many volumes")
    existing = batch.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    existing.add_argument(
        "--continue", dest="resume", action="store_true", help="skip volumes that are done"
    )
    batch.add_argument(
        "--num-parts", type=positive, metavar="N", help="share the volumes out to N processes"
    )
    batch.add_argument("--part-id", type=int, metavar="K", help="which part this one does, from 0")
    return parser


@command(_parser, stopped="stopped; the cases done so far are complete", continued_by="--continue")
def main(arguments: argparse.Namespace) -> int:
    """Predicts; returns the exit code (see `medseg.errors`)."""
    target = target_of(arguments)
    from medseg.cli.ensembles import ensemble_of, wanted_of
    from medseg.cli.summary import summary_files, write_summary
    from medseg.data.forms.scans import find_scans
    from medseg.files import replacing, require_replaceable, require_writable
    from medseg.inference.ahead import Beside, in_turn
    from medseg.inference.files import Input, is_done, read_input, write_outputs
    from medseg.inference.outputs import Outputs
    from medseg.inference.segment import Prediction
    from medseg.models.members import load_members

    limit_memory_to(arguments)
    part = _part(arguments)
    models = load_members(arguments.model)
    card = models[0].card
    wanted = wanted_of(models, arguments)
    inputs = [path for given in arguments.input for path in named_by(given)]
    found, scans = find_scans(inputs, channels=card.in_channels, names=card.channels)
    suffix = "" if part is None else f"_part{part[0]}"
    folder = None if target.file else target.folder
    summaries = summary_files(target.folder, suffix) if arguments.summary else []
    lists = [*(listings(folder, suffix) if folder else ()), *summaries]
    planned = plan_outputs(found, scans, target, card.classes, wanted, lists)
    ensemble = ensemble_of(models, arguments)
    require_writable(target.folder)
    if len(models) > 1:
        print(f"mean of {len(models)} networks")

    done: list[Path] = []

    def prepare(source: Path) -> Input | None:
        """Reads a case; None if it is done."""
        outputs, scan = planned[source], scans[source]
        if isinstance(outputs, DataError):
            raise outputs
        if arguments.resume and is_done(scan, outputs, ensemble=ensemble, wanted=wanted):
            done.append(outputs.report)
            return None
        former = [path for path in outputs.paths if os.path.lexists(path)]
        if former and not (arguments.overwrite or arguments.resume):
            raise DataError(f"{former[0]} exists; use --overwrite or --continue")
        require_replaceable([*former, *outputs.written(wanted)], overwrite=arguments.overwrite)
        return read_input(scan, outputs, ensemble=ensemble, wanted=wanted)

    def segment(source: Path, read: Input | None, beside: Beside) -> Callable[[], str]:
        if read is None:
            return lambda: f"{source}: already done"
        maps = len(wanted.probabilities) + wanted.uncertainty
        plan = ensemble.plan(read.volume, maps=maps, make_room=beside.make_room)
        with beside.reading(plan.needed):
            prediction = ensemble.predict(
                read.volume,
                probabilities=wanted.probabilities,
                uncertainty=wanted.uncertainty,
                plan=plan,
            )
        return lambda: write(source, read, prediction)

    def write(source: Path, read: Input, prediction: Prediction) -> str:
        outputs = planned[source]
        assert isinstance(outputs, Outputs)
        former = [path for path in outputs.paths if os.path.lexists(path)]
        files = [*former, *outputs.written(wanted)]
        with replacing(files, overwrite=arguments.overwrite):
            report = write_outputs(read, prediction, outputs, ensemble=ensemble, wanted=wanted)
        done.append(outputs.report)
        gone = [path for path in former if not os.path.lexists(path)]
        for note in [*report["notes"], *(f"{p} was of the older label map; removed" for p in gone)]:
            print(one_line(f"warning: {source}: {note}"), file=sys.stderr)
        return f"{outputs.labels}  {report['seconds']['total']:.1f} s"

    own = _share(found, part)
    require_replaceable(summaries, overwrite=arguments.overwrite)
    with closing(in_turn(own.volumes, read=prepare, work=segment)) as outcomes:
        failed = each_volume(
            own,
            lambda _source: next(outcomes).result(),
            folder,
            overwrite=arguments.overwrite,
            suffix=suffix,
        )
    if summaries:
        with replacing(summaries, overwrite=arguments.overwrite):
            write_summary(done, summaries)
    if not failed or folder is None:
        return DataError.exit_code if failed else 0
    total, listing = len(own.volumes) + len(own.unusable), listings(folder, suffix)[0]
    return report_error(DataError(f"{failed} of {total} volumes failed; see {listing}"))


def _part(arguments: argparse.Namespace) -> tuple[int, int] | None:
    """Which part of how many is to be done.

    Raises:
        ConfigError: one of the two options without the other, or no such part.
    """
    part, parts = arguments.part_id, arguments.num_parts
    if part is None and parts is None:
        return None
    if part is None or parts is None or not 0 <= part < parts:
        raise ConfigError(
            f"--num-parts={parts} --part-id={part}: both are needed, and the part must lie in 0 to "
            f"{(parts or 1) - 1}"
        )
    return part, parts


def _share(found: "Found", part: tuple[int, int] | None) -> "Found":
    """Every n-th of what was found: the parts have nothing in common and leave nothing out."""
    if part is None:
        return found
    start, step = part
    volumes = sorted(found.volumes)[start::step]
    unusable = dict(sorted(found.unusable.items())[start::step])
    print(f"part {start} of {step}: {counted(len(volumes), 'volume')} of {len(found.volumes)}")
    return replace(found, volumes=volumes, unusable=unusable)
