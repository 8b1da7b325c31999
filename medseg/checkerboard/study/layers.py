"""The layers of a network by their weights, and by the features they meet."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from medseg.checkerboard.weights.gradients import GradientMeasures, gradient_measures
from medseg.checkerboard.weights.layers import UpsamplingMeasures, upsampling_measures
from medseg.checkerboard.weights.moments import input_moments
from medseg.checkerboard.weights.stacks import DilatedStack, dilated_stacks
from medseg.record import DilatedArtifacts, GradientArtifacts, LayerArtifacts


def layer_artifacts(network: nn.Module, images: Sequence[Tensor]) -> list[LayerArtifacts]:
    """Every measure of every upsampling layer.

    Args:
        network: The network.
        images: Windows of real cases `(N, channels, *window)`, whose features weigh the gains;
            none leaves these measures out.
    """
    moments = input_moments(network, images) if images else None
    return [
        LayerArtifacts(**_plain(row, unmeasured=row.unmeasured or ""))
        for row in upsampling_measures(network, moments)
    ]


def gradient_artifacts(network: nn.Module) -> list[GradientArtifacts]:
    """Every strided layer, by what it prints on the gradient before it."""
    rows = gradient_measures(network)
    return [GradientArtifacts(**_plain(row, note=row.note or "")) for row in rows]


def dilated_artifacts(network: nn.Module) -> list[DilatedArtifacts]:
    """Every row of dilated convolutions, by what it sees of its reach."""
    return [DilatedArtifacts(**_plain(row)) for row in dilated_stacks(network)]


def _plain(
    row: UpsamplingMeasures | GradientMeasures | DilatedStack, **changes: str
) -> dict[str, Any]:
    """Its fields as JSON has them, sequences as lists, and those that are given otherwise."""
    fields: dict[str, Any] = json.loads(json.dumps(asdict(row)))
    if "stride" in fields:
        fields["stride"] = fields["stride"] or []
    fields.update(changes)
    return fields
