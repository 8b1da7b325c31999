"""The record of a run while the run is made; it also tells why the run failed."""

import logging
import os
import platform
import shutil
import statistics
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import MedsegError, SignalError
from medseg.experiment.folder import CONFIG, former_record, place_results
from medseg.files import sweep_parts, write_text
from medseg.formatting import MISSING, fixed, markdown_table
from medseg.hardware import now, package_versions
from medseg.record import METRICS, RunRecord, RunStatus, content, data_digest, digest
from medseg.record.lock import this_machine

log = logging.getLogger(__name__)

_NEW_RESULTS = ".continued"  # model and label maps, until they take the place of the former


class Progress:
    """The record so far, and the status beside it that other processes read.

    What a completed run has (record, configuration, status, model, predictions) is replaced
    together, when its continuation is completed, and not before.
    """

    def __init__(self, record: RunRecord, folder: Path, *, keeps_former: bool):
        self.record = record
        self.results = folder / _NEW_RESULTS
        self.folder = folder
        self.keeps_former = keeps_former
        self._former = RunStatus.read(folder) if keeps_former else None
        self._share = 0.0

    def update(self, **fields: Any) -> None:
        """Changes fields of the record."""
        self.record = replace(self.record, **fields)

    def place_results(self) -> None:
        """Puts model and label maps, as far as they are made, into the run's folder."""
        place_results(self.results, self.folder, self.record.split["validation"])

    def write(self, seconds: float = 0.0) -> None:
        """Writes record, configuration and status; the share is that which was written last."""
        if self.record.status == "completed" or not self.keeps_former:
            self.record.write(self.folder)
            write_text(self.folder / CONFIG, yaml.safe_dump(self.record.config, sort_keys=False))
        if self.record.status in ("failed", "interrupted") and self._former:
            self._former.write(self.folder)
        else:
            self.write_status(self._share, seconds)

    def write_status(self, share: float, seconds: float) -> None:
        """Writes the status: share of the training that is done in [0, 1], seconds spent."""
        self._share = share
        RunStatus(
            status=self.record.status,
            # also where patience or time ended the training before its last step
            share=1.0 if self.record.status == "completed" else share,
            seconds=seconds,
            host=platform.node(),
            process=os.getpid(),
            machine=this_machine(),
            at=time.time(),
            digest=self.record.digest,
            data=self._data(),
            error=self.record.error,
            exit_code=self.record.exit_code,
        ).write(self.folder)

    def _data(self) -> str:
        """What the dataset's files are known by."""
        by_file = self.record.config["data"].get("split_file") is not None
        held_out = self.record.split.get("validation", []) if by_file else []
        return data_digest(self.record.cases_sha256, held_out)


@contextmanager
def recorded(config: dict[str, Any], folder: Path, **asked: Any) -> Iterator[Progress]:
    """Writes the record of what the block does when it begins and when it ends, however it ends."""
    sweep_parts(folder)
    shutil.rmtree(folder / _NEW_RESULTS, ignore_errors=True)
    start, former = time.perf_counter(), former_record(folder)
    record = RunRecord(
        name=config["name"],
        status="running",
        started=now(),
        config=_with_whole_paths(config),
        digest=digest(config),
        versions=package_versions(),
        seed=config["seed"],
        fold=_fold_of(config["data"]) if former is None else former.fold,
        folds=former.folds if former else "",
        restarts=former.restarts + 1 if former else 0,
        split=former.split if former else {},
        cases_sha256=former.cases_sha256 if former else {},
        init=former.init if former else {},
        **asked,
    )
    if former:
        _tell_changes(content(former.config), content(config))
    is_whole = former is not None and former.status == "completed"
    progress = Progress(record, folder, keeps_former=is_whole)
    progress.write()
    try:
        yield progress
        progress.update(status="completed", exit_code=0)
    except BaseException as error:
        progress.update(**_end_by(error))
        if isinstance(error, KeyboardInterrupt):
            raise SignalError(2) from error
        raise
    finally:
        seconds = progress.record.seconds
        seconds |= {"total": time.perf_counter() - start + seconds.get("former", 0.0)}
        progress.update(seconds=seconds, finished=now())
        progress.write(seconds=seconds["total"])
        shutil.rmtree(progress.results, ignore_errors=True)


def _fold_of(data: Mapping[str, Any]) -> int | None:
    """Which fold is held out; None for a single split, and until a file of splits was read."""
    return data["fold"] if data["folds"] is not None and data["split_file"] is None else None


def _with_whole_paths(config: dict[str, Any]) -> dict[str, Any]:
    """A configuration whose places are found from any working directory."""
    whole = config | {"data": config["data"] | {"source": dict(config["data"]["source"])}}
    data = whole["data"]
    for section, key in ((whole, "init"), (data, "root"), (data["source"], "root")):
        if isinstance(section.get(key), str):
            section[key] = str(Path(section[key]).expanduser().absolute())
    return whole


def _tell_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for key, value in after.items():
        if key in before and before[key] != value:
            log.info("from here on %s=%s instead of %s", key, value, before[key])


def _end_by(error: BaseException) -> dict[str, Any]:
    """What a record says of a run that an error ended."""
    match error:
        case KeyboardInterrupt():
            status, text, code = "interrupted", "stopped by the keyboard", SignalError(2).exit_code
        case SignalError():
            status, text, code = "interrupted", str(error), error.exit_code
        case SystemExit():  # a scheduler's way of stopping a run, wherever it is
            code = error.code if isinstance(error.code, int) else MedsegError.exit_code
            status, text = "interrupted", "stopped from outside"
        case MedsegError():
            status, text, code = "failed", str(error), error.exit_code
        case _:
            status, code = "failed", MedsegError.exit_code
            text = traceback.format_exception_only(error)[-1].strip().splitlines()[-1]
    return {"status": status, "error": text, "exit_code": code}


def score_lines(record: RunRecord) -> list[str]:
    """A table of the metrics of every class, averaged over the held-out cases that define them.

    Empty where no case is held out.
    """
    if not record.cases:
        return []
    head = ["class", *(f"{m.title} {m.unit}".strip() for m in METRICS.values())]
    rows = []
    for name in record.classes:
        row = [name]
        for metric, about in METRICS.items():
            values = [case.metrics[name][metric] for case in record.cases]
            defined = [value for value in values if value is not None]
            row.append(fixed(statistics.fmean(defined), about.digits) if defined else MISSING)
        rows.append(row)
    return markdown_table(head, rows, [False, *[True] * len(METRICS)]).splitlines()
