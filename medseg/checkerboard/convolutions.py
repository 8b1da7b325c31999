"""Strided and dilated convolutions: patterns on the gradient of their input, sub-grids unseen."""

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    kernel_gains,
    overlap_imbalance,
    phase_imbalance,
)
from medseg.checkerboard.kernels import AnyUpsampling, kernel_of_weight
from medseg.checkerboard.phases import phase_sums, require_energy, require_finite
from medseg.layers.fast_conv import SharedSmoothing
from medseg.layers.resampling import CellMean, SpaceToDepth, depth_to_space
from medseg.record.checkerboard import dilations_text

_Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
_MaxPool = nn.MaxPool1d | nn.MaxPool2d | nn.MaxPool3d
_AveragePool = nn.AvgPool1d | nn.AvgPool2d | nn.AvgPool3d
_Unshuffle = SpaceToDepth | nn.PixelUnshuffle
_Coarsening = _Conv | _MaxPool | _AveragePool | CellMean | _Unshuffle
_AXES = {1: nn.MaxPool1d | nn.AvgPool1d, 2: nn.MaxPool2d | nn.AvgPool2d}
_OF_MAXIMA = (
    "expected where every voxel of a window is as likely the largest; of one image, a single "
    "voxel of each window has all of its gradient"
)


class StridedLayer:
    """A convolution or pooling with a stride, as measures of the gradient before it see it.

    Layers that move voxels into channels are measured together with the convolution that
    follows them, as the strided convolution that both are.

    Args:
        name: Path in the network.
        layer: The layer.
        follower: What follows it in the same `nn.Sequential`, None where nothing does.
    """

    def __init__(self, name: str, layer: _Coarsening, follower: nn.Module | None = None):
        self.name = name
        self.layer = layer
        self.operator = str(layer)
        self.follower = follower
        self.kernel_size, self.stride, self.dilation = _window(layer)

    @property
    def window(self) -> tuple[Sequence[int], Sequence[int], Sequence[int]] | None:
        """Kernel, stride and dilation; None of voxels that only move into channels."""
        if isinstance(self.layer, _Unshuffle):
            return None
        return self.kernel_size, self.stride, self.dilation

    @property
    def condition(self) -> str:
        """Under what condition the imbalance holds; empty if always."""
        return _OF_MAXIMA if isinstance(self.layer, _MaxPool) else ""

    @property
    def kernel(self) -> Float[Tensor, "outputs inputs *taps"]:
        """Taps of the gradient: it is a transposed convolution with the weights of the layer.

        Raises:
            TypeError: voxels that move into channels that no convolution follows.
            ValueError: weights that are not finite.
        """
        if isinstance(self.layer, _Conv):
            return kernel_of_weight(self.layer.weight, self.layer.groups, self.layer.dilation)
        conv = self.follower
        if not isinstance(conv, _Conv) or max(conv.stride) > 1 or conv.groups > 1:
            raise TypeError(
                f"{type(self.layer).__name__} only moves voxels into channels, and no convolution "
                "of all of them at stride 1 follows it in an nn.Sequential; measure what follows"
            )
        adjoint = kernel_of_weight(conv.weight, conv.groups, conv.dilation)
        return depth_to_space(adjoint, self.stride)

    def imbalance(self) -> float:
        """DC-gain imbalance of the gradient, for equal gradients behind the layer, in [0, 1].

        0 iff these reach all voxels before the layer alike. Independent of scale, bias, padding
        and rotations of the inputs. All-ones taps at stride 2: a kernel of 1 gives `1 − 2^{−d}`,
        of 2 gives 0, of 3 gives 0.1, 0.19 and 0.271 in 1-D, 2-D and 3-D. Of average pooling, whose
        taps are equal, the overlap of its windows; of max pooling the same in expectation.

        Raises:
            TypeError: voxels that move into channels that no convolution follows.
            ValueError: weights that are 0 or not finite.

        Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard
        Artifacts" (in gradients); Sugawara, Shiota & Kiya 2019, APSIPA Trans. SIP 8:e9.

        >>> layer = nn.Conv2d(1, 1, kernel_size=3, stride=2)
        >>> _ = nn.init.ones_(layer.weight)
        >>> next(strided_layers(layer)).imbalance()
        0.19
        """
        if isinstance(self.layer, _Conv | _Unshuffle):
            return dc_gain_imbalance(kernel_gains(self.kernel, self.stride))
        return overlap_imbalance(self.kernel_size, self.stride, self.dilation)


def strided_layers(network: nn.Module) -> Iterator[StridedLayer]:
    """Every convolution and pooling with a stride, in network order.

    >>> network = nn.Sequential(nn.Conv2d(1, 1, 3, stride=2), nn.Conv2d(1, 1, 3), nn.AvgPool2d(2))
    >>> [layer.name for layer in strided_layers(network)]
    ['0', '2']
    """
    followers = _followers(network)
    for name, module in _coarsening_layers(network):
        layer = StridedLayer(name, module, followers.get(module))
        if max(layer.stride) > 1:
            yield layer


def _coarsening_layers(network: nn.Module) -> Iterator[tuple[str, _Coarsening]]:
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, _Coarsening) and module not in inside:
            inside.update(module.modules())
            yield name, module


def _followers(network: nn.Module) -> dict[nn.Module, nn.Module]:
    """What comes next in the same `nn.Sequential`."""
    rows = [list(m.children()) for m in network.modules() if isinstance(m, nn.Sequential)]
    return {one: other for row in rows for one, other in pairwise(row)}


def _window(layer: _Coarsening) -> tuple[Sequence[int], tuple[int, ...], Sequence[int]]:
    """Kernel, stride and dilation."""
    if isinstance(layer, _Conv):
        return layer.kernel_size, tuple(layer.stride), layer.dilation
    if isinstance(layer, CellMean | SpaceToDepth):
        return layer.scale, layer.scale, (1,) * len(layer.scale)
    if isinstance(layer, nn.PixelUnshuffle):
        scale = (layer.downscale_factor,) * 2
        return scale, scale, (1, 1)
    axes = next((dims for dims, kinds in _AXES.items() if isinstance(layer, kinds)), 3)
    stride = layer.kernel_size if layer.stride is None else layer.stride
    dilation = layer.dilation if isinstance(layer, _MaxPool) else 1
    kernel, steps, rates = (_per_axis(size, axes) for size in (layer.kernel_size, stride, dilation))
    return kernel, steps, rates


def _per_axis(size: int | Sequence[int], axes: int) -> tuple[int, ...]:
    each = (size,) if isinstance(size, int) else tuple(size)
    return each * axes if len(each) == 1 else each


_Layer = _Conv | SharedSmoothing
_Row = list[tuple[str, _Layer]]


class DilatedRow:
    """A row of convolutions with stride 1, one after the other.

    The composed kernel is that of the mean magnitudes `E|w|` over channels: what an output sees
    if no signs cancel. Activations and shortcuts are not counted.

    Args:
        layers: Name and layer of each convolution with more than one tap, in order.
    """

    def __init__(self, layers: Sequence[tuple[str, _Layer]]):
        self.name = ", ".join(name for name, _ in layers)
        self.layers = [layer for _, layer in layers]
        self.taps = [tuple(layer.weight.shape[2:]) for layer in self.layers]
        self.dilations = [_dilation(layer) for layer in self.layers]
        self.operator = dilations_text(self.dilations)

    @property
    def rates(self) -> list[list[int]]:
        """Per axis, the dilations of the convolutions that have more than one tap along it."""
        axes = zip(zip(*self.taps, strict=True), zip(*self.dilations, strict=True), strict=True)
        return [[d for k, d in zip(*axis, strict=True) if k > 1] or [1] for axis in axes]

    @property
    def common_factor(self) -> tuple[int, ...]:
        """Greatest common divisor of the dilations, per axis."""
        return tuple(math.gcd(*axis) for axis in self.rates)

    @property
    def period(self) -> tuple[int, ...]:
        """Sub-grids that are compared: the common factor, or 2 where it is 1; 1 without taps."""
        longest = [max(axis) for axis in zip(*self.taps, strict=True)]
        factors = zip(self.common_factor, longest, strict=True)
        return tuple(max(2, factor) if taps > 1 else 1 for factor, taps in factors)

    @cached_property
    def seen(self) -> Tensor:
        """The composed kernel.

        Raises:
            ValueError: weights that are 0 or not finite.
        """
        sizes = [layer.weight.detach().abs().mean(dim=(0, 1)) for layer in self.layers]
        for size in sizes:
            require_finite(size, "weights")
            require_energy(size, "weights")
        return composed_kernel([size / size.max() for size in sizes], self.dilations)


def dilated_rows(network: nn.Module) -> list[DilatedRow]:
    """Every row of convolutions with stride 1 of which one is dilated, in network order.

    A row goes on as long as layers, in the order in which they were registered, take as many
    channels as the one before gives, and ends where the grid changes. Branches beside one another
    are told apart by their channels alone.

    >>> network = nn.Sequential(*(nn.Conv1d(4, 4, 3, dilation=2) for _ in range(3)))
    >>> (row,) = dilated_rows(network)
    >>> row.common_factor, row.period, round(coverage(row.seen), 3)
    ((2,), (2,), 0.538)
    """
    rows = ([(n, m) for n, m in row if max(m.weight.shape[2:]) > 1] for row in _rows(network))
    return [DilatedRow(row) for row in rows if any(max(_dilation(m)) > 1 for _, m in row)]


def composed_kernel(
    kernels: Sequence[Float[Tensor, " *taps"]], dilations: Sequence[Sequence[int]]
) -> Float[Tensor, " *field"]:
    """`h₁ ∗ h₂ ∗ …` of dilated kernels of one channel: what one output sees of the input.

    A stack with stride 1 on every axis; of size `1 + Σ d(k − 1)` per axis.

    Args:
        kernels: Taps of each convolution.
        dilations: Dilation per axis of each.

    >>> composed_kernel([torch.ones(2), torch.ones(2)], [(1,), (2,)]).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    composed = torch.ones([1] * len(dilations[0]), dtype=torch.float64)
    for kernel, rates in zip(kernels, dilations, strict=True):
        composed = _convolved(composed, kernel.detach().cpu().double(), rates)
    return composed


def gridding_imbalance(gradients: Float[Tensor, " *field"], period: Sequence[int]) -> float:
    """`A(p)`, `p_φ = Σ_{n ≡ φ mod q} |g[n]|`: how unevenly an output sees sub-grids, [0, 1).

    0 iff all weigh alike; `1 − q^{−d}` if dilations have the common factor q, since an output
    then sees one sub-grid alone. All-ones kernels of 3 with m odd dilations:
    `1 − (1 + 9^{−m})^{−d}` at q = 2. Independent of scale and of shifts of the map. Blind to
    holes that all sub-grids have alike: see `coverage`.

    Args:
        gradients: A `composed_kernel`, or the gradient of one output by the input.
        period: `q` per axis.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction"
    (the sub-grids).

    >>> gridding_imbalance(composed_kernel([torch.ones(3)] * 2, [(2,), (2,)]), (2,))
    0.5
    """
    return phase_imbalance(phase_sums(gradients.detach().cpu().double().abs(), period))


def coverage(gradients: Float[Tensor, " *field"]) -> float:
    """`#{n : g[n] ≠ 0} / Π field`: share of its receptive field that an output sees.

    The field is the smallest box around all of them. In (0, 1]; 1 for a stack without holes.
    Independent of scale and of shifts of the map.

    Args:
        gradients: A `composed_kernel`, or the gradient of one output by the input.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation"
    (kernel 3 at rate 2 sees 9 of 25 pixels).

    >>> coverage(composed_kernel([torch.ones(3, 3)], [(2, 2)]))
    0.36
    """
    seen = gradients.detach().nonzero()
    field = seen.max(dim=0).values - seen.min(dim=0).values + 1
    return round(len(seen) / int(field.prod()), 12)


def largest_gap(rates: Sequence[int]) -> int:
    """HDC's `M₂`: the largest distance of two voxels that a stack sees and none in between.

    `Mₙ = rₙ`, `Mᵢ = max(Mᵢ₊₁ − 2rᵢ, 2rᵢ − Mᵢ₊₁, rᵢ)`; a stack of kernel k needs `M₂ ≤ k`, and
    rates without a common factor besides.

    Args:
        rates: Dilation of each convolution, in order.

    Reference: Wang et al. 2018, "Understanding Convolution for Semantic Segmentation", eq. 2.

    >>> largest_gap([1, 2, 5]), largest_gap([1, 2, 9])
    (2, 5)
    """
    gap = rates[-1]
    for rate in reversed(rates[1:-1]):
        gap = max(gap - 2 * rate, 2 * rate - gap, rate)
    return gap


def _rows(network: nn.Module) -> Iterator[_Row]:
    row: _Row = []
    smoothing: _Row = []  # belongs to the convolution that follows it
    channels: int | None = None
    for name, module in network.named_modules():
        if isinstance(module, SharedSmoothing):
            smoothing.append((name, module))
        elif isinstance(module, _Conv) and max(module.stride) == 1:
            follows = module.in_channels == channels
            if not follows and max(module.kernel_size) == 1:
                continue  # a shortcut beside the row
            if not follows:
                yield row
                row = []
            row += [*smoothing, (name, module)]
            smoothing, channels = [], module.out_channels
        elif isinstance(module, _Conv | _MaxPool | _AveragePool | AnyUpsampling):
            yield row
            row, channels = [], None
    yield row


def _dilation(layer: _Layer) -> tuple[int, ...]:
    return tuple(layer.dilation) if isinstance(layer, _Conv) else (1,) * (layer.weight.ndim - 2)


def _convolved(signal: Tensor, kernel: Tensor, dilation: Sequence[int]) -> Tensor:
    # added tap by tap: a transform would leave rounding where the holes are
    size = [n + d * (k - 1) for n, k, d in zip(signal.shape, kernel.shape, dilation, strict=True)]
    out = signal.new_zeros(size)
    for tap in kernel.nonzero().tolist():
        starts = zip(tap, dilation, signal.shape, strict=True)
        window = tuple(slice(t * d, t * d + n) for t, d, n in starts)
        out[window] += kernel[tuple(tap)] * signal
    return out
