"""Ways of carrying a training step out: the same gradients, chosen by time, and no waiting."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from tests_support import QUICK, arguments
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.utils._python_dispatch import TorchDispatchMode

from medseg import hardware
from medseg.analysis.cost import training_call
from medseg.cli.train import main
from medseg.errors import ConfigError, ResourceError
from medseg.experiment import fit as fitting
from medseg.models.description import build_network
from medseg.training.execution import WAYS, Step, choose_execution, executed
from medseg.training.module import SegmentationModule
from medseg.training.trainer import TrainingPlan

from ..models.networks import unet

IMAGE = (2, 1, 16, 16, 16)


def network_of() -> nn.Module:
    torch.manual_seed(0)
    return build_network(unet(3))


def step_of(device: str = "cuda", **options: Any) -> Step:
    network = network_of()
    call = training_call(network, deep_supervision=False)
    known: dict[str, Any] = {"shape": IMAGE, "precision": "fp32", "device": torch.device(device)}
    return Step(network=network, call=call, **({"steps": 10} | known | options))


# torch's tracer makes an instance of every autograd.Function that it meets
@pytest.mark.filterwarnings("ignore:.*autograd.function.Function:DeprecationWarning")
@pytest.mark.parametrize("way", ["channels_last", "compiled"])
def test_every_way_has_the_same_gradients(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda call, **options: compiled(call, backend="aot_eager", **options)
    )
    image = torch.randn(IMAGE, generator=torch.Generator().manual_seed(1))
    found = []
    for own in ("plain", way):
        network = network_of()
        call = executed(own, network, training_call(network, deep_supervision=False))
        call(network, image).square().mean().backward()
        found.append([weight.grad for weight in network.parameters()])
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("way", ["plain", "channels_last"])
def test_measuring_leaves_network_and_random_numbers_as_they_were(way: str) -> None:
    step = step_of("cpu")
    before = {key: value.clone() for key, value in step.network.state_dict().items()}
    random = torch.get_rng_state()
    assert step.seconds(way) > 0
    assert torch.equal(torch.get_rng_state(), random)
    torch.testing.assert_close(dict(step.network.state_dict()), before, rtol=0, atol=0)


class TestChoice:
    """A GPU of which times are given; none is needed."""

    @pytest.fixture(autouse=True)
    def gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")

    def choose(self, cache: Path, times: dict[str, float], **options: Any) -> tuple[str, list[str]]:
        measured: list[str] = []

        def measure(_step: Step, way: str) -> float:
            measured.append(way)
            if way not in times:
                raise RuntimeError("no compiler")
            return times[way]

        own = {"steps": options.pop("steps", 10), "max_seconds": options.pop("max_seconds", None)}
        described = options.pop("described", "a network")
        step = step_of(**own)
        way = choose_execution("auto", step, described, cache=cache, measure=measure, **options)
        return way, measured

    def test_the_fastest_is_taken_and_remembered(self, tmp_path: Path) -> None:
        times = {"plain": 0.1, "channels_last": 0.07}
        assert self.choose(tmp_path, times) == ("channels_last", ["plain", "channels_last"])
        assert self.choose(tmp_path, {}) == ("channels_last", [])
        other = {"plain": 0.1, "channels_last": 0.099}  # as good as equal
        assert self.choose(tmp_path, other, described="another")[0] == "plain"

    def test_a_long_training_is_compiled_if_that_is_faster(self, tmp_path: Path) -> None:
        times = {"plain": 1.0, "channels_last": 0.8, "compiled": 0.5}
        assert self.choose(tmp_path, times)[0] == "channels_last"
        assert self.choose(tmp_path, times, steps=10_000) == ("compiled", ["compiled"])
        assert self.choose(tmp_path, times, max_seconds=3600.0) == ("compiled", [])
        assert self.choose(tmp_path, times, steps=10_000, max_seconds=60.0)[0] == "channels_last"
        assert self.choose(tmp_path, times) == ("channels_last", [])  # though times are known
        without = {"plain": 1.0, "channels_last": 0.8}
        found = self.choose(tmp_path, without, steps=10_000, described="another")
        assert found[0] == "channels_last"
        again = self.choose(tmp_path, times, steps=10_000, described="another")
        assert again == ("compiled", ["compiled"])  # a compiler may come

    def test_a_damaged_file_is_measured_again(self, tmp_path: Path) -> None:
        self.choose(tmp_path, times := {"plain": 0.1, "channels_last": 0.07})
        for path in tmp_path.rglob("*.json"):
            path.write_text('{"plain": nu')
        assert self.choose(tmp_path, times)[1] == ["plain", "channels_last"]

    def test_a_deterministic_run_measures_nothing(self, tmp_path: Path) -> None:
        assert self.choose(tmp_path, {}, deterministic=True) == ("plain", [])


@pytest.mark.parametrize("wanted", WAYS[:3])
def test_what_is_asked_for_is_done(tmp_path: Path, wanted: str) -> None:
    assert choose_execution(wanted, step_of("cpu"), "", cache=tmp_path) == wanted


def test_on_a_cpu_layers_choose_their_layout(tmp_path: Path) -> None:
    assert choose_execution("auto", step_of("cpu"), "", cache=tmp_path) == "plain"
    with pytest.raises(ResourceError):
        choose_execution("cuda_graphs", step_of("cpu"), "", cache=tmp_path)


def test_tf32_needs_a_gpu() -> None:
    with pytest.raises(ResourceError):
        hardware.require_precision("tf32", torch.device("cpu"))
    assert TrainingPlan(epochs=1, precision="tf32").precision == "tf32"


class Waits(TorchDispatchMode):
    """Notes which lines take a number out of a tensor, for which a GPU would be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None):
        waits = ("_local_scalar_dense", "nonzero", "is_nonzero", "_unique2", "masked_select")
        if operator.overloadpacket.__name__ in waits:
            frames = [f"{f.filename}:{f.lineno}" for f in traceback.extract_stack()]
            self.lines.append(next(
                (own for own in reversed(frames) if "torch/utils" not in own
                 and "test_execution" not in own and "torch/_" not in own), ""
            ))  # fmt: skip
        return operator(*args, **(kwargs or {}))


class Watch(pl.Callback):
    """Watches the steps of an epoch, from the first batch on."""

    def __init__(self) -> None:
        self.waits, self.steps = Waits(), 0

    def on_train_batch_start(self, *_: Any) -> None:
        if not self.steps:
            self.waits.__enter__()
        self.steps += 1

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            self.waits.__exit__(None, None, None)


@contextmanager
def joined_by(callback: pl.Callback) -> Iterator[None]:
    """Has every training also call `callback`."""
    made = fitting.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            fitting, "make_trainer",
            lambda *args, callbacks, **options: made(
                *args, callbacks=[*callbacks, callback], **options
            ),
        )  # fmt: skip
        yield


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.ema=0.9"],
        ["model.deep_supervision=true", "augmentation=nnunet", "optimizer=sgd"],
        ["loss=dice_topk", "trainer.execution=channels_last"],
        ["loss=dice_focal"],
        ["loss=tversky"],
    ],
    ids=lambda overrides: overrides[0],
)
def test_a_step_waits_for_no_number(tmp_path: Path, overrides: list[str]) -> None:
    """Ten steps look at the loss once or twice, optimisers of torch at numbers on the CPU."""
    watch = Watch()
    sizes = ["data.batches_per_epoch=10", "trainer.epochs=1"]
    with joined_by(watch):
        assert main(arguments(tmp_path, *sizes, *QUICK, *overrides)) == 0
    assert watch.steps == 10
    lines = [own for own in watch.waits.lines if "torch/optim" not in own]
    assert len(lines) <= 5, lines


@pytest.mark.parametrize(
    ("fault", "overrides", "code"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), [], 4),
        (TorchDynamoException("no C++ compiler"), [], 4),
        (
            RuntimeError("upsample_cuda does not have a deterministic implementation"),
            ["trainer.deterministic=true"],
            ConfigError.exit_code,
        ),
    ],
    ids=["memory", "compiler", "deterministic"],
)
def test_what_a_device_cannot_do_is_said_in_one_line(
    tmp_path: Path,
    fault: Exception,
    overrides: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(SegmentationModule, "training_step", fail)
    assert main(arguments(tmp_path, *QUICK, *overrides)) == code
    error = capsys.readouterr().err
    assert error.count("error:") == 1
    assert "Traceback" not in error
