"""What every norm, activation and spec obeys, whichever block it is."""

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from typing import Protocol

import pytest
import torch
from torch import nn

from medseg.layers import ndim

from .helpers import assert_every_parameter_learns, image
from .specs import (
    ACTIVATIONS,
    CONVS,
    DOWNSAMPLES,
    EVERY_BLOCK,
    EVERY_GRID,
    GUIDED_UPSAMPLES,
    NORMS,
    SKIPS,
    SLOTS,
    UNITS,
    UPSAMPLES,
)

CONV = CONVS[0]


@pytest.mark.parametrize("grid", EVERY_GRID, ids=str)
@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_a_norm_keeps_the_shape_and_has_a_scale_and_a_bias_per_channel(norm, grid) -> None:
    module = norm(len(grid), 8)
    x = image(8, grid)
    assert module(x).shape == x.shape
    assert sorted(tuple(p.shape) for p in module.parameters()) == [(8,), (8,)]
    assert_every_parameter_learns(module, x)


@pytest.mark.parametrize("norm", NORMS, ids=repr)
def test_a_norm_forgets_the_scale_and_the_offset_of_its_input(norm) -> None:
    x = torch.randn(4, 8, 9, 9)
    torch.testing.assert_close(norm(2, 8)(x), norm(2, 8)(50 * x + 7), atol=2e-3, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_an_activation_acts_voxel_by_voxel(activation) -> None:
    x = torch.randn(2, 3, 5, 7)
    whole = activation()(x.clone())
    assert whole.shape == x.shape
    one_by_one = torch.stack([activation()(v.clone()) for v in x.flatten()])
    torch.testing.assert_close(whole, one_by_one.reshape(x.shape))
    assert not torch.allclose(whole, x)


def calls() -> list:
    def made(name: str, block: object, make: Callable[[], nn.Module]):
        return pytest.param(make, id=f"{name}-{block!r}")

    return [
        *(made("conv", b, lambda b=b: b(2, 4, 4)) for b in CONVS),
        *(made("downsample", b, lambda b=b: b(2, 4, 2)) for b in DOWNSAMPLES),
        *(made("upsample", b, lambda b=b: b(2, 4, 4, 2)) for b in [*UPSAMPLES, *GUIDED_UPSAMPLES]),
        *(made("unit", b, lambda b=b: b(2, 4, 4, CONV)) for b in UNITS),
        *(made("norm", b, lambda b=b: b(2, 4)) for b in NORMS),
        *(made("skip", b, lambda b=b: b(2, 4)) for b in SKIPS),
        *(made("activation", b, lambda b=b: b()) for b in ACTIVATIONS),
    ]


@pytest.mark.parametrize("make", calls())
def test_two_calls_share_nothing(make) -> None:
    first, second = make(), make()
    for kind in (nn.Module.modules, nn.Module.parameters, nn.Module.buffers):
        assert not {id(part) for part in kind(first)} & {id(part) for part in kind(second)}
    pointers = [p.data_ptr() for module in (first, second) for p in module.parameters()]
    assert len(pointers) == len(set(pointers))


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=repr)
class TestSpec:
    def test_its_repr_evaluates_to_an_equal_spec(self, block) -> None:
        names = {name: cls for room in SLOTS for name, cls in classes_of(room).items()}
        again = eval(repr(block), names)
        assert again == block
        assert hash(again) == hash(block)

    def test_it_survives_pickling(self, block) -> None:
        assert pickle.loads(pickle.dumps(block)) == block

    def test_it_cannot_be_changed(self, block) -> None:
        for name in [*vars(block), "other"]:
            with pytest.raises((AttributeError, TypeError)):
                setattr(block, name, 3)

    def test_it_equals_no_other(self, block) -> None:
        assert sum(block == other for other in EVERY_BLOCK) == 1


def classes_of(room) -> dict[str, type]:
    return {
        name: cls
        for name, cls in vars(room).items()
        if dataclasses.is_dataclass(cls)
        and cls.__module__.startswith(room.__name__)
        and not name.startswith("_")
    }


@pytest.mark.parametrize("room", SLOTS, ids=lambda room: room.__name__)
def test_no_block_is_forgotten_in_the_lists(room) -> None:
    assert set(classes_of(room).values()) == {type(block) for block in SLOTS[room]}


@pytest.mark.parametrize("room", SLOTS, ids=lambda room: room.__name__)
def test_every_block_is_what_its_protocol_asks(room) -> None:
    classes = [c for n, c in vars(room).items() if inspect.isclass(c) and not n.startswith("_")]
    protocols = [c for c in classes if Protocol in c.__bases__]
    own = [p for p in protocols if p.__module__.startswith(room.__name__)]
    assert len(own) == 1
    wanted = list(inspect.signature(own[0].__call__).parameters)
    for block in SLOTS[room]:
        assert isinstance(block, own[0])
        assert list(inspect.signature(type(block).__call__).parameters) == wanted


@pytest.mark.parametrize("room", [r for r in SLOTS if hasattr(r, "__path__")], ids=str)
def test_a_package_offers_its_blocks_and_its_protocol_and_nothing_else(room) -> None:
    offered = {getattr(room, name) for name in room.__all__}
    protocols = {cls for cls in offered if Protocol in cls.__bases__}
    assert offered - protocols == {type(block) for block in SLOTS[room]}
    assert len(protocols) == 1


LOOKUPS = [
    ndim.conv_nd,
    ndim.depthwise_nd,
    ndim.transposed_nd,
    ndim.max_pool_nd,
    ndim.average_pool_nd,
    ndim.instance_norm_nd,
    ndim.batch_norm_nd,
    ndim.dropout_nd,
]


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_every_lookup_knows_its_dimension(spatial_dims) -> None:
    for lookup in LOOKUPS:
        assert lookup(spatial_dims).__name__.endswith(f"{spatial_dims}d")
    assert ndim.linear_mode(spatial_dims) == ["linear", "bilinear", "trilinear"][spatial_dims - 1]
