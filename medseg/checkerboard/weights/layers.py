"""All measures of all upsamplings of a network."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from medseg.checkerboard.torus import Transposed
from medseg.checkerboard.weights.gains import phase_gains
from medseg.checkerboard.weights.imaging import imaging_leakage
from medseg.checkerboard.weights.imbalance import (
    dc_gain_imbalance,
    worst_dc_gain_imbalance,
)
from medseg.checkerboard.weights.kernels import upsampling_kernel, upsampling_stride
from medseg.checkerboard.weights.moments import InputMoments
from medseg.checkerboard.weights.overlap import overlap_imbalance
from medseg.checkerboard.weights.polyphase import kernel_gains, noise_gain_imbalance
from medseg.checkerboard.weights.sum_rules import sum_rule_order
from medseg.checkerboard.weights.walk import refining_layers, spatial_dims_of


@dataclass(frozen=True, kw_only=True)
class UpsamplingMeasures:
    """What one upsampling layer prints, read off its weights; None where it has no such number.

    Args:
        layer: Its name in the network.
        operator: What it is.
        stride: Factor per axis.
        overlap: `overlap_imbalance` of a transposed convolution, whatever it has learned.
        dc_gain: `dc_gain_imbalance` for features of equal strength.
        dc_gain_mean: The same for the mean features of real images: `M = μ μᵀ`.
        dc_gain_data: The same for their second moments: `M = E[x xᵀ]`.
        dc_gain_worst: `worst_dc_gain_imbalance`.
        noise_gain: `noise_gain_imbalance`.
        imaging: `imaging_leakage`.
        sum_rule_order: `sum_rule_order`.
        unmeasured: Why a number that does not depend on images is missing, and what to do.

    >>> UpsamplingMeasures(layer="up", operator="Upsample()").dc_gain is None
    True
    """

    layer: str
    operator: str
    stride: tuple[int, ...] | None = None
    overlap: float | None = None
    dc_gain: float | None = None
    dc_gain_mean: float | None = None
    dc_gain_data: float | None = None
    dc_gain_worst: float | None = None
    noise_gain: float | None = None
    imaging: float | None = None
    sum_rule_order: int | None = None
    unmeasured: str | None = None


def upsampling_measures(
    network: nn.Module,
    moments: Mapping[str, InputMoments] | None = None,
    *,
    gains_only: bool = False,
) -> list[UpsamplingMeasures]:
    """Every weight-level measure of every upsampling layer of a network, in its own order.

    Layers that keep the grid are left out. Those that data steers, that are not linear, that
    repeat with no stride, or whose weights are not finite, are listed with the reason.

    Args:
        network: Any module; those of MONAI and nnU-Net too.
        moments: What `input_moments` found on real images.
        gains_only: Leave out the worst case and what needs every tap: milliseconds for any width.

    Raises:
        ValueError: moments of other channels than the layer's.

    >>> layer = nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> (found,) = upsampling_measures(layer)
    >>> found.overlap, found.dc_gain, found.noise_gain, found.sum_rule_order
    (0.19, 0.19, 0.19, 0)
    """
    dims, known = spatial_dims_of(network), moments or {}
    layers = refining_layers(network)
    found = (_measures(n, m, dims, known.get(n), gains_only) for n, m in layers)
    return [each for each in found if each.stride is None or max(each.stride) > 1]


def _measures(
    name: str, layer: nn.Module, dims: int | None, moments: InputMoments | None, gains_only: bool
) -> UpsamplingMeasures:
    found, gains = UpsamplingMeasures(layer=name, operator=str(layer)), None
    try:
        stride = upsampling_stride(layer, dims)
        found = replace(found, stride=stride)
        found = replace(found, overlap=_overlap(layer))
        # an interpolation has gains even where it has no kernel
        kernel = None if isinstance(layer, nn.Upsample) else upsampling_kernel(layer)
        gains = phase_gains(layer, dims) if kernel is None else kernel_gains(kernel, stride)
        found = replace(found, dc_gain=dc_gain_imbalance(gains))
        if gains_only:
            return _weighed(found, layer, gains, moments)
        found = replace(found, dc_gain_worst=worst_dc_gain_imbalance(gains))
        kernel = upsampling_kernel(layer, dims) if kernel is None else kernel
        found = replace(
            found,
            noise_gain=noise_gain_imbalance(kernel, stride),
            imaging=imaging_leakage(kernel, stride),
            sum_rule_order=sum_rule_order(kernel, stride),
        )
    except (TypeError, ValueError) as error:
        found = replace(found, unmeasured=str(error))
    return found if gains is None else _weighed(found, layer, gains, moments)


def _overlap(layer: nn.Module) -> float | None:
    if not isinstance(layer, Transposed):
        return None
    return overlap_imbalance(layer.kernel_size, layer.stride, layer.dilation)


def _weighed(
    found: UpsamplingMeasures, layer: nn.Module, gains: Tensor, moments: InputMoments | None
) -> UpsamplingMeasures:
    if moments is None:
        return found
    if isinstance(layer, nn.Upsample):  # all channels alike, whatever they weigh
        return replace(found, dc_gain_mean=found.dc_gain, dc_gain_data=found.dc_gain)
    mean = torch.outer(moments.mean, moments.mean)
    return replace(
        found,
        dc_gain_mean=dc_gain_imbalance(gains, mean),
        dc_gain_data=dc_gain_imbalance(gains, moments.second),
    )
