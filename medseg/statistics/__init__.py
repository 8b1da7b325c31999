"""Arms of an ablation compared on the same cases, with the spread of cases and of trainings."""

from medseg.statistics.compare import (
    RULE,
    Comparison,
    Verdict,
    compare,
    holm,
    outlying,
    wilcoxon,
)
from medseg.statistics.contrast import Contrast, bca, contrast
from medseg.statistics.effects import Effect, LevelEffect, effects
from medseg.statistics.observations import Observations
from medseg.statistics.power import Sizes, needed_for, smallest_detectable

__all__ = [
    "RULE",
    "Comparison",
    "Contrast",
    "Effect",
    "LevelEffect",
    "Observations",
    "Sizes",
    "Verdict",
    "bca",
    "compare",
    "contrast",
    "effects",
    "holm",
    "needed_for",
    "outlying",
    "smallest_detectable",
    "wilcoxon",
]
