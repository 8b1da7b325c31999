"""What a service bounds: bytes that come in, bytes they unpack to, places and time."""

import shutil
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from isal import igzip
from isal.igzip_lib import IsalError
from starlette.exceptions import HTTPException

from medseg.errors import DataError
from medseg.formatting import memory

_FORM_BYTES = 1 << 16  # what a form adds to its file
_CHUNK_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"
_RETRY_SECONDS = 10

Receive = Callable[[], Awaitable[Any]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one service takes on.

    Args:
        upload: Bytes of a file as it is sent.
        unpacked: Bytes that it may unpack to, and bytes of its voxels.
        seconds: From the first byte of a request to its answer.
        workers: Volumes that are segmented at once.
        waiting: Requests that wait beside them; further ones are answered 503.
    """

    upload: int
    unpacked: int
    seconds: float
    workers: int
    waiting: int


def refuse_declared(length: str | None, limits: Limits) -> None:
    """Answers 413 to a length that is declared and too large, before the body is read."""
    if length is not None and length.isdigit() and int(length) > limits.upload + _FORM_BYTES:
        raise _too_large(limits)


def bounded(receive: Receive, limits: Limits) -> Receive:
    """Counts the bytes of a body as they come, and answers 413 to the first one too many."""
    come = 0

    async def counted() -> Any:
        nonlocal come
        message = await receive()
        come += len(message.get("body", b""))
        if come > limits.upload + _FORM_BYTES:
            raise _too_large(limits)
        return message

    return counted


def _too_large(limits: Limits) -> HTTPException:
    return HTTPException(
        413,
        f"larger than {memory(limits.upload)}, the limit of this service; crop the volume, or "
        "start it with a larger --max-upload",
        headers={"Connection": "close"},
    )


def unpack(upload: IO[bytes], target: Path, limits: Limits, going: Callable[[], None]) -> None:
    """Writes an upload to a file, unpacked if it is a gzip stream.

    Args:
        upload: Open at any place.
        target: The file.
        limits: Of the service.
        going: Called now and then; raises to stop.

    Raises:
        DataError: its stream is damaged, or unpacks to more than the limit.
    """
    upload.seek(0)
    packed = upload.read(2) == _GZIP_MAGIC
    upload.seek(0)
    with target.open("wb") as file:
        if not packed:
            shutil.copyfileobj(upload, file, _CHUNK_BYTES)
            return
        try:
            stream = igzip.IGzipFile(fileobj=upload, mode="rb")
            while block := stream.read(_CHUNK_BYTES):
                going()
                file.write(block)
                if file.tell() > limits.unpacked:
                    raise DataError(
                        f"unpacks to more than {memory(limits.unpacked)}, the limit of this "
                        "service; crop the volume, or start it with a larger --max-unpacked"
                    )
        except (OSError, EOFError, IsalError) as error:  # pyright: ignore - wrong in the stub
            raise DataError(f"its compressed stream is damaged ({error}); send it again") from error


class Places:
    """Requests that are taken on at once; none waits outside.

    Attributes:
        free: How many more are taken.
    """

    def __init__(self, limits: Limits):
        self.free = limits.workers + limits.waiting

    def take(self) -> None:
        """Takes a place.

        Raises:
            HTTPException: 503, all are taken.
        """
        if self.free == 0:
            raise HTTPException(
                503,
                "busy with other volumes; send it again later",
                headers={"Retry-After": str(_RETRY_SECONDS)},
            )
        self.free -= 1

    def give_back(self) -> None:
        """Frees a place."""
        self.free += 1
