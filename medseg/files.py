"""Files that are whole or absent: write beside the target, flush to disk, rename.

A file is medseg's own if its content is listed, by SHA-256, in a hidden file of its folder; nothing
else is replaced unless that is asked for.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from medseg.errors import ConfigError, ResourceError

try:
    import fcntl
except ImportError:  # Windows has no flock: parts of a killed process are not told from others
    fcntl = None

log = logging.getLogger(__name__)

_PART = ".part"
_PART_NAME = re.compile(r"\.[a-z0-9_]{8}\.part")  # as `tempfile` names them
_WRITTEN = ".medseg.json"  # file name → SHA-256 of what medseg wrote beside this list

FileId = tuple[int, int]
"""Device and inode: equal for all names of one file."""


class _Set:
    """Files that belong together: their finished parts, which wait for each other."""

    def __init__(self, targets: Iterable[Path], stack: ExitStack):
        self.targets = tuple(targets)
        self.parts: dict[Path, Path] = {}
        self.stack = stack  # removes the parts


_sets: list[_Set] = []  # of every `replacing` whose block is at work, the innermost last


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yields a temporary path beside `target` that becomes `target` if the block succeeds.

    Inside `replacing`, its targets appear together when that block ends. An exception removes the
    temporary file and leaves an existing `target` as it was.

    Raises:
        ResourceError: the folder cannot be written or the disk is full.
    """
    target = Path(target)
    group = next((found for found in reversed(_sets) if target in found.targets), None)
    with ExitStack() as own:
        try:
            part = (group.stack if group else own).enter_context(_part_in(target.parent))
        except OSError as error:
            raise _unwritable(target, error) from error
        try:
            yield part
            _flush(part)
            part.chmod(0o666 & ~_umask())
            if group:
                group.parts[target] = part
            else:
                part.replace(target)
        except OSError as error:
            raise _unwritable(target, error) from error


def write_bytes(target: Path, content: bytes) -> None:
    """Writes `content` to `target`, wholly or not at all."""
    with atomic_path(target) as part:
        part.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Writes `content` to `target` as UTF-8, wholly or not at all.

    Lone surrogates, which the names of files may hold, are written as escapes.
    """
    write_bytes(target, content.encode("utf-8", "backslashreplace"))


def require_writable(folder: Path) -> None:
    """Makes `folder` and proves that a file can be written there.

    Raises:
        ResourceError: it cannot.
    """
    try:
        with _part_in(Path(folder)):
            pass
    except OSError as error:
        raise _unwritable(Path(folder), error) from error


def file_ids(paths: Iterable[Path]) -> frozenset[FileId]:
    """What tells files apart, whatever they are called; one that is not there has none."""
    found = set()
    for path in paths:
        with contextlib.suppress(OSError, ValueError):
            status = os.stat(path)
            found.add((status.st_dev, status.st_ino))
    return frozenset(found)


def require_replaceable(
    targets: Iterable[Path],
    *,
    overwrite: bool = False,
    inputs: frozenset[FileId] = frozenset(),
    remedy: str = "choose another output, move it away, or give --overwrite",
) -> None:
    """Checks that none of a command's outputs is something that must stay.

    Args:
        targets: Every file that is going to be written.
        overwrite: Replace files whoever wrote them.
        inputs: Files of `file_ids` that are never replaced.
        remedy: What the user can do about a file that must stay.

    Raises:
        ConfigError: a target that exists, and that medseg did not write or that was changed since;
            an input; a folder.
    """
    own: dict[Path, Mapping[str, list[str]]] = {}
    for target in map(Path, targets):
        if inputs & file_ids([target]):
            raise ConfigError(
                f"{target} is an input, which its own result would replace; choose another output"
            )
        if not os.path.lexists(target):
            continue
        if target.is_dir() and not target.is_symlink():
            raise ConfigError(f"{target} exists and is a folder; choose another output")
        known = own.setdefault(target.parent, _written(target.parent))
        if not (overwrite or _sha256_or_none(target) in known.get(target.name, [])):
            raise ConfigError(
                f"{target} exists, and medseg did not write it or it was changed since; {remedy}"
            )


@contextmanager
def replacing(
    targets: Iterable[Path],
    *,
    overwrite: bool = False,
    inputs: frozenset[FileId] = frozenset(),
) -> Iterator[None]:
    """Writes files that belong together: all are checked before the block, all replaced after it.

    What was written is listed in a hidden file of the folder, so that the same command may replace
    its own outputs later. A target of medseg's that the block does not write belongs to an older
    result and is removed. If the block fails, everything stays as it was; a folder that was made
    for nothing is removed again.

    Args:
        targets: Every file that the block may write, through this module.
        overwrite: Replace files whoever wrote them.
        inputs: Files of `file_ids` that are never replaced.

    Raises:
        ConfigError: as `require_replaceable`.
        ResourceError: the folder cannot be written or the disk is full.
    """
    targets = list(dict.fromkeys(map(Path, targets)))
    require_replaceable(targets, overwrite=overwrite, inputs=inputs)
    folders = dict.fromkeys(target.parent for target in targets)
    made = {f for folder in folders for f in (folder, *folder.parents) if not f.exists()}
    try:
        for folder in folders:
            require_writable(folder)
            _sweep(folder.iterdir())
        with ExitStack() as stack:
            group = _Set(targets, stack)
            _sets.append(group)
            try:
                yield
            finally:
                _sets.remove(group)
            _put_in_place(group)
    finally:
        for folder in sorted(made, key=lambda path: len(path.parts), reverse=True):
            with contextlib.suppress(OSError):  # not empty, or not there
                folder.rmdir()


def lists_own_files(folder: Path) -> bool:
    """Whether a folder has a list of what medseg wrote there; versions up to 0.1.0 made none."""
    return (folder / _WRITTEN).is_file()


def is_own(path: Path) -> bool:
    """Whether a file is there as `replacing` wrote it."""
    path = Path(path)
    return _sha256_or_none(path) in _written(path.parent).get(path.name, [])


def list_as_own(paths: Iterable[Path]) -> None:
    """Lists files as medseg's own, as `replacing` does with what it writes."""
    _list_written({path: [sha256(path)] for path in paths})


def own_text(path: Path) -> str | None:
    """The content of a file as `replacing` wrote it; None if it is not there or was changed."""
    try:
        content = Path(path).read_bytes()
    except OSError:
        return None
    known = _written(Path(path).parent).get(Path(path).name, [])
    if hashlib.sha256(content).hexdigest() in known:
        return content.decode()
    log.warning("%s: is damaged or was changed; it is made again", path)
    return None


def _put_in_place(group: _Set) -> None:
    """Renames finished parts; wherever that is interrupted, old and new are known as medseg's."""
    new = {target: sha256(part) for target, part in group.parts.items()}
    own = {f: _written(f) for f in dict.fromkeys(target.parent for target in group.targets)}
    former = {target: own[target.parent].get(target.name, []) for target in group.targets}
    outdated = [t for t in group.targets if t not in new and _sha256_or_none(t) in former[t]]
    _list_written({target: [*former[target], digest] for target, digest in new.items()})
    for target, part in group.parts.items():
        try:
            part.replace(target)
        except OSError as error:
            raise _unwritable(target, error) from error
    for target in outdated:
        log.info("%s: belongs to the older result, removed", target)
        target.unlink(missing_ok=True)
    _list_written({t: [digest] for t, digest in new.items()} | {t: [] for t in outdated})


def _sha256_or_none(path: Path) -> str | None:
    return sha256(path) if os.path.isfile(path) else None


def _written(folder: Path) -> dict[str, list[str]]:
    """Name → SHA-256 of what medseg wrote in a folder; two while a file is being replaced."""
    try:
        content = json.loads((folder / _WRITTEN).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    listed = content if isinstance(content, dict) else {}
    return {name: found if isinstance(found, list) else [found] for name, found in listed.items()}


def _list_written(digests: Mapping[Path, list[str]]) -> None:
    """Adds files to the lists of their folders; one without a digest is taken from it."""
    for folder in dict.fromkeys(target.parent for target in digests):
        new = {t.name: found for t, found in digests.items() if t.parent == folder}
        with _locked(folder / _WRITTEN):  # other processes write there as well
            listed = {name: found for name, found in (_written(folder) | new).items() if found}
            plain = {name: found[0] if len(found) == 1 else found for name, found in listed.items()}
            write_text(folder / _WRITTEN, json.dumps(plain, indent=1) + "\n")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keeps others out while a file is read and replaced; makes it if it is not there."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(handle)
            if os.fstat(handle).st_ino == path.stat().st_ino:
                yield
                return
        finally:
            os.close(handle)  # replaced by whoever had the lock before: it is another file now


def sweep_parts(folder: Path) -> None:
    """Removes temporary files that killed processes left under `folder`.

    Those of processes that are alive, here or on another node, stay.
    """
    _sweep(Path(folder).rglob(f".*{_PART}"))


def _sweep(paths: Iterable[Path]) -> None:
    for path in paths:
        if _PART_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError), path.open("r+b") as stream:
                if _lock(stream.fileno(), waits=False):
                    path.unlink(missing_ok=True)


@contextmanager
def _part_in(folder: Path) -> Iterator[Path]:
    """A new temporary file, locked as long as it is at work, and then removed if still there."""
    folder.mkdir(parents=True, exist_ok=True)
    while True:
        handle, name = tempfile.mkstemp(dir=folder, prefix=".", suffix=_PART)
        _lock(handle)
        if os.fstat(handle).st_nlink:
            break
        os.close(handle)  # swept before it was locked
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)
        os.close(handle)


def _lock(handle: int, *, waits: bool = True) -> bool:
    """Locks a file while it is open here; False where another has it or nothing can be locked.

    The system frees the locks of a process that dies, on every node that sees the file.
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if waits else fcntl.LOCK_NB))
    except OSError:
        return False
    return True


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
