"""The upsampling layers of a network by their weights, and by the features they meet."""

from collections.abc import Sequence

from torch import Tensor, nn

from medseg.metrics.checkerboard.weights.layers import upsampling_measures
from medseg.metrics.checkerboard.weights.moments import input_moments
from medseg.record import LayerArtifacts


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
            stride=list(row.stride),
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
