"""Files as streams of decompressed bytes, none of them missing, damaged or invented.

SimpleITK fills a truncated file with zeros and nibabel does not look at a gzip checksum; neither
warns. Here every byte is counted, and every gzip member is read to its verified end.
"""

import errno
import io
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gzip import BadGzipFile
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError

from medseg.errors import DataError
from medseg.resources import available_memory_bytes

FLOAT32_BYTES = 4
TRANSFER_AGAIN = "transfer or download it again"
DEFLATE_LIMIT = 1032  # times that a deflate stream can grow, by its format
MILLIMETRES = {  # by the names of a unit of length that files use
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "µm", "μm", r"\u00b5m", "micron", "microns"), 1e-3),
    **dict.fromkeys(("micrometer", "micrometers"), 1e-3),
    **dict.fromkeys(("nm", "nanometer", "nanometers"), 1e-6),
    **dict.fromkeys(("cm", "centimeter", "centimeters"), 10.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("inch", "in"), 25.4),
}

_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_POINTERS = {
    b"version https://git-lfs": "looks like a Git LFS pointer; run `git lfs pull`",
    b"/annex/objects/": "looks like a git-annex pointer; run `git annex get`",
}


class Doubt(str):
    """A note of a reader that a person has to judge; any other says what is read as it is meant."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A volume as its file holds it, before scaling and checks of its values.

    Attributes:
        voxels: the file's own shape, axes (i, j, k, ...), and data type.
        slope: value = slope * voxel + intercept.
        intercept: see `slope`.
        header: as found, or made from the geometry if the format is not NIfTI.
        notes: what was odd about the file.
        palette: RGB colours (index, 3) of which the voxels are indices, if they are.
        lossy: whether the compression changes values.
        unstated: of a picture, the array axes along which it states no spacing (1 mm in `header`);
            None for formats of volumes.
    """

    voxels: np.ndarray
    slope: float
    intercept: float
    header: nib.Nifti1Header
    notes: tuple[str, ...]
    palette: np.ndarray | None = None
    lossy: bool = False
    unstated: tuple[int, ...] | None = None


def header_of(shape: tuple[int, ...], affine: np.ndarray) -> nib.Nifti1Header:
    """The NIfTI header of a grid of another format.

    Args:
        shape: of two or three axes.
        affine: 4 x 4, voxel index to RAS mm.
    """
    header = nib.Nifti1Header()
    header.set_data_shape(shape)
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    return header


@contextmanager
def foreign_faults(path: Path, library: str) -> Iterator[None]:
    """Turns whatever a library raises on a damaged or hostile file into a refusal.

    Raises:
        DataError: with the library's own reason.
    """
    try:
        yield
    except DataError:
        raise
    except OSError as error:
        if error.errno:
            raise unreachable(path, error) from error
        raise _unreadable(path, library, error) from error
    except Exception as error:  # decoders raise what they like: struct.error, KeyError, ...
        raise _unreadable(path, library, error) from error


class Content:
    """The decompressed bytes of a file, read once from front to end.

    Attributes:
        path: of the file.
        size: bytes on the disk, from where reading began.
        compressed: whether they are a gzip stream.
    """

    def __init__(self, path: Path, stream: io.BufferedIOBase, size: int, *, compressed: bool):
        self.path = path
        self.size = size
        self.compressed = compressed
        self._stream = stream
        self._position = 0

    def read(self, count: int) -> bytes:
        """The next `count` bytes, or fewer if the file ends before."""
        block = self._stream.read(count)
        self._position += len(block)
        return block

    def fill(self, array: np.ndarray) -> None:
        """Reads the next bytes into a Fortran-ordered array.

        Raises:
            DataError: the file ends before.
        """
        target = array.reshape(-1, order="F").view(np.uint8).data
        filled = 0
        while filled < len(target):
            # by chunks, since a gzip stream copies what it is asked for
            count = self._stream.readinto(target[filled : filled + _CHUNK_BYTES])
            if not count:
                raise self._short(self._position + len(target), self._position + filled)
            filled += count
        self._position += filled

    def skip_to(self, position: int) -> None:
        """Passes over bytes up to `position`.

        Raises:
            DataError: the file ends before.
        """
        while self._position < position:
            if not self.read(min(_CHUNK_BYTES, position - self._position)):
                raise self._short(position, self._position)

    def finish(self) -> int:
        """Reads to the end, where a gzip stream verifies its checksum.

        Returns:
            The number of bytes that were left over.
        """
        start = self._position
        while self.read(_CHUNK_BYTES):
            pass
        return self._position - start

    def require_size(self, needed: int, voxels: int) -> None:
        """Refuses, before anything is allocated, what the file cannot hold or the memory take.

        Args:
            needed: bytes that the header states, counted from the start of the content.
            voxels: how many values they are, each of which becomes a float32.

        Raises:
            DataError: the file holds fewer bytes, or the memory is too small.
        """
        if not self.compressed and self.size < needed:
            raise self._short(needed, self.size)
        if self.size * DEFLATE_LIMIT < needed:
            raise self._short(needed, self.size * DEFLATE_LIMIT, "at most ")
        require_memory(self.path, needed + FLOAT32_BYTES * voxels)

    def _short(self, expected: int, got: int, qualifier: str = "") -> DataError:
        fault = f"its header states {expected} bytes, it holds {qualifier}{got}"
        return refusal(self.path, fault, TRANSFER_AGAIN)


@contextmanager
def open_content(path: Path, *, offset: int = 0, gzipped: bool | None = None) -> Iterator[Content]:
    """Opens a file as a stream of its decompressed bytes.

    Args:
        path: of the file.
        offset: bytes of the file to leave out at the front.
        gzipped: whether what follows is a gzip stream. None: as its first bytes show, which is
            sound where a known header comes first, but not for voxels, which may be any bytes.

    Raises:
        DataError: the file cannot be read, or (within the block) its compressed stream is damaged.
    """
    size = require_file(path)
    try:
        with path.open("rb") as file:
            file.seek(offset)
            front = file.read(32)
            file.seek(offset)
            for pointer, remedy in _POINTERS.items():
                if front.startswith(pointer):
                    raise refusal(path, "holds no image", remedy)
            if front.startswith(_GZIP_MAGIC) if gzipped is None else gzipped:
                stream = igzip.IGzipFile(fileobj=file, mode="rb")
                yield Content(path, stream, size - offset, compressed=True)
            else:
                yield Content(path, file, size - offset, compressed=False)
    except EOFError as error:
        fault = "its compressed stream is cut off or followed by foreign bytes"
        raise refusal(path, fault, TRANSFER_AGAIN) from error
    except (BadGzipFile, IsalError) as error:  # pyright: ignore - the stub names an instance
        raise refusal(
            path, f"its compressed stream is damaged ({error})", TRANSFER_AGAIN
        ) from error
    except OSError as error:
        raise unreachable(path, error) from error


def suffix_note(path: Path, suffixes: tuple[str, ...], content: str) -> tuple[str, ...]:
    """A note if the name of a file does not end as its content would have it."""
    if path.name.lower().endswith(suffixes):
        return ()
    return (f"holds {content} although its name does not end in {' or '.join(suffixes)}",)


def refusal(path: Path, fault: str, remedy: str) -> DataError:
    """The error, on one line, of a file that must not be used: path, fault, remedy."""
    return DataError(f"{path}: {fault}; {remedy}".replace("\n", "\\n"))


def require_file(path: Path) -> int:
    """Proves that `path` is a file with something in it.

    Returns:
        Its size in bytes.

    Raises:
        DataError: it is missing, a folder, a device, a symbolic link loop, or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise unreachable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        raise refusal(path, "is a folder", "name a file in it")
    if not stat.S_ISREG(status.st_mode):
        raise refusal(path, "is not a regular file", "save the volume to a file")
    if status.st_size == 0:
        raise refusal(path, "is empty (0 bytes)", TRANSFER_AGAIN)
    return status.st_size


def unreachable(path: Path, error: OSError) -> DataError:
    """The refusal of a file that the system does not open, with its reason."""
    faults = {
        errno.ENOENT: ("does not exist", "check the spelling"),
        errno.ELOOP: ("is a symbolic link loop", "remove the link"),
        errno.EACCES: ("may not be read", "ask for permission to read it"),
        errno.ENAMETOOLONG: ("has too long a name", "shorten it"),
    }
    reason = error.strerror or str(error)
    fault, remedy = faults.get(
        error.errno or 0, (f"cannot be read ({reason})", "check the disk and the path")
    )
    return refusal(path, fault, remedy)


def _unreadable(path: Path, library: str, error: Exception) -> DataError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return refusal(path, f"{library} cannot read it ({reason})", TRANSFER_AGAIN)


def require_memory(path: Path, needed: int) -> None:
    """Refuses a volume for which `needed` bytes are not free.

    Raises:
        DataError: with both numbers.
    """
    free = available_memory_bytes()
    if needed > free:
        raise refusal(
            path,
            f"needs {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are free",
            "crop it, or use a machine with more memory",
        )
