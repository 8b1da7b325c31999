"""What every block of a slot obeys, whichever block it is."""

import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Protocol

import pytest
import torch
from torch import Tensor, nn

from medseg.blocks import ndim

from .specs import (
    ACTIVATIONS,
    ANISOTROPIC_CONVS,
    CONVS,
    DOWNSAMPLES,
    EVERY_BLOCK,
    EVERY_GRID,
    EVERY_SCALE,
    NORMS,
    SLOTS,
    UNITS,
    UPSAMPLES,
    smallest_kernel,
)

CONV = CONVS[0]


def image(channels: int, grid: Sequence[int]) -> Tensor:
    return torch.randn(2, channels, *grid, requires_grad=True)


def assert_every_parameter_learns(module: nn.Module, x: Tensor) -> None:
    out = module(x)
    (out * torch.randn_like(out)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert x.grad is not None
    assert x.grad.isfinite().all()


def of_axes(dims: int, scale: int | tuple[int, ...]) -> tuple[int, ...]:
    return scale if isinstance(scale, tuple) else (scale,) * dims


def can(block: object, scale: tuple[int, ...]) -> bool:
    return max(scale) <= smallest_kernel(block)


@pytest.mark.parametrize("grid", EVERY_GRID, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (8, 4), (4, 12)])
class TestConvolution:
    @pytest.mark.parametrize("conv", CONVS, ids=repr)
    def test_keeps_the_grid_and_gives_out_channels(self, conv, inputs, outputs, grid) -> None:
        module = conv(len(grid), inputs, outputs)
        x = image(inputs, grid)
        assert module(x).shape == (2, outputs, *grid)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("index", range(len(ANISOTROPIC_CONVS[2])))
    def test_keeps_the_grid_with_a_kernel_per_axis(self, index, inputs, outputs, grid) -> None:
        conv = ANISOTROPIC_CONVS[len(grid)][index]
        module = conv(len(grid), inputs, outputs)
        assert module(image(inputs, grid)).shape == (2, outputs, *grid)
        kernel = next(module.parameters()).shape[2:]
        assert tuple(kernel) == (1, 3, 3)[: len(grid)]

    @pytest.mark.parametrize("conv", CONVS, ids=repr)
    def test_has_no_bias_and_passes_zero_as_zero(self, conv, inputs, outputs, grid) -> None:
        module = conv(len(grid), inputs, outputs)
        assert not [name for name, _ in module.named_parameters() if "bias" in name]
        assert not module(torch.zeros(1, inputs, *grid)).any()


@pytest.mark.parametrize(("dims", "scale"), EVERY_SCALE, ids=str)
class TestResampling:
    @pytest.mark.parametrize("downsample", DOWNSAMPLES, ids=repr)
    def test_downsampling_divides_the_grid(self, downsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(downsample, steps):
            with pytest.raises(ValueError, match="skipped"):
                downsample(dims, 4, scale)
            return
        coarse = (3, 5, 2)[:dims]
        x = image(4, [n * s for n, s in zip(coarse, steps, strict=True)])
        module = downsample(dims, 4, scale)
        assert module(x).shape == (2, 4, *coarse)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("upsample", UPSAMPLES, ids=repr)
    def test_upsampling_multiplies_the_grid(self, upsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(upsample, steps):
            with pytest.raises(ValueError, match="holes"):
                upsample(dims, 4, 6, scale)
            return
        coarse = (3, 5, 2)[:dims]
        module = upsample(dims, 4, 6, scale)
        x = image(4, coarse)
        assert module(x).shape == (2, 6, *(n * s for n, s in zip(coarse, steps, strict=True)))
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("downsample", DOWNSAMPLES, ids=repr)
    def test_downsampling_looks_at_every_voxel(self, downsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(downsample, steps):
            return
        x = image(1, [2 * s for s in steps])
        module = downsample(dims, 1, scale)
        # max-pooling passes one voxel per cell, so each voxel gets its turn at being the largest
        for voxel in range(x[0].numel()):
            raised = x.detach().clone()
            raised[0].view(-1)[voxel] += 100
            assert not torch.equal(module(raised), module(x)), voxel


@pytest.mark.parametrize("grid", EVERY_GRID, ids=str)
class TestUnit:
    @pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (8, 4)])
    @pytest.mark.parametrize("unit", UNITS, ids=repr)
    def test_keeps_the_grid_and_learns(self, unit, inputs, outputs, grid) -> None:
        module = unit(len(grid), inputs, outputs, CONV).eval()
        x = image(inputs, grid)
        assert module(x).shape == (2, outputs, *grid)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize("conv", CONVS, ids=repr)
    @pytest.mark.parametrize("unit", UNITS, ids=repr)
    def test_takes_every_convolution(self, unit, conv, grid) -> None:
        assert unit(len(grid), 4, 8, conv)(image(4, grid)).shape == (2, 8, *grid)


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
        *(made("upsample", b, lambda b=b: b(2, 4, 4, 2)) for b in UPSAMPLES),
        *(made("unit", b, lambda b=b: b(2, 4, 4, CONV)) for b in UNITS),
        *(made("norm", b, lambda b=b: b(2, 4)) for b in NORMS),
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
        if inspect.isclass(cls)
        and cls.__module__ == room.__name__
        and not name.startswith("_")
        and Protocol not in cls.__bases__
    }


@pytest.mark.parametrize("room", SLOTS, ids=lambda room: room.__name__)
def test_no_block_is_forgotten_in_the_lists(room) -> None:
    assert set(classes_of(room).values()) == {type(block) for block in SLOTS[room]}


@pytest.mark.parametrize("room", SLOTS, ids=lambda room: room.__name__)
def test_every_block_is_what_its_protocol_asks(room) -> None:
    protocols = [c for c in vars(room).values() if inspect.isclass(c) and Protocol in c.__bases__]
    own = [p for p in protocols if p.__module__ == room.__name__]
    assert len(own) == 1
    wanted = list(inspect.signature(own[0].__call__).parameters)
    for block in SLOTS[room]:
        assert list(inspect.signature(type(block).__call__).parameters) == wanted


@pytest.mark.parametrize("spatial_dims", [1, 2, 3])
def test_every_lookup_knows_its_dimension(spatial_dims) -> None:
    for name in ("conv_nd", "transposed_nd", "max_pool_nd", "instance_norm_nd", "batch_norm_nd"):
        assert getattr(ndim, name)(spatial_dims).__name__.endswith(f"{spatial_dims}d")
    assert ndim.linear_mode(spatial_dims) == ["linear", "bilinear", "trilinear"][spatial_dims - 1]
