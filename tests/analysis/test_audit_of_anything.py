"""Whatever torch runs can be audited: what is said is right, and what is not known is named."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.analysis.audit import THROUGH, Audit, audit, far_from_borders
from medseg.analysis.audit_document import markdown
from medseg.cli.audit import main
from medseg.errors import ConfigError

from .functions import Function
from .positive import positive, seen_by_gradient

SIZE = (32, 8)


def conv(kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Conv2d(1, 1, kernel, stride, kernel // 2)


class Layers(nn.Module):
    """A function of an image and of layers."""

    def __init__(self, function: Callable[..., Tensor], *layers: nn.Module):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, *self.layers)


def in_windows(x: Tensor, width: int) -> Tensor:
    """The sum over each window of rows; the last may be narrower."""
    rest = -x.shape[2] % width
    padded = functional.pad(x, (0, 0, 0, rest))
    windows = padded.unflatten(2, (-1, width))
    return (windows + windows.sum(3, keepdim=True)).flatten(2, 3)[:, :, : x.shape[2]]


def shifted_windows(x: Tensor, down: nn.Module) -> Tensor:
    """Windows of 5 cells, then of 5 cells shifted by 2, on a grid of half the resolution."""
    cells = in_windows(down(x), 5)
    shifted = torch.roll(in_windows(torch.roll(cells, -2, 2), 5), 2, 2)
    return functional.interpolate(shifted, scale_factor=2)


def resized(x: Tensor, other: Tensor) -> Tensor:
    return functional.interpolate(other, size=x.shape[2:], mode="bilinear")


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows, _ = self.lstm(x[0, 0].unsqueeze(2))
        return rows[None, None, :, :, 0]


class Positions(nn.Module):
    """Tokens with learned positions, that all attend to each other: one size alone fits."""

    def __init__(self):
        super().__init__()
        self.down, self.up = nn.Conv2d(1, 2, 4, 4), nn.ConvTranspose2d(2, 1, 4, 4)
        self.places = nn.Parameter(torch.rand(1, 16, 2))

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.down(x).flatten(2).transpose(1, 2) + self.places
        tokens = (tokens @ tokens.transpose(1, 2)).softmax(2) @ tokens
        return self.up(tokens.transpose(1, 2).unflatten(2, (8, 2)))


def unpooled(x: Tensor) -> Tensor:
    pooled, places = functional.max_pool2d(x, 3, 2, 1, return_indices=True)
    return functional.max_unpool2d(pooled, places, 3, 2, 1, output_size=x.shape[2:])


def sampled(x: Tensor) -> Tensor:
    same = torch.eye(2, 3, dtype=x.dtype)[None]
    grid = functional.affine_grid(same, list(x.shape), align_corners=False)
    return functional.grid_sample(x, grid, align_corners=False)


def causal(x: Tensor) -> Tensor:
    """Each row attends to those before it."""
    return functional.scaled_dot_product_attention(x, x, x, is_causal=True)


class Locked(nn.Module):
    """It cannot be copied."""

    def __init__(self):
        super().__init__()
        self.conv, self.lock = conv(), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


# name → network, extents far from every border along axis 0 (None: the whole image; words: why not)
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int] | str | None]] = {
    "adaptive mean": (
        lambda: Layers(lambda x, c: c(functional.adaptive_avg_pool2d(x, (8, 2))), conv()), "size"),
    "adaptive mean, interpolated": (
        lambda: Layers(
            lambda x, c: resized(x, c(functional.adaptive_avg_pool2d(x, (16, 2)))), conv()),
        "size"),
    "squeeze and excitation": (
        lambda: Layers(lambda x, c: c(x) * x.mean((2, 3), keepdim=True).sigmoid(), conv()), None),
    "windows with shifts": (lambda: Layers(shifted_windows, nn.Conv2d(1, 1, 2, 2)), (20, 20)),
    "positions of one size": (Positions, "fixed"),
    "LSTM": (Recurrent, None),
    "grids aligned at their corners": (
        lambda: nn.Sequential(
            conv(3, 2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        (5, 5)),
    "flip": (lambda: Layers(lambda x, c: c(x).flip(2), conv()), (3, 3)),
    "maxima put back, windows overlapping": (lambda: Function(unpooled), (3, 5)),
    "weights that are calculated": (
        lambda: Function(
            lambda x: functional.layer_norm(x, x.shape[-1:], weight=x.mean((0, 1, 2)))), None),
    "filled with a mean": (lambda: Function(lambda x: torch.zeros_like(x).fill_(x.mean())), None),
    "a loop over slices": (
        lambda: Layers(
            lambda x, c: torch.cat([c(part) for part in x.split(4, 2)], 2), conv()), (2, 3)),
    "places that are calculated": (lambda: Function(sampled), None),
    "a choice by value": (
        lambda: Layers(lambda x, c: c(x) if float(x.detach().mean()) > 9 else c(c(x)), conv()),
        "values"),
    "a lock": (Locked, "values"),
    "windows that overlap": (
        lambda: Layers(lambda x, c: c(x).unfold(2, 4, 2).unfold(3, 2, 1).sum((4, 5)), conv()),
        (6, 6)),
    "values that a mask leaves out": (lambda: Function(causal), None),
    "TorchScript": (lambda: nn.Sequential(torch.jit.script(conv()), conv()), (5, 5)),
    "an unknown operation": (lambda: Function(lambda x: x.cumsum(2)), None),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_said_holds_and_what_is_not_known_is_named(kind: str) -> None:
    build, expected = KINDS[kind]
    network = build()
    result = audit(network, (1, 1, *SIZE), seconds=20)
    assert result.field[0] is None or isinstance(expected, tuple)
    assert (far_from_borders(0) in result.not_known) == (expected in ("size", "fixed"))
    assert any("noise" in why for why in result.not_known.values()) == (expected == "values")
    if isinstance(expected, tuple):
        assert (result.field[0].smallest, result.field[0].largest) == expected
    assert_it_is_the_gradients(network, result, kind)
    json.dumps(result.plain())
    assert markdown(result)


def assert_it_is_the_gradients(network: nn.Module, result: Audit, kind: str) -> None:
    """In this image; an operation that is not followed may count as more."""
    image = torch.rand(1, 1, *SIZE, dtype=torch.float64)
    bounded = any(name.startswith(THROUGH) for name in result.not_known)
    function = unpooled_anywhere if "maxima put back" in kind else positive(network)
    for axis, here in enumerate(result.field_here):
        seen = seen_by_gradient(function, image, axis, range(result.logits[1 + axis]))
        extents = [row.nonzero()[0] for row in seen]
        found = [int(places[-1] - places[0] + 1) if len(places) else 0 for places in extents]
        assert here is not None
        if bounded:
            assert here[1] >= max(found)
        else:
            assert here == (min(found), max(found)), axis


def unpooled_anywhere(x: Tensor) -> Tensor:
    mean = functional.avg_pool2d(x, 3, 2, 1)
    return functional.conv_transpose2d(mean, torch.ones_like(x[:, :, :3, :3]), None, 2, 1, 1)


@pytest.mark.parametrize("size", [32, 64, 128])
def test_a_field_that_grows_with_the_image_is_that_of_this_image(size: int) -> None:
    network = nn.Sequential(conv(), nn.AdaptiveMaxPool2d((8, 2)), conv(1))
    result = audit(network, (1, 1, size, 8))
    cell = math.ceil(size / 8)
    assert result.field[0] is None
    assert result.field_here[0] == (cell + 1, cell + 2)
    assert far_from_borders(0) in result.not_known


def test_fields_of_shifted_windows_are_those_of_every_position() -> None:
    """A window is no multiple of the strides, so that one period of these would not do."""
    network = nn.Sequential(conv(), Layers(shifted_windows, nn.Conv2d(1, 1, 2, 2)), conv())
    field = audit(network, (1, 1, *SIZE)).field[0]
    assert field is not None
    image = torch.rand(1, 1, 256, 8, dtype=torch.float64)
    seen = seen_by_gradient(positive(network), image, 0, range(100, 150))
    extents = [int(places[-1] - places[0] + 1) for places in (row.nonzero()[0] for row in seen)]
    assert (min(extents), max(extents)) == (field.smallest, field.largest)


def test_a_voxel_that_cannot_be_normalised_in_training_can_be_in_prediction() -> None:
    network = nn.Sequential(conv(3, 2), nn.BatchNorm2d(1), nn.ConvTranspose2d(1, 1, 2, 2))
    result = audit(network, (1, 1, 2, 2))
    assert result.memory["inference"].keys() == {"fp32", "bf16"}
    assert not result.memory["training"]
    assert {name for name in result.not_known if "training" in name}
    assert audit(network, (2, 1, 2, 2)).memory["training"].keys() == {"fp32", "bf16"}


def test_no_part_takes_longer_than_is_allowed_or_takes_others_with_it() -> None:
    result = audit(nn.Sequential(conv(), conv()), (1, 1, *SIZE), seconds=0)
    assert result.total.macs == 2 * 9 * 32 * 8
    assert result.field == (None, None)
    assert {far_from_borders(axis) for axis in (0, 1)} <= result.not_known.keys()
    assert not any(result.memory.values())
    assert "| 0 | all |" not in markdown(result)


def test_what_torch_refuses_is_refused() -> None:
    with pytest.raises(ConfigError, match="division"):
        audit(Function(lambda x: x[:, :, : x.shape[2] // 0]), (1, 1, *SIZE))


OWN = """
from pathlib import Path
from torch import nn
Path(__file__).with_suffix(".ran").touch()

def make():
    return nn.Conv2d(1, 3, 3, padding=1)

def number():
    return 3

def fault():
    return 1 / 0
"""


class TestOwnCode:
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request) -> Path:
        self.module = f"own_{request.node.name.split('[')[0]}"
        (tmp_path / f"{self.module}.py").write_text(OWN)
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(str(tmp_path))
        return tmp_path

    def arguments(self, factory: str) -> list[str]:
        return ["--network", f"{self.module}:{factory}", "--patch-size", "8", "8"]

    def test_is_not_run_unless_that_is_allowed(self, folder: Path, capsys) -> None:
        assert main(self.arguments("make")) == 2
        assert "--allow-import" in capsys.readouterr().err
        assert not list(folder.glob("*.ran"))

    def test_is_audited_and_measured(self, capsys) -> None:
        assert main([*self.arguments("make"), "--allow-import", "--measure"]) == 0
        said = capsys.readouterr().out
        assert "| multiply-accumulates | 1,728 |" in said
        assert "peak of the process" in said

    @pytest.mark.parametrize("factory", ["number", "fault", "nowhere"])
    def test_that_makes_no_network_is_refused_in_a_line(self, factory: str, capsys) -> None:
        assert main([*self.arguments(factory), "--allow-import"]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_has_to_be_named_where_it_is_allowed(self, capsys) -> None:
        assert main(["--allow-import", "--patch-size", "16", "16"]) == 2
        assert "--network" in capsys.readouterr().err
