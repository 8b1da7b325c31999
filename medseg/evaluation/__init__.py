"""Label maps against the truth, whoever made them."""

from medseg.evaluation.output import write_evaluation
from medseg.evaluation.scores import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate", "write_evaluation"]
