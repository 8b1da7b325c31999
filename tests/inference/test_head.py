"""The last layer on what is blended: the scores of a network that is applied window by window."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medseg.inference.head import Features, parted
from medseg.inference.mirroring import Mirrored, mirrored
from medseg.inference.predictor import Predictor
from medseg.inference.segment import segment
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume

AsVolume = Callable[..., Volume]
MakeModel = Callable[..., Path]
OUTPUTS = 9  # of four features


@pytest.fixture
def many(make_model: MakeModel) -> Callable[[int], TrainedModel]:
    """A network of more classes than features, with 2 or 3 axes."""

    def _many(dims: int) -> TrainedModel:
        model = load_model(make_model(dims))
        conv = nn.Conv3d if dims == 3 else nn.Conv2d
        model.network.heads = nn.ModuleList([conv(4, OUTPUTS, 1)])
        return replace(
            model, card=replace(model.card, classes=[f"part {n}" for n in range(1, OUTPUTS)])
        )

    return _many


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(("dims", "axes"), [(2, []), (3, []), (3, ["left-right", "head-foot"])])
def test_scores_are_those_of_the_whole_network(
    many: Callable[[int], TrainedModel],
    scan: np.ndarray,
    as_volume: AsVolume,
    dims: int,
    axes: list[str],
    engine: str,
) -> None:
    model, volume = many(dims), as_volume(scan[None])
    model = mirrored(model, axes) if axes else model
    predictor = Predictor(model, device="cpu", engine=engine)
    assert predictor.view.head is not None
    found = predictor.predict(volume, probabilities=True)
    whole = replace(predictor.view, network=model.network, head=None)
    labelling = model.card.labelling
    expected = segment(
        [whole], volume, predictor.device, labelling=labelling, probabilities=range(OUTPUTS)
    )
    assert np.mean(found.labels != expected.labels) < 1e-3
    assert found.probabilities is not None
    assert expected.probabilities is not None
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-3)


def test_who_looks_at_windows_sees_logits(
    many: Callable[[int], TrainedModel], scan: np.ndarray, as_volume: AsVolume
) -> None:
    model = many(3)

    def observe(windows: Tensor, logits: Tensor, _starts: list[tuple[int, ...]]) -> None:
        seen.append(len(windows))
        torch.testing.assert_close(logits, model.network(windows), atol=1e-4, rtol=1e-4)

    seen: list[int] = []
    Predictor(model, device="cpu").predict(as_volume(scan[None]), observe=lambda _image: observe)
    assert seen


def test_less_memory_is_planned(
    many: Callable[[int], TrainedModel], scan: np.ndarray, as_volume: AsVolume
) -> None:
    view, volume = Predictor(many(3), device="cpu").view, as_volume(scan[None])
    whole = replace(view, head=None)
    planned, before = (v.shapes(volume, 0).sums(OUTPUTS, 1, spill=False) for v in (view, whole))
    assert planned * (OUTPUTS + 1) == before * 5


def test_a_network_is_left_whole_where_the_blend_would_not_do(
    model: TrainedModel, many: Callable[[int], TrainedModel]
) -> None:
    assert parted(model.network) == (model.network, None)  # fewer classes than features
    sided = Mirrored(many(3).network, [0], sides=0, order=[0, 2, 1, *range(3, OUTPUTS)])
    assert parted(sided) == (sided, None)
    elsewhere = Mirrored(sided.network, [1], sides=0, order=sided.order)
    body, head = parted(elsewhere)
    assert head is not None
    assert isinstance(body, Mirrored)
    assert isinstance(body.network, Features)
