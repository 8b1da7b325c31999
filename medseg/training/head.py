"""Where the last layer of a network begins.

A score moves by about the learning rate in a step of Adam, so that with a bias of 0 some hundred
steps pass until a network has learned no more than that most voxels are background.
"""

from collections.abc import Iterable

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
