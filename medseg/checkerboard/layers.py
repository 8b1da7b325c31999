"""The upsampling layers of a network: which they are, what enters them, with what period."""

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.imbalance import dc_gain_imbalance
from medseg.checkerboard.kernels import (
    AnyUpsampling,
    has_stride,
    phase_gains,
    upsampling_kernel,
    upsampling_stride,
)
from medseg.checkerboard.phases import require_finite
from medseg.checkerboard.torus import Transposed, evaluating
from medseg.errors import ConfigError
from medseg.layers.resampling import DepthToSpace, MaxUnpool, Nails
from medseg.models.unet import MultiscaleNetwork

_PHASES = 512
_VOXELS_AT_ONCE = 1 << 12  # so few that a sum in single precision is good to five digits
_Strided = Transposed | nn.Conv1d | nn.Conv2d | nn.Conv3d
_WithoutKernel = (
    nn.PixelShuffle
    | DepthToSpace
    | Nails
    | MaxUnpool
    | nn.MaxUnpool1d
    | nn.MaxUnpool2d
    | nn.MaxUnpool3d
)


def upsampling_layers(network: nn.Module) -> Iterator[tuple[str, AnyUpsampling]]:
    """Names and layers with a whole scale; the parts of a composite layer are not listed.

    >>> network = nn.Sequential(nn.Conv1d(1, 1, 3), nn.ConvTranspose1d(1, 1, 2, 2))
    >>> [name for name, _ in upsampling_layers(network)]
    ['1']
    """
    for name, layer in refining_layers(network):
        if isinstance(layer, AnyUpsampling) and has_stride(layer):
            yield name, layer


def refining_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The same and upsampling layers that have no stride or no kernel of their own.

    >>> network = nn.Sequential(nn.Upsample(scale_factor=1.5), nn.PixelShuffle(2))
    >>> [name for name, _ in refining_layers(network)]
    ['0', '1']
    """
    inside: set[nn.Module] = set()
    for name, module in network.named_modules():
        if isinstance(module, AnyUpsampling | _WithoutKernel) and module not in inside:
            inside.update(module.modules())
            yield name, module


def spatial_dims_of(network: nn.Module) -> int | None:
    """Axes of the first layer that tells them.

    >>> spatial_dims_of(nn.Sequential(nn.ReLU(), nn.Conv3d(1, 1, 3)))
    3
    """
    known = (len(m.stride) for m in network.modules() if isinstance(m, _Strided))
    return next(known, None)


@dataclass(frozen=True, kw_only=True)
class InputMoments:
    """First and second moments of a layer's input, over all voxels it was called with.

    Args:
        mean: `μ = E[x]`, one value per channel, in the units of the features.
        second: `E[x xᵀ]`, with which `dc_gain_imbalance` weighs channels.
        voxels: How many voxels were averaged.

    >>> InputMoments(mean=torch.zeros(1), second=torch.ones(1, 1), voxels=4).voxels
    4
    """

    mean: Float[Tensor, " channels"]
    second: Float[Tensor, "channels channels"]
    voxels: int


class _Sums:
    """Of one layer, over its calls."""

    def __init__(self) -> None:
        self.voxels = 0
        self.first: Tensor | float = 0.0
        self.second: Tensor | float = 0.0

    def add(self, x: Tensor) -> None:
        for image in x.detach().float().flatten(2):
            for block in image.split(_VOXELS_AT_ONCE, dim=1):
                self.voxels += block.shape[1]
                self.first = self.first + block.sum(dim=1).cpu().double()
                self.second = self.second + (block @ block.T).cpu().double()

    def moments(self, name: str) -> InputMoments:
        mean = torch.as_tensor(self.first) / self.voxels
        second = torch.as_tensor(self.second) / self.voxels
        require_finite(second, f"second moments before {name}")
        return InputMoments(mean=mean, second=second, voxels=self.voxels)


@torch.no_grad()
def input_moments(
    network: nn.Module, images: Iterable[Float[Tensor, "batch channels *space"]]
) -> dict[str, InputMoments]:
    """`μ = E[x]` and `E[x xᵀ]` of the channels before every upsampling, over voxels of `images`.

    By name of the layer; a layer that is called several times has the
    mean over all its calls, and one that is never called is left out. Independent of the order
    and the batches of the images, up to rounding. The network runs in evaluation mode and is
    left as it was, as are the random generators.

    Args:
        network: Image → anything.
        images: Batches of real cases in the network's intensities, on its device.

    Raises:
        ValueError: no image, or features that are not finite.

    >>> network = nn.Sequential(nn.Upsample(scale_factor=2))
    >>> found = input_moments(network, [torch.tensor([[[1.0, 3.0]]])])["0"]
    >>> found.mean.tolist(), found.second.tolist(), found.voxels
    ([2.0], [[5.0]], 2)
    """
    sums = {name: _Sums() for name, _ in upsampling_layers(network)}
    seen = 0
    with _listening(network, sums):
        for image in images:
            network(image)
            seen += 1
    if not seen:
        raise ValueError("images hold 0 batches, over which nothing has a mean; give one or more")
    return {name: each.moments(name) for name, each in sums.items() if each.voxels}


@contextmanager
def _listening(network: nn.Module, sums: dict[str, _Sums]) -> Iterator[None]:
    devices = {p.device for p in network.parameters() if p.is_cuda}
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng(devices))
        undo.enter_context(evaluating(network))
        for name, layer in upsampling_layers(network):
            hook = layer.register_forward_pre_hook(_adding_to(sums[name]), with_kwargs=True)
            undo.callback(hook.remove)
        yield


def _adding_to(sums: _Sums) -> Any:
    def hook(_layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        sums.add(next(iter((*inputs, *named.values()))))

    return hook


class UpsamplingLayer:
    """An upsampling layer as its measures see it; kernel and gains are read once.

    Args:
        name: Path in the network.
        layer: The layer.
        dims: Axes of the network, None where no layer knows them.
        moments: Features before it on real images, if they were measured.
    """

    def __init__(
        self, name: str, layer: nn.Module, dims: int | None, moments: InputMoments | None = None
    ):
        self.name = name
        self.layer = layer
        self.operator = str(layer)
        self.dims = dims
        self.moments = moments

    @property
    def stride(self) -> tuple[int, ...]:
        """Factor per axis; raises what `upsampling_stride` raises."""
        return upsampling_stride(self.layer, self.dims)

    @cached_property
    def kernel(self) -> Tensor:
        """Taps; raises what `upsampling_kernel` raises."""
        return upsampling_kernel(self.layer, self.dims)

    @cached_property
    def gains(self) -> Tensor:
        """DC gain of each phase; raises what `phase_gains` raises."""
        return phase_gains(self.layer, self.dims)

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


@dataclass(frozen=True)
class StrideGrid:
    """Stride grid: periods per axis of the decoder's stages, finest first, each a divisor."""

    levels: tuple[tuple[int, ...], ...]

    @property
    def period(self) -> tuple[int, ...]:
        """After which every pattern of the network repeats."""
        return self.levels[-1]

    @property
    def tested(self) -> tuple[int, ...]:
        """The coarsest level with at most 512 phases: of more, each has too few voxels to tell."""
        few = [level for level in self.levels if math.prod(level) <= _PHASES]
        return few[-1] if few else self.levels[0]


def stride_grid_of(network: nn.Module, spatial_dims: int) -> StrideGrid:
    """The stride grid of a network: total strides of its stages, or of all its upsamplings.

    Args:
        network: One of ours, or any whose upsamplings follow one another.
        spatial_dims: Axes of its grid.

    Raises:
        ConfigError: no upsampling, so that no pattern can be locked to a stride.
    """
    if isinstance(network, MultiscaleNetwork):
        levels = _of_stages(network)
    else:
        period = upsampling_period(network, spatial_dims)
        levels = (period,) if period else ()
    levels = tuple(dict.fromkeys(level for level in levels if math.prod(level) > 1))
    if not levels:
        raise ConfigError(
            f"{type(network).__name__} has stride 1 everywhere, so no pattern can be locked to "
            "its strides; choose a network that upsamples"
        )
    return StrideGrid(levels)


def _of_stages(network: MultiscaleNetwork) -> tuple[tuple[int, ...], ...]:
    strides: Sequence[tuple[int, ...]] = getattr(
        getattr(network, "decoder", None), "strides", (network.total_stride,)
    )
    by_axis = [
        tuple(itertools.accumulate(axis, operator.mul)) for axis in zip(*strides, strict=True)
    ]
    return tuple(zip(*by_axis, strict=True))


def upsampling_period(network: nn.Module, spatial_dims: int | None = None) -> tuple[int, ...]:
    """Product of the strides of all upsampling layers, per axis; empty if there is none.

    That is the period of a network whose upsamplings follow one another. Scales that are no
    whole number repeat with no period and are not counted.

    Args:
        network: What holds the layers.
        spatial_dims: Number of axes; None: that of the network's convolutions.

    Raises:
        ValueError: an `nn.Upsample` with one scale for all axes, where nothing says how many.

    >>> upsampling_period(nn.Sequential(nn.Conv3d(1, 1, 1), *[nn.Upsample(scale_factor=2)] * 2))
    (2, 2, 2)
    """
    dims = spatial_dims or spatial_dims_of(network)
    strides = [upsampling_stride(layer, dims) for _, layer in upsampling_layers(network)]
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))
