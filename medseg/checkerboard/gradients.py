"""Patterns that strided layers leave on the gradient of their input."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.imbalance import dc_gain_imbalance, kernel_gains, overlap_imbalance
from medseg.checkerboard.kernels import kernel_of_weight
from medseg.layers.resampling import CellMean, SpaceToDepth, depth_to_space

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
