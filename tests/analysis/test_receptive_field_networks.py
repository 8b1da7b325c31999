"""Receptive fields of networks, followed through their steps, against the gradient's support."""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from medseg.analysis.trace import trace
from medseg.blocks import conv, unit
from medseg.models.description import build_network

from ..blocks.specs import smallest_kernel
from ..models.grid import FACTORS, SLOTS, is_impossible, text_of
from ..models.networks import name_of, unet
from .functions import seen
from .positive import positive, seen_by_gradient

STRIDES = {dims: [(1, 2), (1, 2, 2), (1, (1,) * (dims - 1) + (2,), 2), (1, 3)] for dims in (2, 3)}


def along(stride: Any, axis: int) -> int:
    return stride if isinstance(stride, int) else stride[axis]


def fits(cell: dict[str, Any], strides: tuple[Any, ...]) -> bool:
    if is_impossible(cell):
        return False
    if isinstance(cell["conv"], conv.Deformable) and (strides != (1, 2) or cell["dims"] == 3):
        return (
            False  # grid_sample hits a voxel exactly where the size is a power of two; 3-D is slow
        )
    steps = [max(along(stride, axis) for axis in range(cell["dims"])) for stride in strides]
    resized = math.prod(steps) if cell["network"][0] == "full_scale" else max(steps)
    smallest = min(smallest_kernel(cell["upsample"]), smallest_kernel(cell["downsample"]))
    return smallest >= resized


def drawn_cells() -> list[tuple[dict[str, Any], tuple[Any, ...]]]:
    """Few networks, with strides that fit, so that every option of the grid is in one of them."""
    dice = random.Random(0)
    missing = {(factor, i) for factor, options in FACTORS.items() for i in range(len(options))}
    cells = []
    while missing:
        found: dict[int, Any] = {}  # by the number of options that are new
        for _ in range(200):
            drawn = {factor: dice.randrange(len(options)) for factor, options in FACTORS.items()}
            drawn |= dict([min(missing)])
            cell = {factor: FACTORS[factor][i] for factor, i in drawn.items()}
            strides = dice.choice(STRIDES[cell["dims"]])
            if fits(cell, strides):
                found[len(missing & drawn.items())] = drawn, cell, strides
        drawn, cell, strides = found[max(found)]
        missing -= drawn.items()
        cells.append((cell, strides))
    return cells


CELLS = drawn_cells()


def described(cell: dict[str, Any], strides: tuple[Any, ...]) -> dict[str, Any]:
    kind, join = cell["network"]
    slots = {slot: name_of(cell[slot]) for slot in SLOTS}
    if join is not None:
        slots["skip"] = name_of(join)
    channels = (16,) * len(strides)
    return unet(cell["dims"], channels=channels, strides=strides, decoder=kind, **slots)


def assert_the_field_is_the_gradients_support(
    network: nn.Module, size: Sequence[int], axis: int, outputs: Sequence[int], name: str
) -> None:
    traced = trace(network, 1, size)
    image = torch.rand(1, 1, *size, dtype=torch.float64)
    expected = seen_by_gradient(positive(network), image, axis, outputs)
    found = seen(traced, axis, outputs)
    assert expected.any(axis=1).all(), name
    for output, one, other in zip(outputs, found, expected, strict=True):
        wrong = np.flatnonzero(one != other).tolist()
        assert not wrong, f"{name}: {output=} of {size=} {axis=} at {wrong}"


def every_phase(length: int) -> list[int]:
    """Borders, and a whole period in the middle."""
    return [0, 1, *range(length // 2, length // 2 + 4), length - 1]


@pytest.mark.parametrize("number", range(len(CELLS)))
def test_the_field_of_a_network_of_the_grid_is_the_gradients_support(number: int) -> None:
    (cell, strides), dice = CELLS[number], random.Random(number)
    dims = cell["dims"]
    deformable = isinstance(cell["conv"], conv.Deformable)
    wide = dims == 2 or isinstance(cell["unit"], unit.Inception)  # which pools over 3 voxels
    coarse = 4 if deformable else 3 if wide else 2
    size = [coarse * math.prod(along(s, axis) for s in strides) for axis in range(dims)]
    axis, length = dice.randrange(dims), 32 if deformable else dice.choice((24, 31, 36))
    size[axis] = length
    assert_the_field_is_the_gradients_support(
        build_network(described(cell, strides)),
        size,
        axis,
        every_phase(length),
        f"{text_of(cell)}, {strides=}",
    )


def monai_unet(dice: random.Random, dims: int) -> nn.Module:
    strides = dice.choice([(2,), (2, 2), (1, 2), (3,)])
    return nets.UNet(
        dims,
        1,
        2,
        channels=[dice.choice((2, 3, 4)) for _ in range(len(strides) + 1)],
        strides=strides,
        kernel_size=dice.choice((3, 5)),
        up_kernel_size=dice.choice((3, 5)),
        num_res_units=dice.choice((0, 1, 2)),
    )


def monai_basic_unet(dice: random.Random, dims: int) -> nn.Module:
    features = [dice.choice((2, 4)) for _ in range(6)]
    return nets.BasicUNet(
        dims, 1, 2, features, upsample=dice.choice(("deconv", "nontrainable", "pixelshuffle"))
    )


def monai_dynunet(dice: random.Random, dims: int) -> nn.Module:
    uneven = (1,) * (dims - 1) + (2,)
    strides: list[Any] = dice.choice([[1, 2, 2], [1, uneven, 2], [1, 3, 1], [1, 2, 1, 2]])
    kernels = [dice.choice((3, 5)) for _ in strides]
    widths = [dice.choice((2, 4)) for _ in strides]
    return nets.DynUNet(
        dims, 1, 2, kernels, strides, strides[1:], widths, res_block=dice.choice((False, True))
    )


def monai_segresnet(dice: random.Random, dims: int) -> nn.Module:
    stages = dice.choice((2, 3))
    return nets.SegResNet(
        dims,
        init_filters=8,
        out_channels=2,
        num_groups=2,
        blocks_down=[dice.choice((1, 2)) for _ in range(stages)],
        blocks_up=[1] * (stages - 1),
        upsample_mode=dice.choice(("nontrainable", "deconv", "pixelshuffle")),
    )


def monai_attention_unet(dice: random.Random, dims: int) -> nn.Module:
    strides = dice.choice([(2,), (2, 2)])
    return nets.AttentionUnet(dims, 1, 2, (2, 4, 4)[: len(strides) + 1], strides)


def monai_mednext(dice: random.Random, dims: int) -> nn.Module:
    return nets.MedNeXt(
        dims,
        init_filters=2,
        out_channels=2,
        kernel_size=dice.choice((3, 5)),
        use_residual_connection=dice.choice((False, True)),
        blocks_down=(1, 1),
        blocks_bottleneck=1,
        blocks_up=(1, 1),
    )


MONAI = (
    monai_unet,
    monai_basic_unet,
    monai_dynunet,
    monai_segresnet,
    monai_attention_unet,
    monai_mednext,
)


@pytest.mark.parametrize(("seed", "draw"), [*enumerate(MONAI)])
def test_the_field_of_a_network_of_monai_is_the_gradients_support(
    seed: int, draw: Callable[[random.Random, int], nn.Module]
) -> None:
    dice = random.Random(seed)
    dims = 2 + seed % 2
    axis = dice.randrange(dims)
    network = draw(dice, dims)
    size = [16 if draw is not monai_dynunet else 12] * dims
    size[axis] = 48
    assert_the_field_is_the_gradients_support(
        network, size, axis, every_phase(48), f"{draw.__name__} {seed}"
    )
