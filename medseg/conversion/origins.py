"""Which block of a description made which layer of the network."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from medseg.models.description import Description, build, build_network

Address = tuple[Any, ...]
"""Keys under which a block stands in a description."""


@dataclass(frozen=True, kw_only=True)
class MadeLayer:
    """A layer that a block of the description made.

    Args:
        name: Of the layer in the network.
        address: Of the block in the description.
        in_channels: Channels of its input.
        dims: Axes of the grid.
    """

    name: str
    address: Address
    in_channels: int
    dims: int


def blocks_of(description: Description, slot: str) -> dict[Address, Any]:
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


def replaced(description: Any, blocks: Mapping[Address, Any], address: Address = ()) -> Any:
    """The description with other blocks at these places; what is given is not changed."""
    if address in blocks:
        return blocks[address]
    if not isinstance(description, Mapping):
        return description
    return {key: replaced(value, blocks, (*address, key)) for key, value in description.items()}


def layers_of(description: Description, slot: str) -> list[MadeLayer]:
    """Every layer that a block of the slot makes, in the order in which they are made.

    Args:
        description: Of a network, which is built once while its blocks are watched.
        slot: `conv`, `downsample` or `upsample`.
    """
    made: list[tuple[nn.Module, Address, int, int]] = []
    watched = {
        address: _watched(block, lambda *layer, at=address: made.append((layer[0], at, *layer[1:])))
        for address, block in blocks_of(description, slot).items()
    }
    network = build_network(replaced(description, watched))
    names = {module: name for name, module in network.named_modules()}
    return [
        MadeLayer(name=names[module], address=address, in_channels=channels, dims=dims)
        for module, address, channels, dims in made
    ]


def _watched(block: Any, report: Callable[[nn.Module, int, int], None]) -> Callable:
    def make(spatial_dims: int, in_channels: int, *shape: Any) -> nn.Module:
        layer = block(spatial_dims, in_channels, *shape)
        report(layer, in_channels, spatial_dims)
        return layer

    return make
