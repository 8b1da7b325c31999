"""What two networks may be made equal in: parameters, multiply-accumulates, memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from medseg.analysis.cost import count_macs, count_parameters, training_call
from medseg.analysis.memory import predicted_memory
from medseg.errors import ConfigError
from medseg.models.description import Description, build_network

LATENCY = "latency"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a network is given.

    Args:
        in_channels: Channels of the image.
        patch_size: In voxels.
        batch: Patches at once.
    """

    in_channels: int
    patch_size: Sequence[int]
    batch: int = 1


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a network costs.

    Args:
        parameters: Trainable ones.
        macs: Multiply-accumulates of one patch's forward pass.
        memory: Peak of a training step in bytes, besides weights, gradients and image.
    """

    parameters: int
    macs: int
    memory: int


def abstract_network(description: Description) -> nn.Module:
    """A network whose tensors have shapes and no values, at once however large it is.

    Raises:
        ConfigError: it cannot be built.
    """
    with torch.device("meta"):
        return build_network(description)


def cost(description: Description, load: Load) -> Cost:
    """Parameters, multiply-accumulates and training memory of a network.

    Raises:
        ConfigError: it cannot be built, or does not accept the patch.
    """
    return Cost(
        parameters=_parameters(description, load),
        macs=_macs(description, load),
        memory=_training_memory(description, load),
    )


def measure(quantity: str, description: Description, load: Load) -> int:
    """One of `QUANTITIES` of a network.

    Raises:
        ConfigError: no such quantity, or the network cannot be built or does not accept the patch.
    """
    if quantity not in QUANTITIES:
        raise ConfigError(
            f"quantity={quantity!r} must be one of {', '.join(QUANTITIES)}; choose macs"
        )
    return QUANTITIES[quantity](description, load)


def _parameters(description: Description, load: Load) -> int:
    return count_parameters(abstract_network(description))


def _macs(description: Description, load: Load) -> int:
    return count_macs(abstract_network(description), load.in_channels, load.patch_size)


def _training_memory(description: Description, load: Load) -> int:
    return _peak(description, load, training=True)


def _inference_memory(description: Description, load: Load) -> int:
    return _peak(description, load, training=False)


def _peak(description: Description, load: Load, *, training: bool) -> int:
    # the prediction asks on which device the tensors are; memory that nobody writes to is free
    network = abstract_network(description).to_empty(device="cpu")
    several = training and bool(description.get("deep_supervision"))
    return predicted_memory(
        network,
        load.in_channels,
        load.patch_size,
        batch=load.batch,
        training=training,
        run=training_call(network, deep_supervision=several),
    ).peak


QUANTITIES: dict[str, Callable[[Description, Load], int]] = {
    "parameters": _parameters,
    "macs": _macs,
    "memory": _training_memory,
    "inference_memory": _inference_memory,
}
"""Name → how it is found; memory in bytes, `LATENCY` is measured instead."""
