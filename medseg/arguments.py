"""The arguments of a class against its signature, before it is called.

A configuration names classes and gives them plain values. What a class declares for an argument,
`int` or `Sequence[float] | None`, is what its value must be; ranges are the class's own matter.
"""

import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import Enum
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from medseg.errors import ConfigError
from medseg.suggestion import choices

_WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a word",
    type(None): "null",
}
_LISTS = (list, tuple, Sequence, Collection)


def construct(
    make: Callable[..., Any], options: Mapping[str, Any], *, key: str, hidden: Collection[str] = ()
) -> Any:
    """Calls a class with options from a configuration.

    Args:
        make: The class, or a partial of it: what is called.
        options: Name → value.
        key: Where they stand in the configuration, for messages.
        hidden: Options that a configuration must not use.

    Raises:
        ConfigError: an option that the class does not have, or a value that it does not take.
    """
    check_arguments(make, options, key=key, hidden=hidden)
    try:
        return make(**options)
    except ConfigError:
        raise
    except Exception as error:  # whatever a class of MONAI or torch answers to a wrong value
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ConfigError(f"{key}: {reason}") from error


def check_arguments(
    cls: Callable[..., Any], options: Mapping[str, Any], *, key: str, hidden: Collection[str] = ()
) -> None:
    """Checks names and kinds of the options of a class.

    Raises:
        ConfigError: an option that it does not have, or a value of another kind.
    """
    known = [name for name in inspect.signature(cls).parameters if name not in hidden]
    for name in options:
        if name not in known:
            raise ConfigError(f"{key} has no option {name!r}; {choices(str(name), known)}")
    hints = _hints(cls)
    for name, value in options.items():
        if name in hints and not _fits(value, hints[name]):
            raise ConfigError(f"{key}.{name}={value!r} must be {_text(hints[name])}")


def _hints(cls: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(cls.__init__ if isinstance(cls, type) else cls)
    except (NameError, TypeError):  # an annotation that its own module does not import
        return {}


def is_number(value: Any) -> bool:
    """Whether it is a finite number; torch takes no whole one beyond 64 bits."""
    return type(value) in (int, float) and abs(value) < 2**63


def _fits(value: Any, hint: Any) -> bool:
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return True
    if origin in (Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is Literal:
        return value in parts
    if origin in _LISTS or hint in _LISTS:
        return isinstance(value, list | tuple) and _entries_fit(value, parts)
    if hint is float:
        return is_number(value)
    if hint in _WORDS:
        return type(value) is hint
    if not isinstance(hint, type):
        return not isinstance(value, str | bool)
    if issubclass(hint, Enum):
        return value in [member.value for member in hint]
    if getattr(hint, "_is_runtime_protocol", False):
        return isinstance(value, hint)
    # a tensor, function or another part
    return value is not None and not isinstance(value, str | bool | Mapping)


def _entries_fit(value: Sequence[Any], parts: Sequence[Any]) -> bool:
    if not parts:
        return True
    fixed = [part for part in parts if part is not Ellipsis]
    if len(fixed) > 1 and len(fixed) != len(value):
        return False
    return all(_fits(entry, fixed[i if len(fixed) > 1 else 0]) for i, entry in enumerate(value))


def _text(hint: Any) -> str:
    origin, parts = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_text, parts)))
    if origin is Literal:
        return f"one of {', '.join(map(str, parts))}"
    if origin in _LISTS or hint in _LISTS:
        inner = [_text(part) for part in parts if part is not Ellipsis]
        return f"a list, each {inner[0]}" if inner else "a list"
    if hint in _WORDS:
        return _WORDS[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(str(member.value) for member in hint)}"
    return f"what stands for a {getattr(hint, '__name__', hint)}"
