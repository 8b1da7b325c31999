"""Networks of blocks, dimensions and decoders: every two of them meet in one."""

from typing import Any

import pytest
import torch
from torch import nn

from medseg.blocks import downsample, upsample
from medseg.errors import ConfigError
from medseg.models.description import build_network
from medseg.models.weights import ModelCard, load_model, save_model

from ..pairwise import possible_pairs
from .grid import (
    DEFAULTS,
    FACTORS,
    NETWORKS,
    is_impossible,
    network_cells,
    network_of,
    text_of,
)
from .networks import assert_it_trains

ODD = {2: (7, 9), 3: (5, 4, 7)}
# oneDNN gives no finite weight gradient of 7³ taps on a grid of fewer than 4 voxels per axis
LARGER = (7, 8, 7)
CELLS = network_cells()
REFUSED = [
    *({"downsample": d} for d in FACTORS["downsample"] if not isinstance(d, downsample.MaxPool)),
    {"network": NETWORKS[-1]},
]


def card_of(description: dict[str, Any], dims: int) -> ModelCard:
    return ModelCard(
        network=description,
        preprocessing={"name": "x"},
        dataset="phantom",
        in_channels=1,
        classes=["a", "b"],
        patch_size=[8] * dims,
    )


def assert_each_tensor_stands_once(network: nn.Module) -> None:
    named = [
        *network.named_parameters(remove_duplicate=False),
        *network.named_buffers(remove_duplicate=False),
    ]
    state = network.state_dict(keep_vars=True)
    assert set(state) <= {name for name, _ in named}
    assert set(state) >= {name for name, _ in network.named_parameters(remove_duplicate=False)}
    storages = [tensor.untyped_storage().data_ptr() for tensor in state.values()]
    assert len(set(storages)) == len(storages)


@pytest.mark.parametrize("cell", CELLS, ids=text_of)
def test_every_network_learns_and_is_the_same_after_saving(cell, tmp_path) -> None:
    dims = cell["dims"]
    description = network_of(cell, depths=2 if dims == 2 else 1)
    network = build_network(description).train()
    is_large = dims == 3 and isinstance(cell["upsample"], upsample.LargeKernelTransposed)
    image = torch.randn(2, 1, *(LARGER if is_large else ODD[dims]))
    assert_it_trains(network, image)
    assert_each_tensor_stands_once(network)

    save_model(tmp_path, network, card_of(description, dims))
    loaded = load_model(tmp_path).network
    with torch.no_grad():
        assert torch.equal(loaded(image), network.eval()(image))


@pytest.mark.parametrize("different", REFUSED, ids=repr)
def test_max_unpooling_where_nothing_was_max_pooled_is_refused(different) -> None:
    cell = DEFAULTS | {"upsample": upsample.MaxUnpool()} | different
    assert is_impossible(cell)
    if "network" in different:
        message = "upsample=MaxUnpool .* across several stages; choose upsample=bilinear"
    else:
        message = "upsample=MaxUnpool .* downsampling into stage 1 is .*; choose downsample=max_p"
    with pytest.raises(ConfigError, match=message):
        build_network(network_of(cell))
    build_network(network_of(DEFAULTS | {"upsample": upsample.MaxUnpool()}))


def test_every_block_stands_in_a_network_and_only_max_unpooling_is_restricted() -> None:
    for factor, values in FACTORS.items():
        assert all(any(cell[factor] == value for cell in CELLS) for value in values), factor
    refused = possible_pairs(FACTORS) - possible_pairs(FACTORS, is_impossible)
    assert len(refused) == len(REFUSED)
