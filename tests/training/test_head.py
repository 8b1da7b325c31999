"""The last layer is found in every network, and starts from the classes' shares."""

from pathlib import Path

import pytest
import torch
from torch import nn

from medseg.experiment.fit import module_of
from medseg.experiment.plan import make_plan
from medseg.labelling import Labelling
from medseg.models.description import build_network, describe
from medseg.training.head import last_layers, start_from_shares

from ..test_configs import MODELS, composed

CLASSES = Labelling(("a", "b"))
REGIONS = Labelling(("whole", "core"), regions=((1, 2), (2,)), order=(1, 2))


@pytest.mark.parametrize("data", ["mni152", "hippocampus"])
@pytest.mark.parametrize("model", MODELS)
def test_the_last_layer_moves_the_scores_of_every_network_alike(model: str, data: str) -> None:
    config = composed(f"model={model}", f"data={data}")
    network = build_network(describe(config["model"])).eval()
    layers = last_layers(network, config["data"]["num_classes"])
    assert layers
    size = [32, 32, 32][: len(config["data"]["patch_size"])]
    image = torch.randn(1, config["data"]["in_channels"], *size)
    shift = torch.arange(config["data"]["num_classes"], dtype=torch.float32)
    with torch.no_grad():
        before = network(image)
        layers[0].get_parameter("bias").add_(shift)
        after = network(image)
    expected = before + shift.reshape(1, -1, *[1] * len(size))
    torch.testing.assert_close(after, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("labelling", [CLASSES, REGIONS])
def test_without_features_the_probabilities_are_the_shares(labelling: Labelling) -> None:
    head = nn.Conv2d(4, labelling.outputs, 1)
    counts = torch.tensor([900, 75, 25])
    start_from_shares([head], counts, labelling)
    found = labelling.probabilities(head(torch.zeros(1, 4, 1, 1)), 1).flatten()
    shares = [0.9, 0.075, 0.025] if labelling is CLASSES else [0.1, 0.025]
    torch.testing.assert_close(found, torch.tensor(shares), atol=1e-6, rtol=1e-4)


def test_a_class_that_is_not_there_has_a_finite_score() -> None:
    head = nn.Conv2d(4, 3, 1)
    start_from_shares([head], torch.tensor([1000, 0, 0]), CLASSES)
    assert head.get_parameter("bias").isfinite().all()
    start_from_shares([nn.Conv2d(4, 3, 1, bias=False)], torch.ones(3), CLASSES)


@pytest.mark.parametrize("prior", [True, False])
def test_a_training_starts_from_the_shares_of_its_patches(prior: bool, tmp_path: Path) -> None:
    own = f"data.root={tmp_path}", f"data.cache={tmp_path}/cache", f"trainer.class_prior={prior}"
    plan = make_plan(composed("data=phantom", *own))
    plan.data.setup()
    (head,) = last_layers(module_of(plan).network, plan.data.config.num_classes)
    counts = plan.data.label_counts().double()
    found = head.get_parameter("bias").double().softmax(0)
    assert torch.allclose(found, counts / counts.sum(), atol=1e-6) == prior
