"""Layers of a network in its own order."""

from collections.abc import Iterator

from torch import nn

from medseg.checkerboard.torus import Transposed
from medseg.checkerboard.weights.kernels import AnyUpsampling, has_stride
from medseg.layers.resampling import DepthToSpace, MaxUnpool, Nails

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
    """Names and layers with a whole scale; what a composite one is made of is not another.

    >>> network = nn.Sequential(nn.Conv1d(1, 1, 3), nn.ConvTranspose1d(1, 1, 2, 2))
    >>> [name for name, _ in upsampling_layers(network)]
    ['1']
    """
    for name, layer in refining_layers(network):
        if isinstance(layer, AnyUpsampling) and has_stride(layer):
            yield name, layer


def refining_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Besides those, upsampling layers that have no stride or no kernel of their own.

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
    """Axes of the first layer that knows them.

    >>> spatial_dims_of(nn.Sequential(nn.ReLU(), nn.Conv3d(1, 1, 3)))
    3
    """
    known = (len(m.stride) for m in network.modules() if isinstance(m, _Strided))
    return next(known, None)
