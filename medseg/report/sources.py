"""From folders to checked records: what is found, and what is found but cannot be used."""

import dataclasses
import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from medseg.errors import DataError
from medseg.record import FILE_NAME, PLAN_FILE, RunRecord


@dataclass(frozen=True)
class Run:
    """A record and the file that it came from."""

    path: Path
    record: RunRecord

    @property
    def source(self) -> str:
        """The path as text that any encoding can print."""
        return printable(str(self.path))


@dataclass(frozen=True)
class Unreadable:
    """A file called `record.json` or `ablation.json` that is none, and why."""

    source: str
    reason: str


def find_records(sources: Iterable[Path]) -> list[Path]:
    """Every `record.json` below the given folders; a given file is taken as it is.

    Raises:
        DataError: a source does not exist, or there is no record at all.
    """
    sources = [Path(source) for source in sources]
    found: dict[str, Path] = {}
    for source in sources:
        if not source.exists():
            raise DataError(
                f"{printable(str(source))}: no such file or folder; "
                "give a folder with runs or a record.json"
            )
        for path in sorted(source.rglob(FILE_NAME)) if source.is_dir() else [source]:
            found.setdefault(os.path.realpath(path), path)
    if not found:
        places = ", ".join(printable(str(source)) for source in sources)
        if any(next(source.rglob(PLAN_FILE), None) for source in sources):
            raise DataError(
                f"{places}: an {PLAN_FILE} is there, but no {FILE_NAME}; "
                "start the ablation, and report once its first run has begun"
            )
        raise DataError(
            f"{places}: no {FILE_NAME} in there; give the folder that training wrote to"
        )
    return list(found.values())


def read_records(paths: Iterable[Path]) -> tuple[list[Run], list[Unreadable]]:
    """Reads and checks the records; a bad one never hides the others.

    Raises:
        DataError: not one of them can be used.
    """
    runs, unreadable = [], []
    for path in paths:
        source = printable(str(path))
        try:
            runs.append(Run(path, _converted(RunRecord.read(path), RunRecord)))
        except DataError as error:
            reason = printable(str(error)).removeprefix(f"{source}: ")
            unreadable.append(Unreadable(source, reason))
        except (TypeError, RecursionError) as error:
            unreadable.append(Unreadable(source, f"not a record ({error}); run it again"))
    if not runs:
        first = unreadable[0]
        raise DataError(
            f"{first.source}: {first.reason} "
            f"({len(unreadable)} found, not one can be read, so there is nothing to report)"
        )
    runs.sort(key=lambda run: (run.record.started, run.source))
    return runs, unreadable


def printable(text: str) -> str:
    """`text` without lone surrogates, which JSON and file names may hold but UTF-8 may not."""
    return text.encode("utf-8", "replace").decode()


def number(value: object) -> float:
    """A finite number as float; anything else as NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


def _converted(value: Any, kind: Any, where: str = "record") -> Any:
    """`value` as the contract's type; a number that is missing or not finite becomes None.

    `RunRecord.read` checks the names of the fields only. The types are checked here, from the
    contract's own annotations, so that nothing later has to doubt them.
    """
    if kind is Any or (kind is float and type(value) is float and math.isfinite(value)):
        return value
    if kind is str and isinstance(value, str | int | float):
        return printable(str(value))
    if kind is int and (finite := number(value)) == finite // 1:
        return int(value)
    if kind is float and (value is None or type(value) in (int, float)):
        return None if math.isnan(finite := number(value)) else finite
    origin, args = _parts(kind)
    if origin is Literal and value in args:
        return value
    if origin is UnionType and value is None and NoneType in args:
        return None
    if origin is UnionType:
        return _converted(value, next(arg for arg in args if arg is not NoneType), where)
    if origin is list and isinstance(value, list):
        return [_converted(item, args[0], where) for item in value]
    if origin is dict and isinstance(value, dict):
        # A group that was switched off has no option: its choice is null.
        known = value if args[1] is not str else {k: v for k, v in value.items() if v is not None}
        return {printable(k): _converted(v, args[1], f"{where}[{k!r}]") for k, v in known.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type) and isinstance(value, kind):
        return kind(**{f: _converted(getattr(value, f), k, f) for f, k in _fields(kind).items()})
    raise TypeError(f"{where}={value!r:.60} must be {getattr(kind, '__name__', kind)}")


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """What a generic type is made of."""
    return get_origin(kind), get_args(kind)


@cache
def _fields(kind: type) -> dict[str, Any]:
    """Field → type of a dataclass."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
