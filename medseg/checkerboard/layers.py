"""The upsampling layers of a network: which they are, what enters them, with what period."""

import itertools
import math
import operator
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.kernels import AnyUpsampling, InputMoments, UpsamplingLayer
from medseg.checkerboard.phases import require_finite
from medseg.checkerboard.torus import Transposed, evaluating, has_stride
from medseg.errors import ConfigError
from medseg.layers.resampling import DepthToSpace, MaxUnpool, Nails
from medseg.models.unet import MultiscaleNetwork

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


@torch.no_grad()
def input_moments(
    network: nn.Module, images: Iterable[Float[Tensor, "batch channels *space"]]
) -> dict[str, InputMoments]:
    """`μ = E[x]` and `E[x xᵀ]` of the channels before every upsampling, over voxels of `images`.

    By name of the layer; a layer that is called several times has the
    mean over all its calls, and one that is never called is left out. Independent of the order
    and the batches of the images, up to rounding. The network runs in evaluation mode and is
    left as it was.

    Args:
        network: Image → anything.
        images: Batches of real cases in the network's intensities, on its device.

    Raises:
        ValueError: features that are not finite.

    >>> network = nn.Sequential(nn.Upsample(scale_factor=2))
    >>> input_moments(network, [torch.tensor([[[1.0, 3.0]]])])["0"].mean.tolist()
    [2.0]
    """
    layers = dict(upsampling_layers(network))
    found = {name: InputMoments() for name in layers}

    def listen(name: str) -> Any:
        def hook(_layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
            found[name].add(next(iter((*inputs, *named.values()))))

        return layers[name].register_forward_pre_hook(hook, with_kwargs=True)

    with ExitStack() as undo:
        undo.enter_context(evaluating(network))
        for name in layers:
            undo.callback(listen(name).remove)
        for image in images:
            network(image)
    found = {name: moments for name, moments in found.items() if moments.voxels}
    for name, moments in found.items():
        require_finite(moments.second, f"second moments before {name}")
    return found


def stride_grid_of(network: nn.Module, spatial_dims: int) -> tuple[tuple[int, ...], ...]:
    """Total strides of a network's stages, or of all its upsamplings: periods of its patterns.

    Args:
        network: One of ours, or any whose upsamplings follow one another.
        spatial_dims: Axes of its grid.

    Returns:
        Periods per axis, finest first, each a divisor of the next; every pattern of the network
        repeats after the last.

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
    return levels


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
    strides = [UpsamplingLayer(layer, dims).stride for _, layer in upsampling_layers(network)]
    return tuple(math.prod(steps) for steps in zip(*strides, strict=True))
