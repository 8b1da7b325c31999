"""Which files the volumes of `medseg predict` become: asked for, refused and named before work."""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.cli.command import output_folder
from medseg.errors import ConfigError, DataError
from medseg.suggestion import choices

if TYPE_CHECKING:
    from medseg.data.dataset import Scan
    from medseg.inference.outputs import Outputs, Wanted
    from medseg.volumes import Found

_NAME_BYTES = 255  # of a file's name, on the file systems in use


@dataclass(frozen=True, kw_only=True)
class Target:
    """Where label maps go.

    Attributes:
        folder: in which all files lie.
        file: that of the only volume's labels, if it was named.
        format: a key of `medseg.volumes.writers.FORMATS`, or "same" as the volume's.
    """

    folder: Path
    file: Path | None
    format: str


def add_form(parser: argparse._ActionsContainer) -> None:
    """Adds the options that say where label maps go, and in which format."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="PATH",
        help="a folder; for one volume also a file, whose ending says its format",
    )
    parser.add_argument(
        "--format",
        metavar="FORMAT",
        help="of the label maps: nifti (the default), nrrd (a segmentation of 3D Slicer), "
        "dicom-seg or rtstruct (of a DICOM series), png (of a picture), or same (nearest to the "
        "volume's own)",
    )


def add_further(parser: argparse._ActionsContainer) -> None:
    """Adds the options of what else is made of a label map."""
    parser.add_argument(
        "--overlay", action="store_true", help="a picture of each volume with its classes (PNG)"
    )
    parser.add_argument(
        "--label-names",
        action="store_true",
        help="names and colours of the classes for 3D Slicer (.ctbl) and ITK-SNAP (.label)",
    )
    parser.add_argument(
        "--split-classes",
        action="store_true",
        help="a mask of each class, in a folder of the case's name",
    )


def target_of(arguments: argparse.Namespace) -> Target:
    """Where the label maps go.

    Raises:
        ConfigError: an unknown format, one that contradicts the ending of a file, or a file of
            none.
    """
    from medseg.volumes.writers import FORMATS, SAME, formats_named

    output, wanted = arguments.output, arguments.format
    if wanted not in (None, SAME, *FORMATS):
        raise ConfigError(f"--format {wanted}: {choices(wanted, [*FORMATS, SAME])}")
    named = [] if output.is_dir() else formats_named(output)
    if named and wanted not in (None, SAME, *named):
        endings = " or ".join(FORMATS[wanted].suffixes)
        raise ConfigError(f"-o {output} is no name for --format {wanted}: end it in {endings}")
    if not named:
        try:
            output_folder(str(output))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"-o {error}") from error
    chosen = wanted or (named[0] if named else "nifti")
    return Target(
        folder=output.parent if named else output, file=output if named else None, format=chosen
    )


def plan_outputs(
    found: "Found",
    scans: "Mapping[Path, Scan]",
    target: Target,
    classes: Sequence[str],
    wanted: "Wanted",
    lists: Sequence[Path],
) -> "dict[Path, Outputs | DataError]":
    """The outputs of every volume, or why it can have none: all names are settled beforehand.

    Args:
        found: The volumes.
        scans: Their files.
        target: Where label maps go.
        classes: Names of the foreground classes, by label value from 1.
        wanted: What is made of a volume.
        lists: Files of the command itself, whose names no case may have.

    Raises:
        ConfigError: a file is named for several volumes.
    """
    from medseg.files import file_ids
    from medseg.inference.files import files_of_scan
    from medseg.volumes import files_of

    total = len(found.volumes) + len(found.unusable)
    if target.file and total > 1:
        raise ConfigError(f"-o {target.file} is one file, and {total} volumes are named; -o FOLDER")
    inputs = file_ids(
        [p for scan in scans.values() for p in files_of_scan(scan)]
        + [p for volume in found.unusable for p in files_of(volume)]
    )
    taken: dict[Path, Any] = dict.fromkeys(lists, "a list of all cases")
    planned: dict[Path, Outputs | DataError] = {}

    def fault(path: Path) -> str:
        if inputs & file_ids([path]):
            return "would overwrite an input; choose another output folder"
        if path in taken:
            return f"is also that of {taken[path]}; rename one, or run them apart"
        too_long = len(os.fsencode(path.name)) > _NAME_BYTES
        return "would have too long a name; shorten that of the volume" if too_long else ""

    for source in found.volumes:
        try:
            outputs = _outputs_of(scans[source], target, classes)
        except DataError as error:
            planned[source] = error
            continue
        written = outputs.written(wanted)
        faults = [f"its output {path} {why}" for path in written if (why := fault(path))]
        planned[source] = DataError(f"{source}: {faults[0]}") if faults else outputs
        if not faults:
            taken |= dict.fromkeys(written, source)
    return planned


def _outputs_of(scan: "Scan", target: Target, classes: Sequence[str]) -> "Outputs":
    """The names of a case's outputs.

    Raises:
        DataError: the format cannot hold its labels, or the image cannot be read.
    """
    from medseg.inference.outputs import Outputs
    from medseg.volumes.writers import FORMATS, SAME, format_like

    chosen = format_like(scan.image) if target.format == SAME else target.format
    if why := FORMATS[chosen].fault(scan.image, classes):
        remedy = "choose --format nifti or nrrd"
        raise DataError(f"{scan.image}: its labels cannot become {chosen}: {why}; {remedy}")
    if target.file is None:
        return Outputs.of(scan, target.folder, file_format=chosen, classes=classes)
    if not target.file.name.lower().endswith(FORMATS[chosen].suffixes):
        endings = " or ".join(FORMATS[chosen].suffixes)
        raise DataError(f"{scan.image}: is written as {chosen}; end -o {target.file} in {endings}")
    return Outputs.at(target.file, file_format=chosen, classes=classes)
