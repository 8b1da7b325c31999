"""The metrics of a case, described once: a function of `medseg.metrics` and a line here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """How a metric is read.

    Args:
        title: Its name in tables.
        unit: Of its values; empty for a share in [0, 1].
        digits: After the decimal point.
        lower_is_better: Whether it is a distance or an error.
    """

    title: str
    unit: str = ""
    digits: int = 3
    lower_is_better: bool = False


METRICS = {
    "dice": Metric("Dice"),
    "surface_dice": Metric("Surface Dice"),
    "hd95_mm": Metric("HD95", unit="mm", digits=2, lower_is_better=True),
}
"""Name in `record.json` → metric, in the order of tables; the first decides by default."""
