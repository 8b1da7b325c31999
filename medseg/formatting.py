"""Every number as text: the same value reads the same on the page, in a terminal and in a log.

Each function takes None and NaN and answers `MISSING` for them.
"""

import math
import re
from collections.abc import Iterable, Sequence
from typing import IO

MISSING = "–"
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LINE_ENDS = re.compile("[\t\n]")
TO = "\N{NO-BREAK SPACE}…\N{NO-BREAK SPACE}"  # an interval stays on one line


def is_missing(value: float | None) -> bool:
    """Whether there is no number: None or NaN."""
    return value is None or math.isnan(value)


def fixed(value: float | None, digits: int = 3) -> str:
    """Formats a number with that many decimals.

    >>> fixed(0.9123), fixed(12.345, 1), fixed(None)
    ('0.912', '12.3', '–')
    """
    return MISSING if value is None or math.isnan(value) else f"{value:.{digits}f}"


def significant(value: float | None, digits: int = 2) -> str:
    """Formats a quantity that spans decades with that many significant digits.

    >>> significant(0.0834), significant(3.14e-7), significant(1234.0), significant(2.5, 3)
    ('0.083', '3.1e-7', '1234', '2.5')
    """
    if value is None or math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == 0 or abs(value) >= 1e-3:
        return f"{value:.{digits}g}" if abs(value) < 10**digits else f"{value:.0f}"
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def signed(value: float | None, digits: int = 3) -> str:
    """Formats a difference with its sign.

    >>> signed(0.0123), signed(-0.0031), signed(0.0)
    ('+0.012', '−0.003', '0.000')
    """
    text = fixed(value, digits)
    if value is None or text == MISSING:
        return text
    if text.lstrip("-").strip("0.") == "":
        return text.lstrip("-")
    return text.replace("-", "−") if value < 0 else f"+{text}"


def spread(mean: float | None, deviation: float | None, digits: int = 3) -> str:
    """Formats mean ± standard deviation; a single value has no deviation.

    >>> spread(0.9123, 0.0312), spread(0.9123, None)
    ('0.912 ± 0.031', '0.912')
    """
    if is_missing(mean) or is_missing(deviation):
        return fixed(mean, digits)
    return f"{fixed(mean, digits)} ± {fixed(deviation, digits)}"


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """Formats an interval of a difference on one line: `−0.003 … +0.012`.

    Returns:
        Empty text where an end is unknown.
    """
    if is_missing(low) or is_missing(high):
        return ""
    return f"{signed(low, digits)}{TO}{signed(high, digits)}"


def p_value(value: float | None) -> str:
    """Formats a probability, never as stars.

    >>> p_value(0.34), p_value(0.0211), p_value(0.0004)
    ('0.34', '0.021', '< 0.001')
    """
    if value is None or math.isnan(value):
        return MISSING
    return "< 0.001" if value < 0.001 else fixed(value, 3 if value < 0.1 else 2)


def percent(share: float | None) -> str:
    """Formats a share in [0, 1]; rounding never turns a part into none or all.

    >>> percent(0.12), percent(0.001), percent(0.999), percent(1.0)
    ('12 %', '< 1 %', '> 99 %', '100 %')
    """
    if share is None or math.isnan(share):
        return MISSING
    if 0 < share < 0.005:
        return "< 1 %"
    return "> 99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def amount(value: float | None) -> str:
    """Formats a count with an SI prefix.

    >>> amount(999), amount(1_234_567), amount(4.5e9)
    ('999', '1.23 M', '4.50 G')
    """
    return _scaled(value, 1000, ("", "k", "M", "G", "T", "P"))


def memory(value: float | None) -> str:
    """Formats bytes with a binary prefix.

    >>> memory(512), memory(3 * 2**20), memory(1.5 * 2**30)
    ('512 B', '3.00 MiB', '1.50 GiB')
    """
    return _scaled(value, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def duration(seconds: float | None) -> str:
    """Formats seconds for reading.

    >>> duration(0.012), duration(3.4), duration(320), duration(7500)
    ('12 ms', '3.4 s', '5 min 20 s', '2 h 05 min')
    """
    if seconds is None or math.isnan(seconds):
        return MISSING
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def sizes(values: Iterable[float], unit: str = "") -> str:
    """Formats one number per axis.

    >>> sizes([64, 64, 32]), sizes([0.8, 1.0], "mm")
    ('64 × 64 × 32', '0.8 × 1 mm')
    """
    return " ".join(filter(None, [" × ".join(f"{value:.4g}" for value in values), unit]))


def counted(count: int, noun: str) -> str:
    """Formats a count with its noun.

    >>> counted(1, "case"), counted(3, "case")
    ('1 case', '3 cases')
    """
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def joined(parts: Sequence[str]) -> str:
    """Joins parts as a sentence does.

    >>> joined(["one", "two", "three"])
    'one, two and three'
    """
    *most, last = parts or ("",)
    return f"{', '.join(most)} and {last}" if most else last


def first_of(names: Sequence[str], most: int = 5) -> str:
    """The first names, and how many more there are.

    >>> first_of(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numeric: Sequence[bool] = ()
) -> str:
    """Formats rows of text as a table in Markdown, one line a row; numeric columns stand right.

    >>> print(markdown_table(("layer", "MACs"), [("conv", "12")]), end="")
    | layer | MACs |
    | --- | --- |
    | conv | 12 |
    """
    marks = ["---:" if right else "---" for right in numeric or [False] * len(head)]
    lines = [head, marks, *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def printable(text: str) -> str:
    r"""Escapes what a terminal, an editor or a page would obey instead of showing it.

    These are control characters but tab and line end, marks of the direction of writing, and lone
    surrogates, which JSON and file names may hold but UTF-8 may not.

    >>> printable("a\x1b[2Jb\u202ec\nd")
    'a\\x1b[2Jb\\u202ec\nd'
    """
    return _OBEYED.sub(_escaped, text)


def one_line(text: str) -> str:
    r"""Escapes what is not printable, line ends and tabs too.

    >>> one_line("scan\nerror: none")
    'scan\\nerror: none'
    """
    return _LINE_ENDS.sub(_escaped, printable(text))


def encodable(text: str, stream: IO[str]) -> str:
    """Replaces what a terminal's encoding does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _scaled(value: float | None, base: int, units: tuple[str, ...]) -> str:
    if value is None or math.isnan(value):
        return MISSING
    power = 0
    while abs(value) >= base * 0.9995 and power < len(units) - 1:
        value, power = value / base, power + 1
    digits = 0 if power == 0 or abs(value) >= 99.95 else 1 if abs(value) >= 9.995 else 2
    return f"{value:.{digits}f} {units[power]}".strip()
