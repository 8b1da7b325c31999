"""Dataclasses to strict JSON and back; whatever is read is checked here and nowhere else."""

import dataclasses
import math
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from medseg.formatting import printable

Kind = TypeVar("Kind")


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


def from_plain(kind: type[Kind], content: Any) -> Kind:
    """Builds a dataclass from plain data, every field converted to its annotation.

    A field that is absent takes its default. A number that is not finite becomes None. A class
    with a method `upgraded(content) -> content` reads its own older forms.

    Raises:
        TypeError: unknown fields, a field without a value, or a value of another type.
    """
    return _converted(content, kind, kind.__name__)


def _converted(value: Any, kind: Any, where: str) -> Any:
    if kind is Any or (kind is float and type(value) is float and math.isfinite(value)):
        return value
    if kind is str and isinstance(value, str | int | float):
        return printable(str(value))
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and (whole := _number(value)) == whole // 1:
        return int(value)
    if kind is float and (value is None or type(value) in (int, float)):
        return None if math.isnan(number := _number(value)) else number
    if dataclasses.is_dataclass(kind) and isinstance(value, dict):
        return _built(kind, value)
    origin, args = _parts(kind)
    if origin is Literal and value in args:
        return value
    if origin is UnionType and value is None and NoneType in args:
        return None
    if origin is UnionType:
        return _converted(value, next(arg for arg in args if arg is not NoneType), where)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_converted(item, args[0], where) for item in value)
    if origin is dict and isinstance(value, dict):
        # A group that was switched off has no option: its choice is null.
        known = value if args[1] is not str else {k: v for k, v in value.items() if v is not None}
        return {printable(k): _converted(v, args[1], f"{where}[{k!r}]") for k, v in known.items()}
    raise TypeError(f"{where}={value!r:.60} must be {getattr(kind, '__name__', kind)}")


def _built(kind: Any, content: dict[str, Any]) -> Any:
    if hasattr(kind, "upgraded"):
        content = kind.upgraded(content)
    fields = _fields(kind)
    if unknown := [name for name in content if name not in fields]:
        raise TypeError(f"{kind.__name__} has no field {unknown[0]!r:.60}")
    return kind(**{name: _converted(value, fields[name], name) for name, value in content.items()})


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
def _fields(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
