"""Plain data as strict JSON: how records and plans of ablations are written and read.

In a file a number that is not finite is null; why a metric has no value stands in the metric's
rule (`medseg.metrics`). Whatever is read is checked here and nowhere else.
"""

import dataclasses
import json
import math
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from medseg.errors import DataError
from medseg.files import write_text
from medseg.formatting import printable

T = TypeVar("T")
_WHOLE = 2.0**63  # from here on arrays hold no whole number


def write_plain(record: Any, target: Path) -> Path:
    """Writes a dataclass but its `path`, wholly or not at all."""
    content = dataclasses.asdict(record)
    del content["path"]
    write_text(target, json.dumps(finite(content), indent=1) + "\n")
    return target


def read_plain(kind: type[T], path: Path, remedy: str) -> T:
    """Reads what `write_plain` wrote, of any schema up to today's; every field has its type.

    Args:
        kind: A dataclass with the fields `schema` and `path`.
        path: The file.
        remedy: What to do with one that cannot be read.

    Raises:
        DataError: not JSON, not of that kind, or of a schema that this version does not know.
    """
    newest = vars(kind)["schema"]
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); {remedy}") from error
    found = content.get("schema") if isinstance(content, dict) else type(content).__name__
    if found not in range(1, newest + 1):
        raise DataError(
            f"{path}: schema={found!r}, this version reads schemas 1 to {newest}; read it with the "
            f"version that wrote it, or {remedy}"
        )
    try:
        return dataclasses.replace(from_plain(kind, content), path=Path(path))
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise DataError(f"{path}: not whole ({error}); {remedy}") from error


def finite(value: Any) -> Any:
    """Plain data fit for strict JSON: a number that is not finite becomes None."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {key: finite(item) for key, item in value.items()}
        case list() | tuple():
            return [finite(item) for item in value]
        case _:
            return value


def from_plain(kind: Any, value: Any, where: str = "") -> Any:
    """Converts plain data to what an annotation asks for, most often a dataclass.

    A field that is absent takes its default. A number that is not finite becomes None. A class
    with a method `upgraded(content) -> content` reads its own older forms.

    Args:
        kind: A dataclass, or any annotation of its fields.
        value: Plain data.
        where: Its name in messages.

    Raises:
        TypeError: unknown fields, a field without a value, or a value of another type.
    """
    if kind is Any or (kind is float and type(value) is float and math.isfinite(value)):
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        content, fields = getattr(kind, "upgraded", dict)(value), _fields(kind)
        if unknown := [name for name in content if name not in fields]:
            raise TypeError(f"{where} has no field {unknown[0]!r:.60}".lstrip())
        return kind(**{name: from_plain(fields[name], v, name) for name, v in content.items()})
    if kind is str and isinstance(value, str | int | float):
        return printable(str(value))
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and (whole := _number(value)) == whole // 1 and abs(whole) < _WHOLE:
        return int(value)
    if kind is float and (value is None or type(value) in (int, float)):
        return None if math.isnan(number := _number(value)) else number
    origin, args = _parts(kind)
    if origin is Literal and value in args:
        return value
    if origin is UnionType and value is None and NoneType in args:
        return None
    if origin is UnionType:
        kinds = [arg for arg in args if arg is not NoneType]
        return from_plain(type(value) if type(value) in kinds else kinds[0], value, where)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(from_plain(args[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        # A group that was switched off has no option: its choice is null.
        known = value if args[1] is not str else {k: v for k, v in value.items() if v is not None}
        return {printable(k): from_plain(args[1], v, f"{where}[{k!r}]") for k, v in known.items()}
    raise TypeError(f"{where}={value!r:.60} must be {getattr(kind, '__name__', kind)}".lstrip("="))


def _number(value: object) -> float:
    """A finite number; anything else is NaN."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value) if math.isfinite(value) else math.nan
    except OverflowError:
        return math.nan


@cache
def _parts(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    return get_origin(kind), get_args(kind)


@cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
