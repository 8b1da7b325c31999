"""Two networks on one volume."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from medseg.errors import ConfigError
from medseg.inference.agreement import agreement
from medseg.inference.predictor import Predictor


@pytest.fixture
def other(model):
    """The same network with other weights in its head."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        network.heads[0].bias.add_(torch.tensor([0.0, 0.3, -0.2]))
    return replace(model, network=network)


def test_a_network_agrees_with_itself(model, scan, as_volume) -> None:
    found = agreement(model, model, as_volume(scan[None]))
    assert (found.voxels, found.changed, found.difference) == (scan.size, 0, 0.0)


def test_it_counts_what_prediction_would_change(model, other, scan, as_volume) -> None:
    volume = as_volume(scan[None])
    one, two = (
        Predictor(m, device="cpu").predict(volume, probabilities=True) for m in (model, other)
    )
    found = agreement(model, other, volume)
    assert found.changed == np.sum(one.labels != two.labels) > 0
    assert found.difference == np.abs(one.probabilities - two.probabilities).max() > 0


def test_networks_of_other_classes_are_refused(model, scan, as_volume) -> None:
    other = replace(model, card=replace(model.card, classes=["liver"]))
    with pytest.raises(ConfigError, match=r"must be the same; compare networks of one dataset"):
        agreement(model, other, as_volume(scan[None]))
