import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor, nn

from medseg.data.preprocess import Preprocessing
from medseg.errors import ConfigError, DataError, ResourceError
from medseg.inference.memory import Shapes
from medseg.inference.predictor import Predictor
from medseg.inference.segment import plan_memory
from medseg.inference.view import Place
from medseg.models.evidence import Evidence
from medseg.models.weights import TrainedModel, load_model
from medseg.volumes import Volume

AsVolume = Callable[..., Volume]
Turn = Callable[..., tuple[np.ndarray, np.ndarray]]
MakeModel = Callable[..., Path]
AFFINE = np.diag([1.0, 1.25, 1.5, 1.0])


class Spy(nn.Module):
    """Passes windows through a network and remembers what happened."""

    def __init__(self, network: nn.Module, fail: Callable[[torch.Tensor], bool]):
        super().__init__()
        self.network = network
        self.fail = fail
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(image.shape))
        if self.fail(image):
            raise torch.OutOfMemoryError("no memory")
        return self.network(image)


def spied(model: TrainedModel, fail: Callable = lambda _: False, **options) -> tuple:
    network = Spy(model.network, fail)
    trained = TrainedModel(
        network=network, card=model.card, source=model.source, sha256=model.sha256
    )
    return network, Predictor(trained, device="cpu", **options)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_windows_have_the_size_of_the_patch_and_cover_the_grid(
    overlap: float, model: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    network, predictor = spied(model, overlap=overlap)
    prediction = predictor.predict(as_volume(scan[None]))
    windows = sum(shape[0] for shape in network.shapes)
    assert {shape[1:] for shape in network.shapes} == {(1, 16, 16, 16)}
    assert windows == 8  # 20 x 22 x 18 voxels: two along every axis
    assert prediction.labels.shape == scan.shape
    assert prediction.labels.dtype == np.uint8
    assert prediction.probabilities is None
    assert set(prediction.seconds) == {"preprocess", "network", "restore"}
    assert len(np.unique(prediction.labels)) > 1


def test_one_window_that_holds_all_is_the_network_itself(
    make_model: MakeModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    model = load_model(make_model(3, patch_size=(20, 22, 18)))
    volume = as_volume(scan[None])
    predictor = Predictor(model, device="cpu")
    with torch.no_grad():
        logits = model.network(predictor.preprocessing.image(volume)[None])[0]
    prediction = predictor.predict(volume, probabilities=True)
    np.testing.assert_array_equal(prediction.labels, logits.argmax(0).numpy())
    assert prediction.probabilities is not None
    np.testing.assert_allclose(prediction.probabilities, logits.softmax(0).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dims"),
    [((5, 6, 7), 3), ((1, 1, 1), 3), ((17, 40, 3), 3), ((17, 19, 1), 3), ((5, 23, 4), 2)],
)
def test_any_size_is_predicted(
    shape: tuple[int, ...], dims: int, make_model: MakeModel, as_volume: AsVolume
) -> None:
    image = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    prediction = Predictor(load_model(make_model(dims)), device="cpu").predict(
        as_volume(image), probabilities=True
    )
    assert prediction.labels.shape == shape
    assert prediction.probabilities is not None
    assert prediction.probabilities.shape == (3, *shape)


class EnoughError(Exception):
    """There was memory, and the network was asked."""


def least_memory(
    model: TrainedModel, volume: Volume, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> int:
    """The least free memory at which a volume is predicted, in bytes."""
    predictor = Predictor(model, device="cpu", window_bytes=options.pop("window_bytes", None))

    def stops(*_: Any, **__: Any) -> Tensor:
        raise EnoughError

    monkeypatch.setattr(Preprocessing, "image", stops)

    def fits(free: int) -> bool:
        memory = SimpleNamespace(available=free)
        monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
        with pytest.raises((DataError, EnoughError)) as caught:
            predictor.predict(volume, **options)
        return caught.type is EnoughError

    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


def test_memory_is_asked_for_before_any_of_it_is_taken_whatever_is_wanted(
    make_model: MakeModel,
    model: TrainedModel,
    scan: np.ndarray,
    as_volume: AsVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classes, volume, voxels = 3, as_volume(scan[None]), scan.size
    labels = least_memory(model, volume, monkeypatch)
    assert labels >= 4 * classes * 16**3
    wanted = least_memory(model, volume, monkeypatch, probabilities=True)
    assert wanted >= labels + 4 * classes * voxels
    fine = load_model(make_model(3, spacing=(0.1, 0.1, 0.1)))
    on_fine_grid = 4 * 3 * voxels * 10 * 12.5 * 15  # the image; not the scores of all classes
    assert on_fine_grid <= least_memory(fine, volume, monkeypatch) < 2 * on_fine_grid
    assert least_memory(fine, as_volume(scan[None, :, :, :1]), monkeypatch) > on_fine_grid / 30
    windows = partial(least_memory, model, volume, monkeypatch)
    assert windows(window_bytes=lambda _: lambda _: 10**6) >= 10**6 + windows(
        window_bytes=lambda _: lambda _: 0
    )
    micrometres = as_volume(scan[None], np.diag([1000.0, 1250, 1500, 1]))
    assert least_memory(fine, micrometres, monkeypatch) == 1 << 40


def test_less_memory_makes_windows_fewer_and_then_sums_a_file_without_another_label(
    model: TrainedModel,
    as_volume: AsVolume,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    volume = as_volume(np.random.default_rng(0).normal(size=(1, 90, 80, 18)).astype(np.float32))
    network, predictor = spied(model, window_bytes=lambda _: lambda windows: windows << 21)
    expected = predictor.predict(volume).labels
    assert max(shape[0] for shape in network.shapes) == 4
    map_little(monkeypatch)
    needed = {
        (plan.windows, plan.spill): plan.needed
        for plan in shapes_of(predictor, volume).plans([lambda windows: windows << 21])
    }
    assert [*needed] == [(4, False), (2, False), (1, False), (1, True)]
    assert sorted(needed.values(), reverse=True) == [*needed.values()]
    for (windows, spill), enough in needed.items():
        network.shapes.clear()
        memory = SimpleNamespace(available=enough)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        plan = plan_memory([predictor.view], volume, predictor.device, classes=3)
        assert (plan.windows, plan.spill) == (windows, spill)
        monkeypatch.setattr(Preprocessing, "image", prepared(Preprocessing.image))
        np.testing.assert_array_equal(predictor.predict(volume).labels, expected)
        assert max(shape[0] for shape in network.shapes) == windows
        monkeypatch.undo()
        map_little(monkeypatch)


def map_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mapped of sums in a file is less than those of a tiny volume."""
    monkeypatch.setattr("medseg.inference.sliding_window._MAPPED_VALUES", 1)
    monkeypatch.setattr("medseg.inference.memory._MAPPED_AROUND", 0)


def shapes_of(predictor: Predictor, volume: Volume) -> Shapes:
    size = volume.array.shape[1:]
    return Shapes(
        own=size,
        across=size[1] * size[2],
        classes=3,
        views=[predictor.view.shapes(volume, 0)],
        images=[math.prod(size)],
    )


def prepared(image: Callable) -> Callable:
    """`Preprocessing.image`, which asks for memory on its own, where enough is free."""

    def _image(self: Preprocessing, volume: Volume) -> Tensor:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1 << 40))
            return image(self, volume)

    return _image


@pytest.mark.parametrize(
    ("has_bf16", "changed", "dice", "taken"),
    [
        (True, 1e-5, 0.9, ("bf16", 0.25)),
        (True, 0.01, 0.9, ("fp32", 0.5)),
        (True, 1e-5, 0.89, ("fp32", 0.5)),
        (True, None, None, ("fp32", 0.5)),
        (False, 1e-5, 0.9, ("fp32", 0.25)),
    ],
)
def test_quicker_ways_are_taken_where_the_card_proves_them_equal(
    has_bf16: bool,
    changed: float | None,
    dice: float,
    taken: tuple[str, float],
    model: TrainedModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("medseg.inference.predictor.computes_in_bf16", lambda _: has_bf16)
    evidence = [
        Evidence(precision=p, overlap=o, cases=2, changed=changed, dice=dice, plain_dice=0.9)
        for p, o in (("fp32", 0.25), ("bf16", 0.5), ("bf16", 0.25))
        if changed is not None
    ]
    card = replace(model.card, evidence=evidence)
    predictor = Predictor(replace(model, card=card), device="cpu", overlap=None)
    assert (predictor.precision, predictor.overlap) == taken
    assert Predictor(replace(model, card=card), device="cpu").overlap == 0.5  # unless asked for


def test_a_window_of_other_axes_and_an_unknown_precision_are_refused(model: TrainedModel) -> None:
    for options in ({"window": (16, 16)}, {"window": (16, 16, 0)}, {"precision": "fp8"}):
        with pytest.raises(ConfigError, match=r"window=.* must|precision=.* must"):
            Predictor(model, device="cpu", **options)


def test_short_memory_of_a_gpu_makes_windows_fewer_then_moves_to_the_cpu(
    model: TrainedModel,
    scan: np.ndarray,
    as_volume: AsVolume,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("WARNING")
    expected = Predictor(model, device="cpu").predict(as_volume(scan[None])).labels
    network, predictor = spied(model, fail=lambda image: len(image) > 2)
    cpu = torch.device("cpu")
    places = [Place(compute_on=cpu, gather_on=cpu, windows=n) for n in (4, 3, 1)]
    monkeypatch.setattr("medseg.inference.view.places", lambda *_: iter(places))
    found = predictor.predict(as_volume(scan[None])).labels
    assert [shape[0] for shape in network.shapes] == [4, 3, *[1] * 8]
    assert caplog.text.count("GPU memory is short") == 2
    np.testing.assert_array_equal(found, expected)


def test_no_window_that_fits_is_an_error_of_the_machine(
    model: TrainedModel, scan: np.ndarray, as_volume: AsVolume
) -> None:
    _, predictor = spied(model, fail=lambda _: True)
    with pytest.raises(ResourceError, match="not even one window fits the memory"):
        predictor.predict(as_volume(scan[None]))
