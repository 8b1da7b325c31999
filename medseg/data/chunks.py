"""Arrays on disk in compressed chunks, of which a region is read without the rest.

A file is its chunks in C order, each a Blosc buffer, and then a table of their ends and checksums.
Whatever is read is checked against its checksum first, so that a file is not read through to know
that it is whole. zarr takes several times longer for a patch; arrays of Blosc2 are as fast, and
have no checksums. A chunk is read rather than mapped: what has become unreadable is then an error,
and does not kill the process.
"""

import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
from isal import isal_zlib

from medseg.files import atomic_path

_TABLE = np.dtype([("end", "<u8"), ("checksum", "<u4")])


class DamagedError(ValueError):
    """A file does not hold what was written to it."""


@dataclass(frozen=True)
class ChunkedArray:
    """An array in a file.

    Args:
        path: The file.
        shape: Of the array.
        dtype: Of the array.
        chunk: Shape of a chunk; smaller at the ends of the array.
        checksum: CRC-32 of the table.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: str
    chunk: tuple[int, ...]
    checksum: int

    @classmethod
    def of(cls, path: Path, description: Mapping[str, Any]) -> "ChunkedArray":
        """The array of a file that `plain` described."""
        shape, chunk = (tuple(description[key]) for key in ("shape", "chunk"))
        return cls(path, shape, description["dtype"], chunk, description["checksum"])

    @classmethod
    def write(cls, path: Path, array: np.ndarray, chunk: Sequence[int]) -> "ChunkedArray":
        """Writes an array, wholly or not at all.

        Raises:
            ResourceError: the folder cannot be written or the disk is full.
        """
        new = cls(path, array.shape, array.dtype.str, tuple(chunk), 0)
        table = np.zeros(math.prod(new._counts), _TABLE)
        end = 0
        with atomic_path(path) as part, part.open("wb") as stream:
            for row, place in zip(table, itertools.product(*map(range, new._counts)), strict=True):
                packed = imagecodecs.blosc_encode(
                    array[new._of_chunk(place)].tobytes(),
                    level=5,
                    compressor="lz4",
                    shuffle="shuffle" if array.itemsize > 1 else "bitshuffle",
                    typesize=array.itemsize,
                    numthreads=1,
                )
                stream.write(packed)
                end += len(packed)
                row["end"], row["checksum"] = end, isal_zlib.crc32(packed)
            stream.write(table.tobytes())
        return cls(path, new.shape, new.dtype, new.chunk, isal_zlib.crc32(table.tobytes()))

    def read(self, region: Sequence[slice] | None = None) -> np.ndarray:
        """Reads a region: slices with a start and a stop inside the array; None: all of it.

        Raises:
            DamagedError: a chunk of the region, or the table, is not what was written.
            OSError: the file cannot be read.
        """
        region = tuple(region or (slice(0, n) for n in self.shape))
        found = np.empty([along.stop - along.start for along in region], self.dtype)
        for place, content in self._chunks(region):
            own = self._of_chunk(place)
            both = [
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(own, region, strict=True)
            ]
            found[_within(both, region)] = content[_within(both, own)]
        return found

    def check(self, *, thorough: bool) -> None:
        """Checks the file's length and table, and every chunk if that is asked for.

        Raises:
            DamagedError: it is not what was written.
            OSError: the file cannot be read.
        """
        with self.path.open("rb") as stream:
            self._table(stream)
        if thorough:
            for _ in self._chunks([slice(0, n) for n in self.shape]):
                pass

    def plain(self) -> dict[str, Any]:
        """All but the path, as JSON can hold it."""
        return {k: v for k, v in asdict(self).items() if k != "path"}

    def _chunks(self, region: Sequence[slice]) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """Places of the chunks that a region touches, and their content, valid until the next."""
        *others, last = (
            range(along.start // n, -(-along.stop // n)) if along.stop > along.start else range(0)
            for along, n in zip(region, self.chunk, strict=True)
        )
        buffer = bytearray(math.prod(self.chunk) * np.dtype(self.dtype).itemsize)
        content = np.frombuffer(buffer, self.dtype)
        with self.path.open("rb") as stream:
            table = self._table(stream)
            for place in itertools.product(*others):
                if not last:
                    return
                # chunks beside each other along the last axis are read at once
                first = int(np.ravel_multi_index((*place, last.start), self._counts))
                start = int(table["end"][first - 1]) if first else 0
                ends = table["end"][first : first + len(last)].tolist()
                stream.seek(start)
                row = stream.read(ends[-1] - start)
                begin = 0
                for number, (index, end) in enumerate(zip(last, ends, strict=True), first):
                    packed, begin = row[begin : end - start], end - start
                    if isal_zlib.crc32(packed) != table["checksum"][number]:
                        raise DamagedError(f"{self.path.name}: a chunk has another checksum")
                    own = self._of_chunk((*place, index))
                    shape = [along.stop - along.start for along in own]
                    size = math.prod(shape)
                    own_bytes = memoryview(buffer)[: size * content.itemsize]
                    imagecodecs.blosc_decode(packed, numthreads=1, out=own_bytes)
                    yield (*place, index), content[:size].reshape(shape)

    def _table(self, stream: BinaryIO) -> np.ndarray:
        length = math.prod(self._counts) * _TABLE.itemsize
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - length))
        content = stream.read()
        if isal_zlib.crc32(content) != self.checksum:
            raise DamagedError(f"{self.path.name}: its table has another checksum")
        table = np.frombuffer(content, _TABLE)
        if size - length != (table["end"][-1] if len(table) else 0):
            raise DamagedError(f"{self.path.name}: has another length")
        return table

    @property
    def _counts(self) -> tuple[int, ...]:
        """Chunks along each axis."""
        return tuple(-(-n // along) for n, along in zip(self.shape, self.chunk, strict=True))

    def _of_chunk(self, place: Sequence[int]) -> tuple[slice, ...]:
        return tuple(
            slice(i * along, min((i + 1) * along, n))
            for i, along, n in zip(place, self.chunk, self.shape, strict=True)
        )


def _within(inner: Sequence[slice], outer: Sequence[slice]) -> tuple[slice, ...]:
    """A region by its distance from the start of another."""
    pairs = zip(inner, outer, strict=True)
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in pairs)
