"""Networks whose gradient shows all that they look at: positive, and without statistics."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.deformable import DeformableConv
from medseg.layers.resampling import MaxUnpool

_NORMS = (
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.GroupNorm,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
)
_MAX_POOLS = {nn.MaxPool2d: nn.AvgPool2d, nn.MaxPool3d: nn.AvgPool3d}


def positive(network: nn.Module) -> nn.Module:
    """The network in float64 with weights that average, norms that do nothing, means for maxima.

    Then no two paths cancel and no voxel of a window is left out, so that the support of the
    gradient is what can be seen.
    """
    network = network.double().eval()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, _NORMS):
                setattr(parent, name, nn.Identity())
            elif type(child) in _MAX_POOLS:
                mean = _MAX_POOLS[type(child)]
                setattr(parent, name, mean(child.kernel_size, child.stride, child.padding))
            elif isinstance(child, MaxUnpool):
                setattr(parent, name, _NearestUnpool(child))
    at_rest = {
        id(p)
        for m in network.modules()
        if isinstance(m, DeformableConv)
        for p in m.motion.parameters()
    }
    with torch.no_grad():
        for parameter in network.parameters():
            if id(parameter) not in at_rest:
                _average(parameter)
    return network


def seen_by_gradient(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    axis: int,
    outputs: Sequence[int],
    least: float = 0.0,
) -> np.ndarray:
    """Which positions along an axis the output at some depends on, `(outputs, positions)`.

    Gradients of up to `least` are taken for errors of rounding.
    """
    image = image.detach().requires_grad_()
    result = network(image)
    others = tuple(a for a in range(image.ndim) if a != 2 + axis)
    rows = []
    for output in outputs:
        asked = result.select(2 + axis, output).sum()
        (gradient,) = torch.autograd.grad(asked, image, retain_graph=True, materialize_grads=True)
        rows.append((gradient.abs() > least).sum(dim=others) > 0)
    return torch.stack(rows).numpy()


def _average(parameter: Tensor) -> None:
    parameter.copy_(torch.rand_like(parameter) + 0.1)
    if parameter.ndim > 1:
        parameter.div_(parameter[0].sum() if parameter.ndim > 2 else parameter.sum())


class _NearestUnpool(nn.Module):
    """Max-unpooling that puts a value in every place where it might."""

    def __init__(self, unpool: MaxUnpool):
        super().__init__()
        self.project, self.scale = unpool.project, unpool.scale

    def forward(self, x: Tensor) -> Tensor:
        factors = tuple(float(s) for s in self.scale)
        return functional.interpolate(self.project(x), scale_factor=factors, mode="nearest")
