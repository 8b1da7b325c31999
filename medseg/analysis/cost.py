"""What a step, a network and a description cost: parameters, operations, bytes, memory."""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import nn

from medseg.analysis import vocabulary as ops
from medseg.analysis.memory import predicted_memory
from medseg.analysis.trace import WRITE_THROUGH_VIEW, Step, trace
from medseg.blocks.conv import Standard
from medseg.errors import ConfigError
from medseg.layers.resampling import MaxUnpool
from medseg.models.description import Description, build, build_network
from medseg.models.unet import MultiscaleNetwork


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What an operator, a layer or a network costs for one image; costs add up.

    Args:
        parameters: Learned numbers.
        macs: Multiply-accumulates of convolutions and products of matrices. One is a product and
            its addition to a sum; biases cost nothing.
        other: Operations of everything else: one per value of an activation, sum or product;
            4 per value of a normalisation whose statistics are the case's own and 2 where they
            are stored; `2^d` per interpolated value; the window per pooled value.
        bytes_moved: Read and written, each tensor of a step once; views move nothing.
        unknown: Operations that are not known, whose cost is in none of the numbers.
    """

    parameters: int = 0
    macs: int = 0
    other: int = 0
    bytes_moved: int = 0
    unknown: tuple[str, ...] = ()

    def __add__(self, more: "Cost") -> "Cost":
        return Cost(
            parameters=self.parameters + more.parameters,
            macs=self.macs + more.macs,
            other=self.other + more.other,
            bytes_moved=self.bytes_moved + more.bytes_moved,
            unknown=tuple(dict.fromkeys((*self.unknown, *more.unknown))),
        )


def cost_of(step: Step) -> Cost:
    """The cost of one step of a trace; parameters belong to layers and are not in it.

    Reference: Dumoulin & Visin 2016, "A guide to convolution arithmetic for deep learning".
    """
    name = ops.base_name(step.operator)
    if name == WRITE_THROUGH_VIEW:
        return Cost()
    if name not in ops.KNOWN:
        return Cost(unknown=(step.operator,))
    if name in ops.VIEWS | ops.MAKERS:
        return Cost()
    return Cost(macs=_macs(name, step), other=_other(name, step), bytes_moved=_bytes_moved(step))


def _macs(name: str, step: Step) -> int:
    if name in ops.CONVOLUTIONS:
        return _convolution_macs(step)
    if name in ops.PRODUCTS:
        *_, first, second = (value.shape for value in step.inputs)
        return math.prod(first) * (second[-1] if len(second) > 1 else 1)
    return 0


def _convolution_macs(step: Step) -> int:
    """Every weight once per voxel of the grid that it is moved over: transposed, the input's."""
    weight = step.arguments["weight"].shape
    grid = step.arguments["input"] if step.arguments["transposed"] else step.outputs[0]
    return grid.shape[0] * math.prod(grid.shape[2:]) * math.prod(weight)


def _other(name: str, step: Step) -> int:
    values = math.prod(step.outputs[0].shape) if step.outputs else 0
    if name in ops.POINTWISE:
        return values
    if name in ops.NORMS:
        own_statistics = step.arguments.get("training", not name.endswith("no_training"))
        return values * (4 if own_statistics else 2)
    if name in ops.POOLS:
        return values * math.prod(step.arguments["kernel_size"])
    if name in ops.LINEAR_INTERPOLATIONS | ops.SAMPLERS:
        return values * 2 ** (len(step.outputs[0].shape) - 2)
    if name in ops.REDUCTIONS:
        return max(math.prod(value.shape) for value in step.inputs)
    return 3 * values if name in ops.SOFTMAXES else 0


def _bytes_moved(step: Step) -> int:
    read = {value.index: value.bytes for value in step.inputs}
    return sum(read.values()) + sum(value.bytes for value in step.outputs)


def count_parameters(network: nn.Module) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def count_macs(network: nn.Module, in_channels: int, patch_size: Sequence[int]) -> int:
    """Multiply-accumulates of one forward pass of one patch, without computing it.

    Convolutions, transposed convolutions and matrix products count; interpolation,
    normalisation and activations do not (`medseg audit` lists them apart).

    Args:
        network: Image → logits.
        in_channels: Channels of its input.
        patch_size: Size of its input in voxels.

    Raises:
        ConfigError: the network does not accept the patch.
    """
    return sum(cost_of(step).macs for step in trace(network, in_channels, patch_size).steps)


def training_call(
    network: nn.Module, *, deep_supervision: bool
) -> Callable[[nn.Module, torch.Tensor], Any]:
    """What a training step calls on a network and an image.

    A network of another library is called as it is: its own option decides what it then returns.
    """
    several = deep_supervision and isinstance(network, MultiscaleNetwork)
    return _all_logits if several else nn.Module.__call__


def _all_logits(network: Any, image: torch.Tensor) -> list[torch.Tensor]:
    return network.multiscale_logits(image)


@dataclass(frozen=True, kw_only=True)
class Load:
    """The input of a network.

    Args:
        in_channels: Channels of the image.
        patch_size: In voxels.
        batch: Patches at once.
    """

    in_channels: int
    patch_size: Sequence[int]
    batch: int = 1


def abstract_network(description: Description) -> nn.Module:
    """A network whose tensors have shapes and no values, at once however large it is.

    Raises:
        ConfigError: it cannot be built.
    """
    with torch.device("meta"):
        return build_network(description)


QUANTITIES = ("parameters", "macs", "memory", "inference_memory")
"""What networks are matched in; memory in bytes, of a training or an inference step."""

LATENCY = "latency"
"""Milliseconds of a training step. It is measured, not counted: `medseg.analysis.match`."""


def measure(quantity: str, description: Description, load: Load) -> int:
    """One of `QUANTITIES` of a network.

    Raises:
        ConfigError: no such quantity, or the network cannot be built or does not accept the patch.
    """
    match quantity:
        case "parameters":
            return count_parameters(abstract_network(description))
        case "macs":
            return count_macs(abstract_network(description), load.in_channels, load.patch_size)
        case "memory" | "inference_memory":
            return _peak(description, load, training=quantity == "memory")
    raise ConfigError(f"quantity={quantity!r} must be one of {', '.join(QUANTITIES)}; choose macs")


def costs(description: Description, load: Load) -> dict[str, int]:
    """Parameters, multiply-accumulates, and bytes of a training step; see `QUANTITIES`.

    Raises:
        ConfigError: as `measure`.
    """
    return {name: measure(name, description, load) for name in ("parameters", "macs", "memory")}


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


_CHANNELS, _SCALE, _SIDE = 32, 2, 16

_MAKE: dict[str, Callable[[Any, int], tuple[nn.Module, int, int]]] = {
    # slot → module, its input channels and the side of its input grid
    "conv": lambda block, dims: (block(dims, _CHANNELS, _CHANNELS), _CHANNELS, _SIDE),
    "unit": lambda block, dims: (block(dims, _CHANNELS, _CHANNELS, Standard()), _CHANNELS, _SIDE),
    "downsample": lambda block, dims: (block(dims, _CHANNELS, _SCALE), _CHANNELS, _SIDE),
    "upsample": lambda block, dims: (
        block(dims, 2 * _CHANNELS, _CHANNELS, _SCALE),
        2 * _CHANNELS,
        _SIDE // _SCALE,
    ),
}
SLOTS = tuple(_MAKE)


def block_costs(slot: str, description: Description) -> tuple[list[int], list[float]]:
    """Parameters, and multiply-accumulates per voxel of the finer grid, each in 2-D and 3-D.

    They are those at 32 channels, of an upsampling from 64 to 32.
    """
    parameters, macs = [], []
    for dims in (2, 3):
        module, in_channels, side = _MAKE[slot](build(description), dims)
        parameters.append(count_parameters(module))
        counted = module.project if isinstance(module, MaxUnpool) else module
        macs.append(count_macs(counted, in_channels, (side,) * dims) / _SIDE**dims)
    return parameters, macs


def contract(description: Description) -> str:
    """First line of a block's class, and the options that differ from its defaults."""
    block = build(description)
    first = (inspect.getdoc(type(block)) or "").splitlines()[0]
    usual = type(block)()
    own = [
        f"{field.name}={getattr(block, field.name)!r}"
        for field in fields(block)
        if getattr(block, field.name) != getattr(usual, field.name)
    ]
    return f"{first} `{', '.join(own)}`" if own else first
