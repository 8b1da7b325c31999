"""Whether the largest component of a class alone agrees better with the truth, over cases."""

import numpy as np

from medseg.inference.postprocess import Postprocessing
from medseg.labelling import Labelling


class LargestComponents:
    """Dice of every class as predicted, and of its largest component alone.

    Args:
        labelling: Classes, or regions, of which each is taken by itself.
    """

    def __init__(self, labelling: Labelling):
        self.labelling = labelling
        self.classes = list(labelling.names)
        self._regions = [
            LargestComponents(Labelling((name,))) for name in labelling.names if labelling.overlap
        ]
        self._keep = Postprocessing(keep_largest=range(1, len(self.classes) + 1))
        self._dice: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        """Takes label maps of a case; where the true one is beyond the classes, it is ignored."""
        ignored = truth >= self.labelling.ignored
        for index, each in enumerate(self._regions):
            found, true = (
                self.labelling.mask(array, index).astype(np.uint8) for array in (labels, truth)
            )
            each.add(found, np.where(ignored, each.labelling.ignored, true))
        if self._regions:
            return
        counted = ~ignored
        before, after = (
            self._scores(found[counted], truth[counted])
            for found in (labels, self._keep(labels, 1.0, self.labelling))
        )
        self._dice.append((before, after))

    def found(self) -> dict[str, dict[str, float]]:
        """Class → mean `dice`, mean Dice of what is `kept`, and the number of `cases`.

        A class that no case has, in truth or prediction, is left out.
        """
        means = {name: mean for each in self._regions for name, mean in each.found().items()}
        for index, name in enumerate(self.classes):
            pairs = [(before[index], after[index]) for before, after in self._dice]
            defined = [pair for pair in pairs if not np.isnan(pair).any()]
            if defined:
                dice, kept = map(float, np.mean(defined, axis=0))
                means[name] = {"dice": dice, "kept": kept, "cases": len(defined)}
        return means

    def _scores(self, found: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """Dice of each class, NaN where neither map has it."""
        both, one, other = (
            np.bincount(values, minlength=len(self.classes) + 1)[1:].astype(float)
            for values in (found[found == truth], found, truth)
        )
        sizes = one + other
        return np.divide(2 * both, sizes, out=np.full(len(sizes), np.nan), where=sizes > 0)
