"""The layers of a network by their weights, and by the features they meet."""

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.checkerboard.weights.gradients import gradient_measures
from medseg.checkerboard.weights.layers import upsampling_measures
from medseg.checkerboard.weights.moments import input_moments
from medseg.checkerboard.weights.stacks import dilated_stacks
from medseg.record import LayerRow
from medseg.record.checkerboard import dilations_text


def layer_artifacts(network: nn.Module, images: Sequence[Tensor]) -> list[LayerRow]:
    """Every measure of every upsampling layer.

    Args:
        network: The network.
        images: Windows of real cases `(N, channels, *window)`, whose features weigh the gains;
            none leaves these measures out.
    """
    moments = input_moments(network, images) if images else None
    names = ["overlap", "dc_gain", "dc_gain_mean", "dc_gain_data", "dc_gain_worst", "noise_gain"]
    names += ["imaging", "sum_rule_order"]
    return [
        LayerRow(
            layer=row.layer,
            operator=row.operator,
            stride=list(row.stride or ()),
            values={name: getattr(row, name) for name in names},
            note=row.unmeasured or "",
        )
        for row in upsampling_measures(network, moments)
    ]


def gradient_artifacts(network: nn.Module) -> list[LayerRow]:
    """Every strided layer, by what it prints on the gradient before it."""
    return [
        LayerRow(
            layer=row.layer,
            operator=row.operator,
            stride=list(row.stride),
            values={"overlap": row.overlap, "gradient_imbalance": row.imbalance},
            note=row.note or "",
        )
        for row in gradient_measures(network)
    ]


def dilated_artifacts(network: nn.Module) -> list[LayerRow]:
    """Every row of dilated convolutions, by what it sees of its reach."""
    return [
        LayerRow(
            layer=", ".join(row.layers),
            operator=dilations_text(row.dilations),
            stride=list(row.period),
            values={
                "common_factor": max(row.common_factor),
                "largest_gap": max(row.largest_gap),
                "coverage": row.coverage,
                "gridding_imbalance": row.imbalance,
            },
        )
        for row in dilated_stacks(network)
    ]
