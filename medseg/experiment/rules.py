"""Kinds of rules that the values of a configuration keep; nothing here imports torch."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from medseg.arguments import is_number
from medseg.hardware import DEVICES


@dataclass(frozen=True)
class Rule:
    """What a value must be.

    Args:
        must: In words that follow "must be".
        holds: Whether a value is.
        words: The values that there are, if they can be listed.
        is_literal: Whether it is a text that means what is typed, a path or a pattern.
    """

    must: str
    holds: Callable[[Any], bool]
    words: tuple[str, ...] = ()
    is_literal: bool = False


def whole(least: int, most: int | None = None) -> Rule:
    """A whole number of a range."""
    span = f"of at least {least}" if most is None else f"from {least} to {most}"
    return Rule(
        f"a whole number {span}",
        lambda value: type(value) is int and least <= value <= (math.inf if most is None else most),
    )


def number(text: str, holds: Callable[[float], bool]) -> Rule:
    """A finite number for which a condition holds."""
    return Rule(
        text,
        lambda value: is_number(value) and holds(value),
    )


def one_of(*values: Any) -> Rule:
    """One of some words or numbers."""
    words = tuple(str(value) for value in values)
    return Rule(
        f"one of {', '.join(words)}",
        lambda value: any(value == own and type(value) is type(own) for own in values),
        words,
    )


def either(one: Rule, other: Rule) -> Rule:
    """What one of two rules asks for."""
    return Rule(
        f"{one.must.removeprefix('one of ')} or {other.must}",
        lambda value: one.holds(value) or other.holds(value),
        one.words,
    )


def distinct(rule: Rule) -> Rule:
    """A list that another rule asks for, without repetitions."""
    return replace(
        rule, must=f"{rule.must}, once", holds=lambda v: rule.holds(v) and len(set(v)) == len(v)
    )


def or_null(rule: Rule) -> Rule:
    """What another rule asks for, or null."""
    return replace(rule, must=f"{rule.must}, or null", holds=lambda v: v is None or rule.holds(v))


def each(rule: Rule, count: int | None = None) -> Rule:
    """A list whose entries all keep a rule."""
    what = "a list" if count is None else f"a list of {count}"
    return Rule(
        f"{what}, each {rule.must}",
        lambda value: (
            isinstance(value, list | tuple)
            and (len(value) > 0 if count is None else len(value) == count)
            and all(map(rule.holds, value))
        ),
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _is_pattern(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value).groups > 0
    except re.error:
        return False


def _is_sha256(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _maps_labels(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        (_is_text(old) or (type(old) is int and old >= 0)) and (new == "ignore" or type(new) is int)
        for old, new in value.items()
    )


def _are_labels(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(own) is int for own in value)


def _names_regions(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        _is_text(name) and (type(own) is int or _are_labels(own)) for name, own in value.items()
    )


def _names_files(value: Any) -> bool:
    return isinstance(value, Mapping) and {*value} == {"image", "label"}


FLAG = Rule("true or false", lambda value: isinstance(value, bool))
TEXT = Rule("a text that is not empty", _is_text, is_literal=True)
PATTERN = Rule(r"a regular expression with a group, as (p\d+)_", _is_pattern, is_literal=True)
SECTION = Rule("a section of names and values", lambda value: isinstance(value, Mapping))
POSITIVE = number("a number above 0", lambda value: value > 0)
SEED = whole(0, 2**31 - 1)
BETWEEN = number("a number between 0 and 1", lambda value: 0 < value < 1)
SHARE = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
MILLIMETRES = number("a length from 0.001 to 1000 mm", lambda value: 0.001 <= value <= 1000)
DEVICE = Rule(
    f"one of {DEVICES}",
    lambda value: (
        isinstance(value, str) and bool(re.fullmatch("auto|cpu|gpu|cuda(:[0-9]+)?", value))
    ),
    ("auto", "cpu", "cuda"),
)
SHA256 = Rule("64 hexadecimal digits", _is_sha256)
REGIONS = Rule("regions and their label values", _names_regions)
LABELS = Rule("label values, one of each region", _are_labels)
LABEL_MAP = Rule("label values → label values or ignore", _maps_labels)
FILES = Rule("patterns of files by image and label", _names_files)
