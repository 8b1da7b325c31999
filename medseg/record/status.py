"""How far a run has come, written as it goes, so that others can say when it will end."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from medseg.files import write_text
from medseg.record.run import Status

STATUS_FILE = "status.json"


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The last sign of life of a run.

    Args:
        status: As in its record.
        share: Of the training that is done, in [0, 1].
        seconds: Spent on it, those before a restart included.
        host: The machine.
        process: Its process there; in containers, processes of several runs have one number.
        machine: Equal for all containers of a machine, from its start to its end.
        at: Time of this sign, in seconds since 1970.
        digest: As in its record.
        data: Of the files that it is trained on (`medseg.record.data_digest`).
        error: As in its record.
        exit_code: As in its record.
    """

    status: Status
    host: str
    process: int
    at: float
    machine: str = ""
    share: float = 0.0
    seconds: float = 0.0
    digest: str = ""
    data: str = ""
    error: str | None = None
    exit_code: int | None = None

    def write(self, folder: Path) -> None:
        """Writes `status.json` into a run's folder, wholly or not at all."""
        write_text(Path(folder) / STATUS_FILE, json.dumps(dataclasses.asdict(self)) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "RunStatus | None":
        """What was written last; None if nothing was, or nothing that can be read."""
        try:
            return cls(**json.loads((Path(folder) / STATUS_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None
