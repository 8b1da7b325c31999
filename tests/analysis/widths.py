"""Networks of other widths."""

from typing import Any

from medseg.analysis.widths import Scale, levels_of, with_levels


def scaled(description: dict[str, Any], factor: float) -> dict[str, Any]:
    """The network with all widths times a factor, rounded."""
    return dict(with_levels(description, Scale(levels=levels_of(description)).at(factor)))
