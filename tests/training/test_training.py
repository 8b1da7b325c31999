"""The optimisation: it learns, its checkpoints are whole, its precision fits the machine."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medseg import hardware
from medseg.blocks.conv import DepthwiseSeparable, Standard
from medseg.blocks.downsample import Strided
from medseg.blocks.unit import Plain
from medseg.blocks.upsample import Transposed
from medseg.errors import ConfigError, DataError, ResourceError
from medseg.hardware import choose_precision, has_native_depthwise, require_precision
from medseg.labelling import Labelling
from medseg.models.decoder import Decoder
from medseg.models.encoder import Encoder
from medseg.models.unet import UNet
from medseg.training.callbacks import DivergedError, History, StopOnDivergence
from medseg.training.module import SegmentationModule
from medseg.training.trainer import AtomicCheckpointIO, TrainingPlan

CPU = torch.device("cpu")


def make_network(conv: Any = None, *, deep_supervision: bool = False) -> UNet:
    shape = {"spatial_dims": 2, "channels": (8, 16, 32), "strides": (1, 2, 2), "depths": 1}
    slots = {"conv": conv or Standard(), "unit": Plain()}
    return UNet(
        encoder=Encoder(in_channels=1, downsample=Strided(), **shape, **slots),
        decoder=Decoder(upsample=Transposed(), **shape, **slots),
        num_classes=3,
        deep_supervision=deep_supervision,
    )


def make_module(*, deep_supervision: bool = False) -> SegmentationModule:
    return SegmentationModule(
        network=make_network(deep_supervision=deep_supervision),
        loss=DiceCELoss(include_background=False, to_onehot_y=True, softmax=True, batch=True),
        optimizer=lambda parameters: torch.optim.AdamW(parameters, lr=1e-2),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0),
        labelling=Labelling(("a", "b")),
        patch_size=[16, 16],
        deep_supervision=deep_supervision,
    )


def batch_of_squares() -> dict[str, torch.Tensor]:
    label = torch.zeros(2, 1, 16, 16, dtype=torch.uint8)
    label[:, :, 2:9, 3:12] = 1
    label[:, :, 10:15, 1:8] = 2
    return {"label": label, "image": label.float() + 0.1 * torch.randn(label.shape)}


@pytest.mark.parametrize("deep_supervision", [False, True])
def test_one_batch_is_learned_by_heart(deep_supervision: bool) -> None:
    torch.manual_seed(0)
    module, batch = make_module(deep_supervision=deep_supervision), batch_of_squares()
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()["optimizer"]
    losses = []
    for _ in range(60):
        loss = module.training_step(batch, 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
    predicted = module.network.eval()(batch["image"]).argmax(1)
    assert (predicted == batch["label"][:, 0]).float().mean() > 0.99


def test_deep_supervision_weighs_each_coarser_head_half_of_the_next_finer() -> None:
    module, batch = make_module(deep_supervision=True).eval(), batch_of_squares()
    heads = module.network.multiscale_logits(batch["image"])  # type: ignore[operator]
    single = make_module().loss
    labels = [
        batch["label"],
        nn.functional.interpolate(batch["label"], (8, 8), mode="nearest-exact"),
    ]
    expected = sum(
        0.5**i * single(logits, label)
        for i, (logits, label) in enumerate(zip(heads, labels, strict=True))
    )
    assert module.loss(heads, batch["label"]).item() == pytest.approx(expected.item(), rel=1e-5)


def test_validation_dice_leaves_undefined_classes_out() -> None:
    module = make_module()
    logged: dict[str, float] = {}
    module.log = lambda name, value, **_: logged.update({name: value})  # type: ignore[method-assign]
    module._dice = [[0.5, None], [0.7, None]]
    module.on_validation_epoch_end()
    assert logged["val/dice_a"] == pytest.approx(0.6)
    assert logged["val/dice"] == pytest.approx(0.6)
    assert logged["val/dice_b"] != logged["val/dice_b"]


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, target: Path):
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


class TestCheckpoints:
    def test_round_trip(self, tmp_path: Path) -> None:
        content = {"state_dict": {"w": torch.arange(3)}, "epoch": 2}
        AtomicCheckpointIO().save_checkpoint(content, tmp_path / "a.ckpt")
        loaded = AtomicCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")
        assert loaded["epoch"] == 2
        assert torch.equal(loaded["state_dict"]["w"], torch.arange(3))

    def test_a_write_that_falls_short_leaves_the_former_checkpoint(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "last.ckpt"
        AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": 1}, path)

        def disk_full(_content: Any, target: Path) -> None:
            Path(target).write_bytes(b"half")
            raise RuntimeError("unexpected pos 3456 vs 3350")

        monkeypatch.setattr(torch, "save", disk_full)
        with pytest.raises(ResourceError, match=r"last\.ckpt.*not written in full"):
            AtomicCheckpointIO().save_checkpoint({"state_dict": {}, "epoch": 2}, path)
        assert AtomicCheckpointIO().load_checkpoint(path)["epoch"] == 1
        assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]

    def test_a_pickle_is_refused_even_if_asked_for(self, tmp_path: Path) -> None:
        path, target = tmp_path / "evil.ckpt", tmp_path / "ran"
        torch.save({"state_dict": {}, "x": Payload(target)}, path)
        with pytest.raises(DataError, match=r"evil\.ckpt.*pickle"):
            AtomicCheckpointIO().load_checkpoint(path, weights_only=False)
        assert not target.exists()


class TestPrecision:
    @pytest.mark.parametrize("wanted", ["bf16", "fp16", "fp32"])
    def test_a_named_precision_is_kept(self, wanted: str) -> None:
        assert choose_precision(wanted, make_network(), CPU) == wanted

    @pytest.mark.parametrize(
        ("wanted", "capability", "has_units", "device", "is_refused"),
        [
            ("bf16", "AVX2", False, "cpu", True),
            ("bf16", "AVX512", False, "cpu", False),
            ("bf16", "DEFAULT", True, "cpu", False),
            ("fp16", "AVX512", True, "cpu", True),
            ("fp16", "AVX2", False, "cuda", False),
            ("fp32", "AVX2", False, "cpu", False),
            ("auto", "AVX2", False, "cpu", False),
        ],
    )
    def test_a_format_without_kernels_is_refused(
        self, monkeypatch: pytest.MonkeyPatch, wanted: str, capability: str, has_units: bool,
        device: str, is_refused: bool,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(hardware, "computes_in_bf16", lambda _: has_units)
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
        with pytest.raises(ResourceError) if is_refused else nullcontext():
            require_precision(wanted, torch.device(device))

    def test_an_unknown_one_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"precision='int8'.*auto"):
            choose_precision("int8", make_network(), CPU)

    @pytest.mark.parametrize(("has_units", "expected"), [(True, "bf16"), (False, "fp32")])
    def test_auto_follows_the_processor(
        self, monkeypatch: pytest.MonkeyPatch, has_units: bool, expected: str
    ) -> None:
        monkeypatch.setattr(hardware, "computes_in_bf16", lambda _: has_units)
        assert choose_precision("auto", make_network(), CPU) == expected

    @pytest.mark.parametrize(
        ("network", "native"),
        [
            (nn.Conv3d(4, 4, 3, groups=4), True),
            (nn.ConvTranspose2d(4, 4, 3, groups=4), True),
            (nn.Conv3d(4, 4, 3, groups=2), False),
            (nn.Conv2d(4, 4, 3, groups=4), False),
            (DepthwiseSeparable()(3, 4, 4), False),
            (make_network(DepthwiseSeparable()), False),
        ],
        ids=str,
    )
    def test_auto_keeps_torchs_own_depthwise_convolutions_in_fp32_on_a_cpu(
        self, monkeypatch: pytest.MonkeyPatch, network: nn.Module, native: bool
    ) -> None:
        monkeypatch.setattr(hardware, "computes_in_bf16", lambda _: True)
        assert has_native_depthwise(network) == native
        assert choose_precision("auto", network, CPU) == ("fp32" if native else "bf16")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"trainer\.device='tpu' must be one of"):
        TrainingPlan(epochs=1, device="tpu")


@pytest.mark.parametrize(
    ("steps", "median"),
    [
        ([0.0, 0.0, 0.0, 1.0] * 5, 0.25),  # handed to a GPU, which is waited for at the last
        ([2.0, 9.0, 2.0], 2.0),
        ([0.1, 0.2, 0.3], 0.2),
        ([], None),
    ],
)
def test_short_steps_are_timed_by_the_second(steps: list[float], median: float | None) -> None:
    history = History()
    history.step_seconds = steps
    assert history.median_step_seconds == pytest.approx(median)


def test_a_loss_that_is_no_number_ends_the_run() -> None:
    outputs = {"loss": torch.tensor(float("nan"))}
    trainer: Any = SimpleNamespace(global_step=7)
    with pytest.raises(DivergedError, match=r"loss=nan at step 7.*optimizer\.lr"):
        StopOnDivergence().on_train_batch_end(trainer, make_module(), outputs, None, 0)
    StopOnDivergence().on_train_batch_end(
        trainer, make_module(), {"loss": torch.tensor(1.0)}, None, 0
    )
