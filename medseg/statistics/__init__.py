"""Arms of an ablation compared on the same cases, with the spread of cases and of trainings."""

from medseg.statistics.compare import Comparison, compare
from medseg.statistics.contrast import Contrast, contrast
from medseg.statistics.corrections import bca, holm, wilcoxon
from medseg.statistics.detectable import Detectable, Needed, needed_for, smallest_detectable
from medseg.statistics.effects import Effect, LevelEffect, effects
from medseg.statistics.observations import Observations
from medseg.statistics.ranking import probability_of_best
from medseg.statistics.runs import RunVariance
from medseg.statistics.variance import VarianceSplit, variance_split
from medseg.statistics.verdict import RULE, Verdict

__all__ = [
    "RULE",
    "Comparison",
    "Contrast",
    "Detectable",
    "Effect",
    "LevelEffect",
    "Needed",
    "Observations",
    "RunVariance",
    "VarianceSplit",
    "Verdict",
    "bca",
    "compare",
    "contrast",
    "effects",
    "holm",
    "needed_for",
    "probability_of_best",
    "smallest_detectable",
    "variance_split",
    "wilcoxon",
]
