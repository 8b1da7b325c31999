"""Whatever is measured of a network, the network and the generator are left as they were."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from medseg.analysis.audit import audit
from medseg.analysis.cost import count_macs
from medseg.analysis.effective_field import effective_field
from medseg.analysis.input_sizes import check_patch, valid_sizes
from medseg.analysis.memory import predicted_memory
from medseg.analysis.receptive_field import receptive_field
from medseg.analysis.trace import trace
from medseg.checkerboard import gradient_rows, gridding_rows, upsampling_rows
from medseg.checkerboard.layers import input_moments
from medseg.checkerboard.probes import constant_response, cycle_spin_residual
from medseg.models.description import build_network

from ..models.networks import block, unet

SIZE = (16, 16)
IMAGE = torch.arange(256.0).reshape(1, 1, *SIZE).sin() + 3
MEASURES: dict[str, Callable[[nn.Module], Any]] = {
    "audit": lambda n: audit(n, (1, 1, *SIZE)),
    "check_patch": lambda n: check_patch(n, 1, SIZE, deep_supervision=False),
    "constant_response": lambda n: constant_response(n, IMAGE),
    "count_macs": lambda n: count_macs(n, 1, SIZE),
    "cycle_spin_residual": lambda n: cycle_spin_residual(n, IMAGE),
    "effective_field": lambda n: effective_field(n, 1, SIZE),
    "gradient_rows": gradient_rows,
    "gridding_rows": gridding_rows,
    "input_moments": lambda n: input_moments(n, [IMAGE]),
    "predicted_memory": lambda n: predicted_memory(n, 1, SIZE, training=True),
    "receptive_field": lambda n: receptive_field(n, 1, SIZE),
    "trace": lambda n: trace(n, 1, SIZE),
    "upsampling_rows": upsampling_rows,
    "valid_sizes": lambda n: valid_sizes(n, 1, SIZE),
}


def state(network: nn.Module) -> list[tuple[Any, ...]]:
    """All but the numbers."""
    modules = [
        (
            module.training,
            getattr(module, "padding_mode", None),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
        )
        for module in network.modules()
    ]
    return modules + [(p.requires_grad, p.grad, p.device) for p in network.parameters()]


@pytest.mark.parametrize("measure", MEASURES)
def test_the_network_is_left_as_it_was(measure: str) -> None:
    unit = block("unit.Plain", norm=block("norm.Batch"), dropout=0.5)
    network = build_network(unet(unit=unit, conv=block("conv.Dilated"))).train()
    network.encoder.stem.eval()  # a part of its own mode keeps it
    next(m for m in network.modules() if isinstance(m, nn.Conv2d)).padding_mode = "reflect"
    next(network.parameters()).requires_grad_(False)
    before, numbers = state(network), torch.get_rng_state()
    values = {key: value.clone() for key, value in network.state_dict().items()}
    MEASURES[measure](network)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.is_grad_enabled()
    assert state(network) == before
    assert all(torch.equal(value, values[key]) for key, value in network.state_dict().items())
