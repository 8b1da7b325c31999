"""Collections of The Cancer Imaging Archive that MONAI names, as DICOM with segmentations.

Reference: Clark et al. 2013, The Cancer Imaging Archive, doi 10.1007/s10278-013-9622-7.
"""

import json
import logging
import shutil
import zipfile
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

from medseg.data.building import build_folder
from medseg.data.download import STALLED_SECONDS, fetch
from medseg.errors import ConfigError, DataError, ResourceError
from medseg.volumes import scan_dicom

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Tcia:
    """A collection of TCIA: its segmentations, and the series to which they refer.

    Each series lies in a folder of its own below that of its patient. Archives of series are kept
    beside the collection, so that an interrupted download goes on where it was.

    Attributes:
        collection: one that MONAI names.
        root: holds the collection's folder, or receives it.
        download: fetch the collection if the folder is not there.
        modality: of the labels: SEG or RTSTRUCT.
        url: of the archive's REST interface; None is the address that MONAI knows.
    """

    collection: str
    root: Path | str
    download: bool = False
    modality: str = "SEG"
    url: str | None = None

    def __post_init__(self) -> None:
        from monai.apps.tcia import TCIA_LABEL_DICT
        from monai.apps.tcia.utils import BASE_URL

        if self.collection not in TCIA_LABEL_DICT:
            names = ", ".join(TCIA_LABEL_DICT)
            raise ConfigError(f"data.source.collection={self.collection} must be one of {names}")
        object.__setattr__(self, "url", self.url or BASE_URL)
        if self.modality not in ("SEG", "RTSTRUCT"):
            raise ConfigError(f"data.source.modality={self.modality} must be SEG or RTSTRUCT")

    def prepare(self, *, may_write: bool = True) -> Path:
        """The collection's folder; downloaded once if that is allowed.

        Args:
            may_write: whether a folder that is not there may be made.

        Raises:
            DataError: not there, or an archive that must not be trusted.
            ResourceError: no connection, no space or no permission.
        """
        target = Path(self.root).expanduser() / self.collection
        if target.is_dir() and any(target.iterdir()):
            return target
        if not (self.download and may_write):
            raise DataError(
                f"{self.collection} was not found at {target}; set data.download=true, or put the "
                "collection's DICOM files there, in any folders"
            )
        return build_folder(target, stamp=f"{self.url} {self.modality}", build=self._build)

    def _build(self, part: Path) -> None:
        query = f"getSeries?Collection={quote(self.collection)}&Modality={self.modality}"
        labels = self._asked(query)
        if not labels:
            raise ResourceError(f"{self.url} names no {self.modality} of {self.collection}")
        for number, label in enumerate(labels, start=1):
            _logger.info("%s: %d of %d", self.collection, number, len(labels))
            uid, patient = str(label["SeriesInstanceUID"]), str(label.get("PatientID") or "unknown")
            place = part / _plain(patient)
            self._fetch_series(uid, place / _plain(uid), part)
            for found in scan_dicom(place / _plain(uid)):
                for referred in found.refers_to:
                    if not (place / _plain(referred)).is_dir():
                        self._fetch_series(referred, place / _plain(referred), part)

    def _asked(self, query: str) -> list[dict[str, Any]]:
        try:
            with urlopen(f"{self.url}{query}", timeout=STALLED_SECONDS) as answer:
                content = json.loads(answer.read() or b"[]")
            return [dict(each) for each in content]
        except (OSError, HTTPException, ValueError, TypeError) as error:
            raise ResourceError(
                f"{self.url}{query} gave no answer ({error}); check the connection and start again"
            ) from error

    def _fetch_series(self, uid: str, target: Path, part: Path) -> None:
        archives = part.parent / f"{self.collection}-series"
        archives.mkdir(exist_ok=True)
        archive = archives / f"{_plain(uid)}.zip"
        if not archive.is_file():
            staging = part / ".fetched"
            staging.mkdir(exist_ok=True)
            url = f"{self.url}getImage?SeriesInstanceUID={quote(uid)}"
            fetch(url, archive, staging=staging).replace(archive)
            shutil.rmtree(staging)
        target.mkdir(parents=True)
        from monai.apps.utils import extractall

        try:
            extractall(archive, target, file_type="zip", has_base=False)
        except (ValueError, zipfile.BadZipFile, NotImplementedError, EOFError) as error:
            archive.unlink()
            raise DataError(f"{archive} was refused ({error}); start again") from error


def _plain(name: str) -> str:
    """A name as one of a folder: what a server says is no path."""
    return "".join(c if c.isalnum() or c in "._-" else "_" for c in name).strip(".") or "_"
