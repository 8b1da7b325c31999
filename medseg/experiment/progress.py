"""What is known of a run while it goes on, and what is left of its former attempts."""

import os
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from medseg.errors import DataError
from medseg.record import FILE_NAME, RunRecord, RunStatus


class Progress:
    """The record so far, and the sign of life beside it."""

    def __init__(self, record: RunRecord, folder: Path):
        self.record = record
        self._folder = folder

    def update(self, **fields: Any) -> None:
        """Changes fields of the record."""
        self.record = replace(self.record, **fields)

    def tell(self, share: float = 0.0, seconds: float = 0.0) -> None:
        """Writes the run's status: share done in [0, 1], seconds spent."""
        RunStatus(
            status=self.record.status,
            share=share,
            seconds=seconds,
            host=platform.node(),
            process=os.getpid(),
            at=time.time(),
            error=self.record.error,
            exit_code=self.record.exit_code,
        ).write(self._folder)


def former_attempts(folder: Path) -> int:
    """How often a run has been started in this folder before, as its last record says."""
    try:
        return RunRecord.read(folder / FILE_NAME).restarts + 1
    except DataError:
        return 0
