"""The last layer of a network: where it begins, and how fast it learns.

Adam moves every weight by about its rate in a step, whatever the gradient. A score is a sum over
few features, so a rate that suits the layers before moves scores slowly: with 8 channels, some
hundred steps pass until the background alone is learned.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from medseg.labelling import Labelling


def last_layers(network: nn.Module, outputs: int) -> list[nn.Module]:
    """The convolutions whose outputs are the scores: of every head, or the last one of so many.

    None where the scores come from something else.
    """
    heads = getattr(network, "heads", None)
    if isinstance(heads, nn.ModuleList):
        return list(heads)
    found = [m for m in network.modules() if isinstance(m, _ConvNd) and m.out_channels == outputs]
    return list(found[-1:])


@torch.no_grad()
def start_from_shares(layers: Iterable[nn.Module], counts: Tensor, labelling: Labelling) -> None:
    """Sets biases so that without features the probabilities are the shares of the voxels.

    Args:
        layers: Convolutions; one without a bias stays as it is.
        counts: Voxels of each label value from 0, without those that are ignored.
        labelling: What the outputs mean. A class that is in no voxel counts as one.

    Reference: Lin et al. 2017, "Focal Loss for Dense Object Detection", section 4.1 (prior π).
    """
    counts = counts.double().clamp_min(1)
    if labelling.overlap:
        inside = torch.stack([counts[list(values)].sum() for values in labelling.regions])
        start = (inside / (counts.sum() - inside).clamp_min(1)).log()
    else:
        start = (counts / counts.sum()).log()
    for layer in layers:
        if (bias := getattr(layer, "bias", None)) is not None:
            bias.copy_(start)


def optimizer_of(
    make: Callable[[Any], torch.optim.Optimizer],
    network: nn.Module,
    layers: Sequence[nn.Module],
    factor: float,
) -> torch.optim.Optimizer:
    """An optimiser of a network in which the rate of the last layers is a multiple of the others'.

    Args:
        make: Parameters → optimiser.
        network: All of it is trained.
        layers: Of the network.
        factor: 1 leaves all parameters in one group.
    """
    head = [parameter for layer in layers for parameter in layer.parameters()]
    if factor == 1 or not head:
        return make(network.parameters())
    own = {id(parameter) for parameter in head}
    optimizer = make([p for p in network.parameters() if id(p) not in own])
    return add_head(optimizer, head, factor)


def add_head(
    optimizer: torch.optim.Optimizer, head: Sequence[nn.Parameter], factor: float
) -> torch.optim.Optimizer:
    """Has an optimiser train more parameters, at a multiple of its rate."""
    rate = optimizer.defaults["lr"] * factor
    optimizer.add_param_group({"params": list(head), "lr": rate})
    return optimizer
