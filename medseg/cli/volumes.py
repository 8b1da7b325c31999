"""Volumes one after another: a failure is that volume's own, and every input is accounted for."""

import glob
import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.cli.command import report_error
from medseg.errors import ConfigError, DataError, MedsegError, UnexpectedError, one_volume
from medseg.formatting import one_line

if TYPE_CHECKING:
    from medseg.volumes import Found


def listings(folder: Path, suffix: str = "") -> list[Path]:
    """The list of failures, and the traces of those that nobody foresaw."""
    return [folder / f"failures{suffix}.json", folder / f"failures{suffix}.log"]


def named_by(path: Path) -> list[Path]:
    """The paths that match a pattern of `*`, `**`, `?` and `[…]`; one that is there is itself."""
    pattern = str(path)
    if os.path.lexists(path) or not glob.has_magic(pattern):
        return [path]
    return [Path(found) for found in sorted(glob.glob(pattern, recursive=True))] or [path]


def say_skipped(found: "Found") -> None:
    """Names on standard error what lies in the inputs' folders and is not used."""
    for reason in dict.fromkeys(found.skipped.values()):
        names = [str(path) for path, why in found.skipped.items() if why == reason]
        print(f"skipped ({one_line(reason)}): {one_line(', '.join(names))}", file=sys.stderr)


def each_volume(
    found: "Found",
    work: Callable[[Path], str],
    folder: Path | None,
    *,
    overwrite: bool,
    suffix: str = "",
) -> int:
    """Works on every volume and prints the line that comes of it; returns how many failed.

    Those are listed in `failures.json`, with the traces of what nobody foresaw in `failures.log`;
    also where a full disk or Ctrl-C ends the row. Lists of an earlier time are replaced or removed.

    Args:
        found: The volumes, and those that cannot be used.
        work: Works on one.
        folder: Where the list goes; None: nowhere.
        overwrite: Whether files of these names that medseg did not write are replaced.
        suffix: Of the lists' names, where several processes write into the folder.

    Raises:
        ConfigError: such a file is there; nothing was worked on.
        MedsegError: of the machine, or Ctrl-C: it ends the row.
    """
    from medseg.files import replacing, require_replaceable, write_text

    lists = listings(folder, suffix) if folder else []
    require_replaceable(lists, overwrite=overwrite)
    say_skipped(found)
    total = len(found.volumes) + len(found.unusable)
    failures: dict[str, str] = {}
    traces: list[str] = []

    def fail(path: Path, error: MedsegError) -> None:
        failures[str(path)] = str(error)
        report_error(error)
        if isinstance(error, UnexpectedError):
            traces.extend([f"{path}\n", *traceback.format_exception(error.__cause__), "\n"])

    try:
        for path, reason in found.unusable.items():
            fail(path, DataError(reason))
        for position, path in enumerate(found.volumes, start=1):
            try:
                with one_volume(path):
                    line = work(path)
                print(f"[{position}/{total}] {one_line(line)}", flush=True)
            except (ConfigError, DataError) as error:
                fail(path, error)
    finally:
        with replacing(lists, overwrite=overwrite):
            if lists and failures:
                write_text(lists[0], json.dumps(failures, indent=1) + "\n")
            if lists and traces:
                write_text(lists[1], "".join(traces))
    return len(failures)
