"""The ten tasks of the Medical Segmentation Decathlon, read in place or downloaded."""

import hashlib
import logging
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path

from medseg.data.building import build_folder
from medseg.data.download import content_length, fetch, require_space
from medseg.data.forms import read_dataset
from medseg.data.forms.description import DESCRIPTION
from medseg.errors import ConfigError, DataError, ResourceError

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Decathlon:
    """One task of the Decathlon; a folder that is there already is used as it lies.

    Reference: Antonelli et al. 2022, doi 10.1038/s41467-022-30695-9. Licence CC-BY-SA 4.0.

    Attributes:
        task: the folder's name, such as "Task04_Hippocampus".
        root: holds dataset.json itself, or holds (or receives) the task's folder.
        download: fetch the archive if the folder is not there.
        url: of the archive; None is the address that MONAI knows.
        md5: of the archive, in hexadecimal; None is the checksum that MONAI knows.
    """

    task: str = "Task04_Hippocampus"
    root: Path | str
    download: bool = False
    url: str | None = None
    md5: str | None = None

    def prepare(self, *, may_write: bool = True) -> Path:
        """The task's folder, complete; downloaded and extracted once if that is allowed.

        Args:
            may_write: whether a folder that is not there may be made.

        Raises:
            DataError: not there, incomplete, or an archive that must not be trusted.
            ResourceError: no connection, no space or no permission.
            ConfigError: a task that has no address.
        """
        root = Path(self.root).expanduser()
        target = root / self.task
        found = next((f for f in (root, target) if (f / DESCRIPTION).is_file()), None)
        if found is None and not (self.download and may_write):
            raise DataError(
                f"{self.task} was found neither in {root} nor in {target} (no {DESCRIPTION}); "
                f"set data.download=true, or put the extracted folder at {target}"
            )
        if found is None:
            return build_folder(target, stamp=self._source()[1], build=self._build)
        _require_complete(found)
        return found

    def _source(self) -> tuple[str, str]:
        """Address and MD5 of the archive; another address must give the same bytes."""
        from monai.apps.datasets import DecathlonDataset

        url = self.url or DecathlonDataset.resource.get(self.task)
        md5 = self.md5 or DecathlonDataset.md5.get(self.task)
        if url is None or md5 is None:
            raise ConfigError(
                f"data.source.task={self.task} has no known address; choose one of "
                f"{', '.join(DecathlonDataset.resource)}, or give url and md5"
            )
        return url, md5.lower()

    def _build(self, part: Path) -> None:
        url, md5 = self._source()
        archive = part.parent / f"{self.task}.tar"
        if archive.is_file():
            _require_md5(archive, md5, remedy=f"remove {archive} and start again")
            require_space(part, archive.stat().st_size)
        else:
            _download(url, archive, md5=md5, staging=part)
        _extract(archive, part)


def _download(url: str, archive: Path, *, md5: str, staging: Path) -> None:
    # archive and extracted files lie side by side, and compressed volumes do not shrink
    require_space(staging, 2 * content_length(url))
    _logger.info("downloading %s to %s", url, archive)
    part = fetch(url, archive, staging=staging)
    _require_md5(part, md5, remedy="nothing of it was kept; start again or name another url")
    part.replace(archive)


def _require_md5(archive: Path, expected: str, *, remedy: str) -> None:
    with archive.open("rb") as stream:
        got = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if got != expected:
        raise DataError(f"{archive.name}: md5 {got}, expected {expected}; {remedy}")


def _extract(archive: Path, part: Path) -> None:
    """Extracts into a folder below `part`, then lifts the dataset to `part` itself."""
    from monai.apps.utils import extractall

    staging = part / ".archive"
    staging.mkdir()
    try:
        extractall(archive, staging, has_base=False)
    except (ValueError, tarfile.TarError, NotImplementedError, EOFError) as error:
        raise DataError(f"{archive} was refused ({error}); use the original archive") from error
    except OSError as error:
        raise ResourceError(
            f"{archive} could not be extracted ({error}); check space and permissions of "
            f"{part.parent}"
        ) from error
    candidates = [f for f in (staging, *staging.iterdir()) if (f / DESCRIPTION).is_file()]
    if not candidates:
        raise DataError(f"{archive} holds no {DESCRIPTION}; use the original archive")
    read_dataset(candidates[0])
    for item in candidates[0].iterdir():
        item.rename(part / item.name)
    shutil.rmtree(staging, ignore_errors=True)


def _require_complete(folder: Path) -> None:
    try:
        read_dataset(folder)
    except DataError as error:
        raise DataError(
            *error.args,
            f"if an extraction was interrupted: move {folder} away and set "
            "data.download=true, or extract the archive again",
        ) from error
