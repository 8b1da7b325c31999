"""Files from the network: room and waiting bounded, faults told, nothing half under its name."""

import shutil
import socket
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

from medseg.errors import ResourceError

STALLED_SECONDS = 60.0


def fetch(url: str, target: Path, *, staging: Path) -> Path:
    """Downloads a file into `staging`; the caller checks it and moves it to `target`.

    Returns:
        The file in `staging`.

    Raises:
        ResourceError: no connection, no space or no permission.
    """
    from monai.apps.utils import download_url

    part = staging / target.name
    try:
        with _staged_in(staging), warnings.catch_warnings():
            # MONAI checks a checksum without showing what it got; callers check it instead
            warnings.filterwarnings("ignore", message="No hash value provided")
            download_url(url, part, progress=sys.stderr.isatty())
    except (OSError, HTTPException, RuntimeError, ValueError) as error:
        raise ResourceError(
            f"{url} could not be downloaded ({error}); check the connection and the free space and "
            f"start again, or put the archive at {target} by other means"
        ) from error
    return part


def content_length(url: str) -> int:
    """Size that the server announces, bytes; 0 if it does not."""
    try:
        with urlopen(Request(url, method="HEAD"), timeout=STALLED_SECONDS) as answer:
            return int(answer.headers.get("Content-Length", 0))
    except (OSError, HTTPException, ValueError):
        return 0  # the download itself reports what is wrong


def require_space(folder: Path, needed: int) -> None:
    """Refuses a download that does not fit.

    Raises:
        ResourceError: with both numbers.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ResourceError(
            f"{folder.parent} has {free / 2**20:.0f} MiB free and {needed / 2**20:.0f} MiB are "
            "needed; free some space or set data.root to a larger disk"
        )


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """MONAI stages in the system's temporary folder, often too small, and waits for ever."""
    place, timeout = tempfile.tempdir, socket.getdefaulttimeout()
    tempfile.tempdir = str(folder)
    socket.setdefaulttimeout(STALLED_SECONDS)
    try:
        yield
    finally:
        tempfile.tempdir = place
        socket.setdefaulttimeout(timeout)
