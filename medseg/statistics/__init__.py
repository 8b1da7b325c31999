"""Arms of an ablation compared on the same cases, with the spread of cases and of trainings."""

from medseg.statistics.compare import (
    RULE,
    Comparison,
    Verdict,
    compare,
    holm,
    outlying,
    probability_of_best,
    wilcoxon,
)
from medseg.statistics.contrast import Contrast, bca, contrast
from medseg.statistics.effects import Effect, LevelEffect, effects
from medseg.statistics.observations import Observations
from medseg.statistics.power import Detectable, Needed, needed_for, smallest_detectable

__all__ = [
    "RULE",
    "Comparison",
    "Contrast",
    "Detectable",
    "Effect",
    "LevelEffect",
    "Needed",
    "Observations",
    "Verdict",
    "bca",
    "compare",
    "contrast",
    "effects",
    "holm",
    "needed_for",
    "outlying",
    "probability_of_best",
    "smallest_detectable",
    "wilcoxon",
]
