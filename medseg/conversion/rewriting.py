"""A trained network rewritten as one of other blocks that computes the same.

The description's blocks are replaced, the network is built from it again, the layers that a block
made get the kernels of their source layers, everything else keeps its weights.
"""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg.blocks.sizes import per_axis
from medseg.blocks.upsample import AdditiveInterpolate, Interpolate
from medseg.conversion.kernels import Kernel, read_kernel
from medseg.conversion.targets import Target
from medseg.errors import ConfigError
from medseg.models.description import Description, build, build_network

_ROUNDING = 1e-10  # of the largest output, in float64: sums in another order, no more
_LINEAR = "linear interpolation repeats the border, where a convolution takes zeros"


Address = tuple[Any, ...]
"""Keys under which a block stands in a description."""


class _Layer(NamedTuple):
    """A layer of the network, the block of the description that made it, input and factor."""

    name: str
    address: Address
    in_channels: int
    scale: tuple[int, ...]


class Rewritten(NamedTuple):
    """A layer that was rewritten.

    Args:
        layer: Its name in the network.
        was: The block that it was made of.
        now: The block that it is made of.
        difference: Largest absolute difference of its outputs on noise, in the network's precision.
    """

    layer: str
    was: str
    now: str
    difference: float


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """A network rewritten.

    Args:
        network: In evaluation mode, in the precision of the old one.
        description: From which it is built.
        layers: Those that were rewritten.
        unchanged: A line for each layer of the slots that stays, and why.
    """

    network: nn.Module
    description: dict[str, Any]
    layers: list[Rewritten]
    unchanged: list[str]


class _Move(NamedTuple):
    """A layer, the block that made it, the kernel it computes, and the target that takes it."""

    layer: _Layer
    block: Any
    kernel: Kernel
    target: Target


def rewrite(network: nn.Module, description: Description, targets: Sequence[Target]) -> Rewriting:
    """Rewrites every layer of the targets' slots; each is verified in float64, borders included.

    Blocks that are of the target's layers already are left alone, and so is linear interpolation.

    Args:
        network: Built from the description, with its weights; is not changed.
        description: What it is built from.
        targets: At most one per slot.

    Raises:
        ConfigError: a layer has no exact equivalent, or there is nothing to rewrite; the message
            names the layer, the reason and the remedy.
    """
    moves: list[_Move] = []
    unchanged: list[str] = []
    blocks: dict[Address, dict[str, Any]] = {}
    for target in targets:
        layers = _layers_of(description, target.slot)
        for address, block in _blocks_of(description, target.slot).items():
            made = [layer for layer in layers if layer.address == address]
            if isinstance(block, target.same) or not made:
                continue
            if _is_linear_interpolation(block):
                unchanged += [f"{layer.name} stays {block!r}: {_LINEAR}" for layer in made]
                continue
            own = [_move(network, layer, block, target) for layer in made]
            blocks[address] = target.describe([move.kernel for move in own])
            moves += own
    if not moves:
        raise _nothing_to_do(description, targets, unchanged)
    changed = _replaced(description, blocks)
    exact = _moved(network, build_network(changed).double().eval(), moves)
    for move in moves:
        _verify(network, exact, move)
    new = exact.to(next(network.parameters()).dtype)
    return Rewriting(
        network=new,
        description=changed,
        layers=[_row(network, new, move, blocks) for move in moves],
        unchanged=unchanged,
    )


def largest_difference(
    first: nn.Module, second: nn.Module, in_channels: int, size: Sequence[int]
) -> float:
    """Largest absolute difference of two networks' outputs on noise of mean 0 and variance 1.

    Args:
        first: Image → logits, in evaluation mode.
        second: The other, in the same precision.
        in_channels: Channels of the image.
        size: Size of the image in voxels.
    """
    noise = torch.randn(1, in_channels, *size, generator=torch.Generator().manual_seed(0))
    return _difference(first, second, noise.to(next(first.parameters()).dtype))[0]


def _is_linear_interpolation(block: Any) -> bool:
    linear = isinstance(block, Interpolate) and block.mode == "linear"
    return linear or isinstance(block, AdditiveInterpolate)


def _move(network: nn.Module, layer: _Layer, block: Any, target: Target) -> _Move:
    try:
        own = network.get_submodule(layer.name)
        kernel = read_kernel(own, target.slot, layer.in_channels, layer.scale)
        target.describe([kernel])
    except ValueError as error:
        raise _refused(layer.name, block, target, error) from error
    return _Move(layer, block, kernel, target)


def _refused(layer: str, block: Any, target: Target, reason: object) -> ConfigError:
    fault = str(reason).rpartition("; ")[0]  # the remedy is another one here
    return ConfigError(
        f"{layer}: {block!r} cannot become {target.option} without a change of its output: "
        f"{fault}; leave out --{target.slot} {target.option}, or train with "
        f"{target.slot}={target.option}"
    )


def _nothing_to_do(
    description: Description, targets: Sequence[Target], unchanged: Sequence[str]
) -> ConfigError:
    if unchanged:
        return ConfigError(f"{unchanged[0]}; there is nothing to rewrite, use the model as it is")
    wanted = " and ".join(f"{target.slot}={target.option}" for target in targets)
    if any(_blocks_of(description, target.slot) for target in targets):
        return ConfigError(f"every layer is {wanted} already; use the model as it is")
    return ConfigError(
        f"{description.get('name')} has no blocks that could become {wanted}; "
        "use the model as it is, or train models.unet.UNet"
    )


def _moved(network: nn.Module, new: nn.Module, moves: Sequence[_Move]) -> nn.Module:
    """The new network with all weights of the old one, the rewritten layers by their kernels."""
    rewritten = tuple(f"{move.layer.name}." for move in moves)
    same = {k: v for k, v in network.state_dict().items() if not k.startswith(rewritten)}
    own = {key: value for key, value in new.state_dict().items() if key.startswith(rewritten)}
    new.load_state_dict(same | own)
    for move in moves:
        move.target.fill(new.get_submodule(move.layer.name), move.kernel)
    return new


def _verify(network: nn.Module, exact: nn.Module, move: _Move) -> None:
    old = copy.deepcopy(network.get_submodule(move.layer.name)).double()
    new = exact.get_submodule(move.layer.name)
    difference, largest = _difference(old, new, _noise(move).double())
    if not difference <= _ROUNDING * largest:
        reason = (
            f"the outputs of one kernel, with zeros beyond the border, differ by {difference:.3g} "
            f"of {largest:.3g} in float64; keep it"
        )
        raise _refused(move.layer.name, move.block, move.target, reason)


def _row(
    network: nn.Module, new: nn.Module, move: _Move, blocks: Mapping[Address, Any]
) -> Rewritten:
    name = move.layer.name
    old = network.get_submodule(name)
    noise = _noise(move).to(next(network.parameters()).dtype)
    return Rewritten(
        layer=name,
        was=repr(move.block),
        now=repr(build(blocks[move.layer.address])),
        difference=_difference(old, new.get_submodule(name), noise)[0],
    )


def _noise(move: _Move) -> Tensor:
    """Noise on a small grid, of another size per axis, on which every tap meets a voxel."""
    steps = zip(move.kernel.taps.shape[2:], move.kernel.scale, strict=True)
    size = [taps // step + 2 + axis for axis, (taps, step) in enumerate(steps)]
    if move.target.slot == "downsample":
        size = [n * step for n, step in zip(size, move.kernel.scale, strict=True)]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, move.layer.in_channels, *size, generator=generator)


@torch.no_grad()
def _difference(first: nn.Module, second: nn.Module, x: Tensor) -> tuple[float, float]:
    """Largest absolute difference of two modules' outputs, and the first's largest value."""
    expected = first(x)
    return float((second(x) - expected).abs().max()), float(expected.abs().max())


def _blocks_of(description: Description, slot: str) -> dict[Address, Any]:
    """Every block of a slot, built, by its place in the description.

    Args:
        description: Of a network.
        slot: `conv`, `downsample` or `upsample`.
    """
    return {
        address: build(part)
        for address, part in _parts(description)
        if str(part.get("name", "")).startswith(f"blocks.{slot}.")
    }


def _parts(description: Any, address: Address = ()) -> Iterator[tuple[Address, Description]]:
    if isinstance(description, Mapping):
        yield address, description
        for key, value in description.items():
            yield from _parts(value, (*address, key))


def _replaced(description: Any, blocks: Mapping[Address, Any], address: Address = ()) -> Any:
    """The description with other blocks at these places; what is given is not changed."""
    if address in blocks:
        return blocks[address]
    if not isinstance(description, Mapping):
        return description
    return {key: _replaced(value, blocks, (*address, key)) for key, value in description.items()}


def _layers_of(description: Description, slot: str) -> list[_Layer]:
    """Every layer that a block of the slot makes, in the order in which they are made.

    Args:
        description: Of a network, which is built once while its blocks are watched.
        slot: `conv`, `downsample` or `upsample`.
    """
    made: list[tuple[nn.Module, tuple[Address, int, tuple[int, ...]]]] = []

    def watched(address: Address, block: Any) -> Callable:
        def make(spatial_dims: int, in_channels: int, *shape: Any) -> nn.Module:
            layer = block(spatial_dims, in_channels, *shape)
            scale = 1 if slot == "conv" else shape[-1]
            made.append((layer, (address, in_channels, per_axis("scale", scale, spatial_dims))))
            return layer

        return make

    blocks = {a: watched(a, block) for a, block in _blocks_of(description, slot).items()}
    network = build_network(_replaced(description, blocks))
    names = {module: name for name, module in network.named_modules()}
    return [_Layer(names[module], *of) for module, of in made]
