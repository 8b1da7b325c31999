"""Two networks brought to equal cost."""

from typing import Any

from medseg.analysis.latency import match_latency
from medseg.analysis.quantity import LATENCY, Load, measure
from medseg.analysis.width import Match, solve_width
from medseg.models.description import Description


def match(
    reference: Description, other: Description, quantity: str, load: Load, **options: Any
) -> Match:
    """Scales the widths of `other` until it costs what `reference` does.

    Args:
        reference: The network that stays.
        other: The network whose widths change.
        quantity: One of `quantity.QUANTITIES`, or `latency`.
        load: What both are given.
        options: Of `solve_width`, or of `match_latency`.

    Raises:
        ConfigError: as those two.
        ResourceError: as `match_latency`.
    """
    if quantity == LATENCY:
        return match_latency(reference, other, load, **options)
    return solve_width(other, measure(quantity, reference, load), quantity, load, **options)
