"""Whether the largest component of a class alone agrees better with the truth, over cases."""

from collections.abc import Sequence

import numpy as np

from medseg.inference.postprocess import Postprocessing


class LargestComponents:
    """Dice of every class as predicted, and of its largest component alone.

    Args:
        classes: Names of the foreground classes, by label value from 1.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = list(classes)
        self._keep = Postprocessing(keep_largest=range(1, len(classes) + 1))
        self._dice: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, labels: np.ndarray, truth: np.ndarray) -> None:
        """Takes label maps of a case; where the true one is beyond the classes, it is ignored."""
        counted = truth <= len(self.classes)
        before, after = (
            self._scores(found[counted], truth[counted])
            for found in (labels, self._keep(labels, 1.0))
        )
        self._dice.append((before, after))

    def found(self) -> dict[str, dict[str, float]]:
        """Class → mean `dice`, mean Dice of what is `kept`, and the number of `cases`.

        A class that no case has, in truth or prediction, is left out.
        """
        means = {}
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
