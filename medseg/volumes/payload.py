"""The voxel bytes behind a textual header: counted, and decompressed to their verified end."""

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from isal import isal_zlib

from medseg.errors import DataError
from medseg.volumes.container import Content, open_content
from medseg.volumes.faults import FLOAT32_BYTES, TRANSFER_AGAIN, refusal, require_memory

_CHUNK_BYTES = 1 << 16  # inflates to at most 64 MiB


@dataclass(frozen=True)
class Payload:
    """What a header says about its voxels.

    Each `verify` method proves that exactly the promised bytes follow, in a sound stream, and
    returns their CRC-32; otherwise, or if the memory is too small for them, it raises DataError.

    Attributes:
        path: the file that holds them.
        start: bytes of that file before them.
        values: their number, channels included.
        value_bytes: the size of each.
    """

    path: Path
    start: int
    values: int
    value_bytes: int

    @property
    def promised(self) -> int:
        """Bytes that must be there once decompressed."""
        return self.values * self.value_bytes

    def verify_raw(self) -> int:
        """Voxels as they are in memory."""
        with open_content(self.path, offset=self.start, gzipped=False) as content:
            return self._checksum(_blocks(content))

    def verify_gzip(self) -> int:
        """Voxels in a gzip stream."""
        with open_content(self.path, offset=self.start, gzipped=True) as content:
            return self._checksum(_blocks(content))

    def verify_zlib(self, declared_bytes: int | None) -> int:
        """Voxels in a zlib stream, whose size the header may state."""
        with open_content(self.path, offset=self.start, gzipped=False) as content:
            if declared_bytes not in (None, content.size):
                fault = f"its header promises {declared_bytes} compressed bytes"
                raise self._refusal(f"{fault}, it holds {content.size}")
            inflater = isal_zlib.decompressobj()
            checksum = self._checksum(map(inflater.decompress, _blocks(content)))
        if not inflater.eof:
            raise self._refusal("its compressed stream is cut off")
        return checksum

    def _checksum(self, blocks: Iterable[bytes]) -> int:
        got, checksum = 0, 0
        for block in blocks:
            got += len(block)
            checksum = zlib.crc32(block, checksum)
        if got != self.promised:
            fault = f"its header promises {self.promised} bytes of voxels, it holds {got}"
            raise self._refusal(fault)
        simpleitk_and_own = 2 * self.promised
        require_memory(self.path, simpleitk_and_own + FLOAT32_BYTES * self.values)
        return checksum

    def _refusal(self, fault: str) -> DataError:
        return refusal(self.path, fault, TRANSFER_AGAIN)


def _blocks(content: Content) -> Iterable[bytes]:
    return iter(lambda: content.read(_CHUNK_BYTES), b"")
