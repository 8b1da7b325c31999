"""What quicker ways of prediction change, as measured on validation cases and kept in the card."""

from collections.abc import Iterable
from dataclasses import dataclass

PLAIN_OVERLAP = 0.5
_CHANGED = 1e-3  # of all voxels
_DICE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A way of prediction beside fp32 and an overlap of 0.5.

    Args:
        precision: `fp32` or `bf16`.
        overlap: Of neighbouring windows.
        cases: Held-out cases that were segmented both ways.
        changed: Share of their voxels whose label is another.
        dice: Mean over classes and cases.
        plain_dice: The same in fp32 at an overlap of 0.5.
    """

    precision: str
    overlap: float
    cases: int
    changed: float
    dice: float
    plain_dice: float

    @property
    def is_equal(self) -> bool:
        """Whether at most one label in 1000 is another, and Dice at most 0.001 lower."""
        return self.changed <= _CHANGED and self.dice >= self.plain_dice - _DICE


def proves(evidence: Iterable[Evidence], precision: str, overlap: float) -> bool:
    """Whether a way of prediction was found equal to fp32 at an overlap of 0.5."""
    if (precision, overlap) == ("fp32", PLAIN_OVERLAP):
        return True
    return any(
        (each.precision, each.overlap) == (precision, overlap) and each.is_equal
        for each in evidence
    )
