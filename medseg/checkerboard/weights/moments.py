"""What the features before each upsampling of a network are on real images."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.phases import require_finite
from medseg.checkerboard.weights.walk import upsampling_layers

_VOXELS_AT_ONCE = 1 << 12  # so few that a sum in single precision is good to five digits


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

    Of the layers of `upsampling_gains`, by name; a layer that is called several times has the
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
    modes = {module: module.training for module in network.modules()}
    with ExitStack() as undo:
        undo.enter_context(torch.random.fork_rng(devices))
        for module, mode in modes.items():
            undo.callback(setattr, module, "training", mode)
        for name, layer in upsampling_layers(network):
            hook = layer.register_forward_pre_hook(_adding_to(sums[name]), with_kwargs=True)
            undo.callback(hook.remove)
        network.eval()
        yield


def _adding_to(sums: _Sums) -> Any:
    def hook(_layer: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        sums.add(next(iter((*inputs, *named.values()))))

    return hook
