"""What a figure depends on besides the code: processor, versions, time."""

import platform
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path


def cpu_name() -> str:
    """The processor's name, as precisely as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def package_versions(packages: Iterable[str]) -> dict[str, str]:
    """Package → installed version, Python included."""
    return {"python": platform.python_version()} | {name: version(name) for name in packages}


def now() -> str:
    """The time in ISO form, with its zone."""
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
