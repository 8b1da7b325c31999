"""The layers of a network by their weights, and by the features they meet."""

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.metrics.checkerboard.weights.gradients import gradient_measures
from medseg.metrics.checkerboard.weights.layers import upsampling_measures
from medseg.metrics.checkerboard.weights.moments import input_moments
from medseg.metrics.checkerboard.weights.stacks import dilated_stacks
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
        LayerArtifacts(
            layer=row.layer,
            operator=row.operator,
            stride=list(row.stride or ()),
            overlap=row.overlap,
            dc_gain=row.dc_gain,
            dc_gain_mean=row.dc_gain_mean,
            dc_gain_data=row.dc_gain_data,
            noise_gain=row.noise_gain,
            imaging=row.imaging,
            sum_rule_order=row.sum_rule_order,
            unmeasured=row.unmeasured or "",
        )
        for row in upsampling_measures(network, moments)
    ]


def gradient_artifacts(network: nn.Module) -> list[GradientArtifacts]:
    """Every strided layer, by what it prints on the gradient before it."""
    return [
        GradientArtifacts(
            layer=row.layer,
            operator=row.operator,
            stride=list(row.stride),
            overlap=row.overlap,
            imbalance=row.imbalance,
            note=row.note or "",
        )
        for row in gradient_measures(network)
    ]


def dilated_artifacts(network: nn.Module) -> list[DilatedArtifacts]:
    """Every row of dilated convolutions, by what it sees of its reach."""
    return [
        DilatedArtifacts(
            layers=list(row.layers),
            dilations=[list(rates) for rates in row.dilations],
            common_factor=list(row.common_factor),
            largest_gap=list(row.largest_gap),
            coverage=row.coverage,
            imbalance=row.imbalance,
        )
        for row in dilated_stacks(network)
    ]
