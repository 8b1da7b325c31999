"""What a lecture holds: topics with worked operators, pictures and facts that are checked."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from medseg.explain.operator import Operator, make_operator
from medseg.report.page import Figure

Value = Any
"""A number, a word, or a tuple of values."""

_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Fact:
    """A number or formula that a lecture prints, beside what the code makes of it.

    Args:
        lecture: Number of the lecture.
        place: The slide or heading.
        printed: The words of the notes, as short as they can be quoted.
        stated: What these words say, as a value.
        computed: The same from the closed forms, torch or scipy.
        how: What was computed.
        within: Largest difference that the printed rounding allows.
        settings: Where a formula was tried: one value of `stated` and `computed` each.
        erratum: Why the printed value is wrong; empty where it is right.
    """

    lecture: int
    place: str
    printed: str
    stated: Value
    computed: Value
    how: str
    within: float = 0
    settings: tuple[str, ...] = ()
    erratum: str = ""

    @property
    def agrees(self) -> bool:
        """Whether the printed value is the computed one, within its rounding."""
        return _equal(self.stated, self.computed, self.within)

    @property
    def shown(self) -> str:
        """The computed value; of a formula the first that was tried."""
        if not self.settings:
            return worded(self.computed)
        others = len(self.settings) - 1
        tried = f" (and at {others} other settings)" if others else ""
        return f"{worded(self.computed[0])} at {self.settings[0]}{tried}"


@dataclass(frozen=True, kw_only=True)
class Topic:
    """A part of a lecture, in its order.

    Args:
        title: Its heading.
        text: Paragraphs.
        works: Operators that are worked through, each with the names of its figures.
        pictures: Other figures.
        facts: What the notes print there.
    """

    title: str
    text: Sequence[str]
    works: Sequence[tuple[Operator, tuple[str, ...]]] = ()
    pictures: Sequence[Figure] = ()
    facts: Sequence[Fact] = ()


@dataclass(frozen=True, kw_only=True)
class Lecture:
    """A lecture; title and author as the notes give them."""

    number: int
    title: str
    author: str
    topics: Sequence[Topic]

    @property
    def facts(self) -> list[Fact]:
        """The facts of all topics."""
        return [fact for topic in self.topics for fact in topic.facts]

    @property
    def errata(self) -> list[Fact]:
        """The facts that the notes print wrongly."""
        return [fact for fact in self.facts if fact.erratum]


def law(
    settings: Sequence[Mapping[str, Value]],
    says: Callable[..., Value],
    computes: Callable[..., Value],
    *,
    capitals: bool = True,
    **words: Any,
) -> Fact:
    """A formula as a fact: what it says and what is computed, at every setting.

    Args:
        settings: Values of its letters.
        says: The formula as it is printed.
        computes: The same by other means.
        capitals: Whether the notes print the letters as capitals.
        words: Other fields of the fact.
    """
    return Fact(
        stated=tuple(says(**setting) for setting in settings),
        computed=tuple(computes(**setting) for setting in settings),
        settings=tuple(_named(setting, capitals=capitals) for setting in settings),
        **words,
    )


def rounded(*, stated: int, computed: int, **words: Any) -> Fact:
    """A count printed in thousands or millions, rounded or cut off."""
    return Fact(stated=stated, computed=computed, within=_unit(stated), **words)


def is_cut_off(stated: int, computed: int) -> bool:
    """Whether a printed count is the unit below where rounding gives the one above."""
    return computed - stated >= _unit(stated) / 2


def _unit(stated: int) -> int:
    return 1_000_000 if stated >= 1_000_000 else 1_000


def work(kind: str, *figures: str, **options: Any) -> tuple[Operator, tuple[str, ...]]:
    """An operator of a kind worked through, with these figures of `course.figures`."""
    return make_operator(kind, **options), figures


def worded(value: Value) -> str:
    """A value in words: 1,000; 1/9; 2 × 6; rows of a grid between brackets."""
    if isinstance(value, tuple) and value and isinstance(value[0], tuple):
        return " ".join(f"[{' '.join(worded(entry) for entry in row)}]" for row in value)
    if isinstance(value, tuple):
        sizes = all(type(entry) is int for entry in value)
        return (" × " if sizes else ", ").join(worded(entry) for entry in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "−")
    if isinstance(value, float):
        return f"{value:.4g}".replace("-", "−")
    return str(value)


def rows_of(values: Any) -> tuple:
    """A tensor or array as nested tuples of whole numbers."""
    return tuple(rows_of(v) if getattr(v, "ndim", 0) else int(v) for v in values)


def _equal(stated: Value, computed: Value, within: float) -> bool:
    if isinstance(stated, tuple):
        return (
            isinstance(computed, tuple)
            and len(stated) == len(computed)
            and all(_equal(s, c, within) for s, c in zip(stated, computed, strict=True))
        )
    if isinstance(stated, float) or isinstance(computed, float):
        return math.isclose(stated, computed, rel_tol=10**-_DIGITS, abs_tol=max(within, 1e-12))
    if within and isinstance(stated, int | Fraction):
        return abs(stated - computed) < within
    return bool(stated == computed)


def _named(setting: Mapping[str, Value], *, capitals: bool) -> str:
    letters = [name.upper() if capitals else name for name in setting]
    pairs = zip(letters, setting.values(), strict=True)
    return ", ".join(f"{letter} = {worded(value)}" for letter, value in pairs)
