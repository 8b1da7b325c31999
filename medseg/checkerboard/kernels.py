"""Kernel, stride and DC gains of an upsampling, whatever it is made of."""

import copy
from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from monai.networks.blocks.upsample import SubpixelUpsample
from torch import Tensor, nn
from torch.nn import functional

from medseg.checkerboard.imbalance import dc_gain_imbalance, kernel_gains
from medseg.checkerboard.phases import phase_means, require_energy, require_finite
from medseg.checkerboard.torus import Transposed, has_stride
from medseg.conversion.kernels import dense_taps, impulse_response
from medseg.layers.resampling import BoxBlur, DepthToSpace, Upsampling

Composite = Upsampling | SubpixelUpsample
AnyUpsampling = Transposed | nn.Upsample | Composite
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_ROUNDING = 1e-9
_VOXELS_AT_ONCE = 1 << 12  # so few that a sum in single precision is good to five digits


class InputMoments:
    """First and second moments of a layer's input, over all voxels it was called with.

    >>> moments = InputMoments()
    >>> moments.add(torch.tensor([[[1.0, 3.0]]]))
    >>> moments.mean.tolist(), moments.second.tolist()
    ([2.0], [[5.0]])
    """

    def __init__(self) -> None:
        self.voxels = 0
        self._first: Tensor | float = 0.0
        self._second: Tensor | float = 0.0

    @property
    def mean(self) -> Float[Tensor, " channels"]:
        """`μ = E[x]`, in the units of the features."""
        return torch.as_tensor(self._first) / self.voxels

    @property
    def second(self) -> Float[Tensor, "channels channels"]:
        """`E[x xᵀ]`, with which `dc_gain_imbalance` weighs channels."""
        return torch.as_tensor(self._second) / self.voxels

    def add(self, x: Float[Tensor, "batch channels *space"]) -> None:
        """Counts the voxels of some inputs."""
        for image in x.detach().float().flatten(2):
            for block in image.split(_VOXELS_AT_ONCE, dim=1):
                self.voxels += block.shape[1]
                self._first = self._first + block.sum(dim=1).cpu().double()
                self._second = self._second + (block @ block.T).cpu().double()


class UpsamplingLayer:
    """An upsampling that is linear and repeats with its stride, as its measures see it.

    `y[n] = Σ_m h[n − s·m] x[m] + b`, in double precision, without gradient. Interpolation works
    channel by channel: its taps and gains have one input and one output.

    Args:
        layer: A transposed convolution, an `nn.Upsample`, an `Upsampling` or MONAI's
            `SubpixelUpsample`.
        dims: Axes, for an `nn.Upsample` that does not know them.
        name: Path in the network.
        moments: Features before it on real images, if they were measured.

    Each property raises a TypeError for any other layer, and a ValueError for layers that are not
    linear or do not repeat with a stride, and for weights that are 0 or not finite.

    >>> layer = nn.ConvTranspose1d(1, 1, kernel_size=2, stride=3, dilation=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> UpsamplingLayer(layer).kernel.tolist(), UpsamplingLayer(layer).gains.flatten().tolist()
    ([[[1.0, 0.0, 1.0]]], [1.0, 0.0, 1.0])
    >>> UpsamplingLayer(nn.Upsample(scale_factor=2, mode="trilinear")).stride
    (2, 2, 2)
    """

    def __init__(
        self,
        layer: nn.Module,
        dims: int | None = None,
        name: str = "",
        moments: InputMoments | None = None,
    ):
        self.layer = layer
        self.operator = str(layer)
        self.dims = dims
        self.name = name
        self.moments = moments

    @property
    def stride(self) -> tuple[int, ...]:
        """Factor per axis by which the layer refines its grid."""
        layer = self.layer
        if isinstance(layer, Transposed):
            return tuple(layer.stride)
        if isinstance(layer, Upsampling):
            return layer.scale
        if isinstance(layer, SubpixelUpsample):
            return (layer.scale_factor,) * layer.dimensions
        if isinstance(layer, nn.Upsample):
            return _scale(layer, self.dims)
        raise TypeError(
            f"{type(layer).__name__} is no upsampling that is linear and stride-periodic; "
            "hold its layers together in an Upsampling"
        )

    @cached_property
    def kernel(self) -> Float[Tensor, "inputs outputs *taps"]:
        """Taps `h`, the first on phase 0, up to the padding of the layer, which relabels phases.

        Of a transposed convolution its weights; of others the response to impulses.
        """
        layer, stride = self.layer, self.stride
        if isinstance(layer, Transposed):
            return kernel_of_weight(layer.weight, layer.groups, layer.dilation)
        if isinstance(layer, nn.Upsample):
            return _interpolation_kernel(layer, stride)
        assert isinstance(layer, Composite)
        kernel = probed_kernel(_held_together(layer, stride))
        require_energy(kernel, "taps")
        return kernel

    @cached_property
    def gains(self) -> Float[Tensor, "phases inputs outputs"]:
        """DC gain of each phase; of an interpolation defined even where taps do not repeat."""
        if isinstance(self.layer, nn.Upsample):
            # one axis stands for all, which are equal
            stride = _scale(self.layer, self.dims or 1)
            return phase_means(self.layer(torch.ones(1, 1, *[4] * len(stride)).double()), stride)
        return kernel_gains(self.kernel, self.stride)

    @property
    def window(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
        """Kernel, stride and dilation of a transposed convolution."""
        if not isinstance(self.layer, Transposed):
            return None
        return self.layer.kernel_size, self.layer.stride, self.layer.dilation

    def imbalance_on_data(self, *, mean_only: bool) -> float | None:
        """DC-gain imbalance for the features of real images, or for their mean alone."""
        if self.moments is None:
            return None
        if isinstance(self.layer, nn.Upsample):  # all channels alike, whatever their weights
            return dc_gain_imbalance(self.gains)
        mean = self.moments.mean
        return dc_gain_imbalance(
            self.gains, torch.outer(mean, mean) if mean_only else self.moments.second
        )


def _scale(layer: nn.Upsample, dims: int | None) -> tuple[int, ...]:
    if not has_stride(layer):
        raise ValueError(
            f"{layer} has no whole scale_factor, so that its pattern repeats with no stride; "
            "give whole numbers as scale_factor"
        )
    scale, axes = layer.scale_factor, _AXES.get(layer.mode, dims)
    if isinstance(scale, tuple):
        return tuple(map(int, scale))
    if axes is None:
        raise ValueError(
            f"{layer} has one scale for all axes and does not say how many there are; give dims"
        )
    return (int(scale or 1),) * axes


def kernel_of_weight(weight: Tensor, groups: int, dilation: Sequence[int]) -> Tensor:
    """`(inputs, outputs / groups, *kernel)` → `(inputs, outputs, *taps)`, in double precision.

    Raises:
        ValueError: a weight that is not finite, or only zeros.

    >>> kernel_of_weight(torch.tensor([[[1.0]], [[2.0]]]), groups=2, dilation=(1,)).tolist()
    [[[1.0], [0.0]], [[0.0], [2.0]]]
    """
    weight = weight.detach().cpu().double()
    require_finite(weight, "weights")
    require_energy(weight, "taps")
    return dense_taps(weight, groups, dilation)


def _held_together(layer: Composite, scale: tuple[int, ...]) -> Upsampling:
    """The layer as an `Upsampling`.

    Raises:
        ValueError: a `SubpixelUpsample` whose inner block is no convolution.
    """
    if isinstance(layer, Upsampling):
        return layer
    conv = layer.conv_block
    if not isinstance(conv, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        raise ValueError(
            f"a SubpixelUpsample with the conv_block {type(conv).__name__} has no known "
            "kernel, since only a convolution with stride 1 is sure to be linear; hold it together "
            "with what follows it in an Upsampling"
        )
    blurs = [] if isinstance(layer.pad_pool, nn.Identity) else [BoxBlur(scale)]
    return Upsampling(nn.Sequential(conv, DepthToSpace(scale), *blurs), conv.in_channels, scale)


@torch.no_grad()
def probed_kernel(layer: Upsampling) -> Tensor:
    """`(inputs, outputs, *taps)`: the response to impulses, without the bias.

    Raises:
        ValueError: layers that are not linear or see everything, or weights that are not finite.

    >>> probed_kernel(Upsampling(nn.Upsample(scale_factor=2), 1, (2,))).tolist()
    [[[1.0, 1.0]]]
    """
    probe = copy.deepcopy(layer).double().cpu().eval()
    generator = torch.Generator().manual_seed(0)
    grid = [3] * len(layer.scale)
    noise = torch.randn(1, layer.in_channels, *grid, generator=generator, dtype=torch.float64)
    bias = probe(torch.zeros_like(noise))
    # a factor of −2 tells rectifiers and odd saturations alike
    once, twice = probe(noise) - bias, probe(-2 * noise) - bias
    require_finite(once, "responses")
    if (twice + 2 * once).abs().max() > _ROUNDING * once.abs().max():
        raise ValueError(
            f"{type(layer.layers).__name__} in an Upsampling does not map −2·x to −2 times "
            "the response to x, so it is not linear and has no kernel; measure its linear part"
        )
    return _from_a_cell(probe, layer.in_channels, layer.scale)


@torch.no_grad()
def _interpolation_kernel(layer: nn.Upsample, stride: Sequence[int]) -> Tensor:
    """`(1, 1, *taps)`."""
    if layer.align_corners:
        raise ValueError(
            f"{layer} aligns the corners (align_corners=True), so that its taps do "
            "not repeat with the stride; measure it with align_corners=False"
        )
    return _from_a_cell(layer, 1, stride)


def _from_a_cell(layer: nn.Module, channels: int, stride: Sequence[int]) -> Tensor:
    """Taps from the first voxel of a cell on, which keeps the order of phases."""
    taps, first = impulse_response(layer, channels, stride)
    before = [start % step for start, step in zip(first, stride, strict=True)]
    return functional.pad(taps, [side for count in reversed(before) for side in (count, 0)])
