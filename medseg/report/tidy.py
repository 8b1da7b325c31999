"""Values and comparisons as CSV that a spreadsheet can open without harm."""

from collections.abc import Sequence

import pandas as pd
from pandas.api.types import is_numeric_dtype

from medseg.report.collect import Collection
from medseg.report.measures import long_form
from medseg.report.studies import Study
from medseg.report.verdicts import comparisons_frame

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def render_values(collection: Collection) -> str:
    """All runs and missing cells: one row per run × case × class × metric."""
    return _csv(long_form(collection.arms, collection.missing))


def render_comparisons(studies: Sequence[Study]) -> str:
    """All comparisons: one row per dataset × metric × arm but the reference."""
    return _csv(comparisons_frame(studies))


def _csv(frame: pd.DataFrame) -> str:
    """Text that a spreadsheet would run as a formula gets an apostrophe in front."""
    frame = frame.rename(columns=_harmless)
    for name, column in frame.items():
        if not is_numeric_dtype(column):
            texts = (value for value in column.unique() if isinstance(value, str))
            frame[name] = column.replace({t: _harmless(t) for t in texts if _harmless(t) != t})
    return frame.to_csv(index=False, lineterminator="\n")


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
