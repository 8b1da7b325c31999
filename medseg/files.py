"""Files that are whole or absent: write beside the target, flush to disk, rename."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from medseg.errors import ConfigError, ResourceError

_PART = ".part"
_WRITTEN = ".medseg.json"  # file name → SHA-256 of what medseg wrote beside this list


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` that becomes `target` if the block succeeds.

    An exception removes the temporary file and leaves an existing `target` as it was.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=_PART)
        os.close(handle)
    except OSError as error:
        raise _unwritable(target, error) from error
    part = Path(name)
    try:
        yield part
        _flush(part)
        part.chmod(0o666 & ~_umask())
        part.replace(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        part.unlink(missing_ok=True)


def write_bytes(target: Path, content: bytes) -> None:
    """Writes `content` to `target`, wholly or not at all."""
    with atomic_path(target) as part:
        part.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Writes `content` to `target` as UTF-8, wholly or not at all."""
    write_bytes(target, content.encode())


def require_writable(folder: Path) -> None:
    """Makes `folder` and proves that a file can be written there.

    Raises:
        ResourceError: it cannot.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=_PART):
            pass
    except OSError as error:
        raise _unwritable(folder, error) from error


@contextmanager
def replacing(targets: Iterable[Path], *, overwrite: bool = False) -> Iterator[None]:
    """Guards files that a user may have under the names of a command's outputs.

    Before the block every target is checked; after it, what was written is listed in a hidden file
    of the folder, so that the same command may replace its own outputs later. A folder that was
    made for nothing is removed again.

    Args:
        targets: Every file that the block may write.
        overwrite: Replace files whoever wrote them.

    Raises:
        ConfigError: a target that exists, and that medseg did not write or that was changed since.
        ResourceError: the folder cannot be written or the disk is full.
    """
    before = {Path(target): _sha256_or_none(Path(target)) for target in targets}
    folders = {target.parent for target in before}
    own = {folder / name: digest for folder in folders for name, digest in _written(folder).items()}
    for target in before:
        is_own = target.is_file() and own.get(target) == before[target]
        if target.exists() and not (overwrite or is_own):
            raise ConfigError(
                f"{target} exists, and medseg did not write it or it was changed since; "
                "choose another output, move it away, or give --overwrite"
            )
    made = [folder for folder in folders if not folder.exists()]
    for folder in folders:
        require_writable(folder)
    try:
        yield
    finally:
        after = {target: _sha256_or_none(target) for target in before}
        new = {target: digest for target, digest in after.items() if digest != before[target]}
        for folder in {target.parent for target in new}:
            written = {target.name: new[target] for target in new if target.parent == folder}
            present = {k: v for k, v in (_written(folder) | written).items() if v is not None}
            listed = json.dumps(present, indent=1)
            write_text(folder / _WRITTEN, listed + "\n")
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _sha256_or_none(path: Path) -> str | None:
    return sha256(path) if path.is_file() else None


def _written(folder: Path) -> dict[str, str]:
    try:
        content = json.loads((folder / _WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def sweep_parts(folder: Path) -> None:
    """Removes temporary files that a killed process left under `folder`, which nobody else uses."""
    for part in Path(folder).rglob(f".*{_PART}"):
        if part.is_file():
            part.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _flush(path: Path) -> None:
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def _unwritable(target: Path, error: OSError) -> ResourceError:
    folder = next((p for p in [target, *target.parents] if p.is_dir()), Path("/"))
    free = shutil.disk_usage(folder).free / 2**20
    return ResourceError(
        f"cannot write {target}: {error.strerror or error}; "
        f"{free:.0f} MiB are free there; choose a folder that can be written"
    )
