"""What the interpreter does beside computing: an audit hook that notes what no data may cause."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ALWAYS = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile",
    "urllib.", "http.client.", "ftplib.", "smtplib.", "webbrowser.", "pickle.find_class",
)  # fmt: skip
_CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.chmod",
    "os.chown", "os.truncate", "os.utime", "os.setxattr", "shutil.",
)  # fmt: skip
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Watch:
    """Notes events while `folders` are set: code from `foreign`, and changes outside `folders`."""

    def __init__(self) -> None:
        self.foreign = ""
        self.folders: tuple[str, ...] = ()
        self.events: list[str] = []

    def hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self.folders:
            return
        folders, self.folders = self.folders, ()  # what is done here is not watched
        try:
            if self._is_forbidden(event, args, folders):
                self.events.append(f"{event} {args!r:.300}")
        finally:
            self.folders = folders

    def _is_forbidden(self, event: str, args: tuple[Any, ...], folders: tuple[str, ...]) -> bool:
        if event.startswith(_ALWAYS) and event != "socket.gethostname":
            return True
        if event == "exec":
            return args[0].co_filename.startswith(self.foreign)
        if event in ("compile", "import", "ctypes.dlopen"):
            return any(
                str(a).startswith(self.foreign) for a in args[:2] if isinstance(a, str | Path)
            )
        if event == "open":
            path, mode, flags = args
            writes = (flags or 0) & _WRITES or set(mode or "") & set("wax+")
            return bool(writes) and self._is_outside(path, folders)
        if event.startswith(_CHANGES):
            paths = [arg for arg in args if isinstance(arg, str | bytes | os.PathLike)]
            return any(self._is_outside(path, folders) for path in paths)
        return False

    @staticmethod
    def _is_outside(path: Any, folders: tuple[str, ...]) -> bool:
        if isinstance(path, int):
            return False
        real = os.path.realpath(os.fsdecode(path))
        return not real.startswith((os.devnull, "/proc/", *folders))


_watch = Watch()
sys.addaudithook(_watch.hook)  # it cannot be taken away again


@contextmanager
def audited(foreign: Path, *outputs: Path) -> Iterator[list[str]]:
    """Yields the events that data from `foreign` must not cause, as they come.

    Args:
        foreign: Where nothing may be executed from.
        outputs: Where the block may write, beside the interpreter's own caches.
    """
    own = [*outputs, Path(sys.prefix), *map(Path, sys.path[1:]), Path(__file__).parents[1]]
    _watch.foreign = str(foreign.resolve())
    _watch.events = []
    _watch.folders = tuple(str(path.resolve()) for path in own if str(path) not in ("", "."))
    try:
        yield _watch.events
    finally:
        _watch.folders = ()
