"""What networks look at, followed through their steps, against the support of the gradient."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from monai.networks import nets
from torch import nn

from medseg.arithmetic.receptive_field import seen_voxels
from medseg.arithmetic.trace import trace
from medseg.blocks import conv
from medseg.models.description import build_network

from ..blocks.specs import smallest_kernel
from ..models.grid import FACTORS, is_impossible, text_of
from ..models.networks import name_of, unet
from .positive import positive, seen_by_gradient

DRAWN = 200
ACROSS = 12  # voxels along the axes that are not looked at


def drawn_strides(dice: random.Random, dims: int) -> tuple[Any, ...]:
    uneven = (1,) * (dims - 1) + (2,)
    return dice.choice([(1, 2), (1, 2, 2), (1, uneven, 2), (1, 3)])


def drawn_cell(dice: random.Random) -> tuple[dict[str, Any], int, tuple[Any, ...]]:
    """Blocks, dimensions and strides that fit each other."""
    while True:
        dims = dice.choice((2, 3))
        cell = {slot: dice.choice(options) for slot, options in FACTORS.items()}
        strides = drawn_strides(dice, dims)
        smallest = min(smallest_kernel(cell["upsample"]), smallest_kernel(cell["downsample"]))
        if not is_impossible(cell) and (3 not in strides or smallest > 3):
            return cell, dims, strides


def drawn_unet(dice: random.Random) -> tuple[str, nn.Module, int, list[int]]:
    cell, dims, strides = drawn_cell(dice)
    kind, join = cell["network"]
    slots = {slot: name_of(cell[slot]) for slot in FACTORS if slot != "network"}
    if join is not None:
        slots["skip"] = name_of(join)
    network = build_network(
        unet(dims, channels=(16,) * len(strides), strides=strides, decoder=kind, **slots)
    )
    # grid_sample hits a voxel exactly where the size is a power of two
    sizes = [32] if isinstance(cell["conv"], conv.Deformable) else [24, 31, 36]
    return f"{text_of(cell)}, {strides=}", network, dims, sizes


def assert_it_sees_what_the_gradient_shows(
    network: nn.Module, size: Sequence[int], axis: int, outputs: Sequence[int], name: str
) -> None:
    traced = trace(network, 1, size)
    image = torch.rand(1, 1, *size, dtype=torch.float64)
    expected = seen_by_gradient(positive(network), image, axis, outputs)
    found = seen_voxels(traced, axis, outputs)
    assert expected.any(axis=1).all(), name
    for output, one, other in zip(outputs, found, expected, strict=True):
        wrong = np.flatnonzero(one != other).tolist()
        assert not wrong, f"{name}: {output=} of {size=} {axis=} at {wrong}"


def every_phase(length: int) -> list[int]:
    """Borders, and a whole period in the middle."""
    return [0, 1, *range(length // 2, length // 2 + 4), length - 1]


@pytest.mark.parametrize("seed", range(DRAWN))
def test_every_network_of_the_grid_sees_what_its_gradient_shows(seed: int) -> None:
    dice = random.Random(seed)
    name, network, dims, sizes = drawn_unet(dice)
    axis, length = dice.randrange(dims), dice.choice(sizes)
    size = [ACROSS] * dims
    size[axis] = length
    assert_it_sees_what_the_gradient_shows(network, size, axis, every_phase(length), name)


def test_every_block_is_drawn() -> None:
    cells = [drawn_cell(random.Random(seed))[0] for seed in range(DRAWN)]
    for slot, options in FACTORS.items():
        assert {repr(option) for option in options} == {repr(cell[slot]) for cell in cells}


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
    strides: list[Any] = dice.choice([[1, 2, 2], [1, uneven, 2], [1, 3, 2], [2, 2, 2]])
    kernels = [dice.choice((3, (3,) * (dims - 1) + (1,), 5)) for _ in strides]
    widths = [dice.choice((2, 4)) for _ in strides]
    return nets.DynUNet(
        dims, 1, 2, kernels, strides, strides[1:], widths, res_block=dice.choice((False, True))
    )


def monai_segresnet(dice: random.Random, dims: int) -> nn.Module:
    stages = dice.choice((2, 3))
    return nets.SegResNet(
        dims,
        init_filters=4,
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
        norm_type=dice.choice(("group", "layer")),
    )


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "draw",
    [
        monai_unet,
        monai_basic_unet,
        monai_dynunet,
        monai_segresnet,
        monai_attention_unet,
        monai_mednext,
    ],
)
def test_networks_of_monai_see_what_their_gradient_shows(
    draw: Callable[[random.Random, int], nn.Module], seed: int
) -> None:
    dice = random.Random(seed)
    dims = 2 + seed % 2
    axis = dice.randrange(dims)
    network = draw(dice, dims)
    size = [16] * dims if draw is not monai_dynunet else [12] * dims
    size[axis] = 48
    assert_it_sees_what_the_gradient_shows(
        network, size, axis, every_phase(48), f"{draw.__name__} {seed}"
    )
