"""Networks of random weights, rewritten and proven to compute the same."""

import copy
from typing import Any

import torch
from torch import nn

from medseg.conversion.rewriting import Rewriting, largest_difference, rewrite
from medseg.conversion.targets import target_of
from medseg.models.description import build_network

from ..models.networks import name_of, unet

STRIDES = {2: (1, (2, 1), 2), 3: (1, (1, 2, 2), 2)}
ODD = {2: (13, 11), 3: (7, 9, 11)}


def network_of(description: dict[str, Any]) -> nn.Module:
    """Random weights and biases throughout, in float64."""
    network = build_network(description).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network


def rewritten(description: dict[str, Any], **wanted: str) -> Rewriting:
    """Rewritten, and proven to compute the same."""
    network = network_of(description)
    targets = [target_of(slot, option) for slot, option in wanted.items()]
    before = copy.deepcopy(network.state_dict())
    found = rewrite(network, description, targets)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    dims = description["encoder"]["spatial_dims"]
    assert str(build_network(found.description)) == str(found.network)
    assert largest_difference(network, found.network, 1, ODD[dims]) <= 1e-10
    assert all(row.difference <= 1e-10 for row in found.layers)
    return found


def of_slot(slot: str, chosen: object, dims: int = 2, **options: Any) -> dict[str, Any]:
    options = {"strides": STRIDES[dims], "depths": 2} | options
    return unet(dims, **{slot: name_of(chosen)}, **options)


def now(rewriting: Rewriting) -> set[str]:
    return {row.now for row in rewriting.layers}
