"""What every block obeys, whichever it is: the contract of its slot."""

import dataclasses
import inspect
import pickle
from typing import Protocol

import pytest
import torch
from torch import nn

from medseg.blocks import conv as convs
from medseg.blocks import skip as skips
from medseg.blocks import upsample as up

from ..pairwise import covering
from .helpers import assert_every_parameter_learns, image, of_axes
from .specs import (
    ACTIVATIONS,
    ANISOTROPIC_CONVS,
    CONVS,
    DOWNSAMPLES,
    EVERY_BLOCK,
    EVERY_GRID,
    EVERY_SCALE,
    GUIDED_UPSAMPLES,
    NORMS,
    SKIPS,
    SLOTS,
    UNITS,
    UPSAMPLES,
    smallest_kernel,
)

CONV = CONVS[0]
INPUTS, OUTPUTS = 12, 6  # of an upsampling; every channel of the output may be a sum of two


class TestConvolution:
    @covering(conv=CONVS, grid=EVERY_GRID, channels=[(8, 8), (8, 4), (4, 12)])
    def test_keeps_the_grid_has_no_bias_and_learns(self, conv, grid, channels) -> None:
        inputs, outputs = channels
        module = conv(len(grid), inputs, outputs)
        biases = {name for name, _ in module.named_parameters() if "bias" in name}
        assert biases == ({"motion.bias"} if isinstance(conv, convs.Deformable) else set())
        assert not module(torch.zeros(1, inputs, *grid)).any()
        x = image(inputs, grid)
        assert module(x).shape == (2, outputs, *grid)
        assert_every_parameter_learns(module, x)

    @pytest.mark.parametrize(
        ("dims", "conv"),
        [(d, c) for d, every in ANISOTROPIC_CONVS.items() for c in every],
        ids=repr,
    )
    def test_one_tap_along_an_axis_reads_no_neighbour_there(self, dims, conv) -> None:
        module = conv(dims, 4, 12).double()
        for name, parameter in module.named_parameters():
            if not name.startswith("motion"):  # a moved tap may go anywhere
                torch.nn.init.uniform_(parameter, 0.1, 0.3)
        centre, size = 5, 11
        x = torch.zeros(1, 4, *[size] * dims, dtype=torch.float64)
        x[(slice(None), slice(None), *[centre] * dims)] = 1
        changed = (module(x) - module(torch.zeros_like(x))).abs().sum((0, 1)) > 1e-12
        assert changed.shape == x.shape[2:]
        first, *others = [set(places.tolist()) for places in changed.nonzero().T]
        assert first == {centre}
        for places in others:
            assert min(places) < centre < max(places)


@covering(unit=UNITS, grid=EVERY_GRID, channels=[(8, 8), (8, 4)])
def test_a_unit_keeps_the_grid_and_learns(unit, grid, channels) -> None:
    module = unit(len(grid), *channels, CONV).eval()
    x = image(channels[0], grid)
    assert module(x).shape == (2, channels[1], *grid)
    assert_every_parameter_learns(module, x)


@covering(norm=NORMS, grid=EVERY_GRID)
def test_a_norm_has_a_scale_and_a_bias_and_ignores_those_of_its_input(norm, grid) -> None:
    module = norm(len(grid), 8)
    x = image(8, grid)
    assert module(x).shape == x.shape
    assert sorted(tuple(p.shape) for p in module.parameters()) == [(8,), (8,)]
    assert_every_parameter_learns(module, x)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module(50 * x + 7), atol=3e-3, rtol=0)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_an_activation_acts_voxel_by_voxel(activation) -> None:
    x = torch.randn(2, 3, 2, 4)
    whole = activation()(x.clone())
    one_by_one = torch.stack([activation()(v.clone()) for v in x.flatten()])
    torch.testing.assert_close(whole, one_by_one.reshape(x.shape))
    assert not torch.allclose(whole, x)


def can(block: object, scale: tuple[int, ...]) -> bool:
    return max(scale) <= smallest_kernel(block)


@pytest.mark.parametrize(("dims", "scale"), EVERY_SCALE, ids=str)
class TestResampling:
    @pytest.mark.parametrize("downsample", DOWNSAMPLES, ids=repr)
    def test_downsampling_divides_the_grid_and_reads_every_voxel(
        self, downsample, dims, scale
    ) -> None:
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
        # max-pooling passes one voxel per cell, so each voxel gets its turn at being the largest
        cells = torch.randn(1, 1, *(2 * s for s in steps))
        voxels = cells.numel()
        raised = cells.flatten(1) + 100 * torch.eye(voxels)
        raised = raised.reshape(voxels, *cells.shape[1:])
        module = downsample(dims, 1, scale)
        changed = (module(raised) != module(cells)).flatten(1).any(1)
        assert changed.all()

    @pytest.mark.parametrize("upsample", [*UPSAMPLES, *GUIDED_UPSAMPLES], ids=repr)
    def test_upsampling_multiplies_the_grid(self, upsample, dims, scale) -> None:
        steps = of_axes(dims, scale)
        if not can(upsample, steps):
            with pytest.raises(ValueError, match="holes"):
                upsample(dims, INPUTS, OUTPUTS, scale)
            return
        coarse = (3, 5, 2)[:dims]
        fine = [n * s for n, s in zip(coarse, steps, strict=True)]
        inputs = [image(INPUTS, coarse)]
        if upsample in GUIDED_UPSAMPLES:
            inputs.append(image(OUTPUTS, fine))
        module = upsample(dims, INPUTS, OUTPUTS, scale)
        assert module(*inputs).shape == (2, OUTPUTS, *fine)
        assert_every_parameter_learns(module, *inputs)


@pytest.mark.parametrize("dims", [2, 3])
def test_an_upsampling_by_one_keeps_the_grid(dims) -> None:
    for upsample in [*UPSAMPLES, *GUIDED_UPSAMPLES]:
        x = image(4, (3, 2, 4)[:dims])
        inputs = (x, x) if upsample in GUIDED_UPSAMPLES else (x,)
        assert upsample(dims, 4, 4, 1)(*inputs).shape == x.shape


# upsamplings by what they make of a constant input
AT_THE_BORDER_TOO = [
    up.Interpolate(),
    up.Interpolate(mode="nearest"),
    up.AdditiveInterpolate(),
    up.SmoothedTransposed(),  # without overlaps a border has no fewer of them
]
WHATEVER_IS_LEARNED = [
    *AT_THE_BORDER_TOO,
    up.SmoothedTransposed(kernel_size=4),
    up.PixelShuffle(blur=True),
    up.PixelShuffle(kernel_size=1, init="icnr", blur=True),
]
AT_THE_START = [
    up.BilinearTransposed(),
    up.PixelShuffle(init="icnr"),
    up.PixelShuffle(kernel_size=1, init="icnr"),
]
NEVER = [
    up.Transposed(),
    up.Transposed(kernel_size=3),
    up.Transposed(kernel_size=4),
    up.LargeKernelTransposed(),
    up.PixelShuffle(),
    up.PixelShuffle(kernel_size=1),
    up.BedOfNails(),
]


def pattern_on_a_constant(upsample, dims, scale, *, learned: bool, cut: int = 5) -> float:
    """Largest deviation of the response to a constant, `cut` voxels from the border."""
    module = upsample(dims, INPUTS, OUTPUTS, scale).double()
    if learned:
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter)
    steps = of_axes(dims, scale)
    # an axis that keeps its size has no pattern, but may have a border
    inner = [slice(cut, -cut if cut else None) for _ in steps]
    size = 8 if dims == 2 else 6
    grid = [2 * size if s == 1 else size for s in steps]
    constant = torch.randn(1, INPUTS, *[1] * dims, dtype=torch.float64).expand(-1, -1, *grid)
    out = module(constant)[(..., *inner)].flatten(2)
    return float((out - out.mean(2, keepdim=True)).detach().abs().max())


@pytest.mark.parametrize(
    ("dims", "scale"), [(2, 2), (2, 3), (2, (1, 2)), (3, 2), (3, (2, 1, 3))], ids=str
)
class TestConstant:
    def test_stays_one_whatever_is_learned(self, dims, scale) -> None:
        for upsample in WHATEVER_IS_LEARNED:
            if can(upsample, of_axes(dims, scale)):
                cut = 0 if upsample in AT_THE_BORDER_TOO else 5
                found = pattern_on_a_constant(upsample, dims, scale, learned=True, cut=cut)
                assert found < 1e-9, upsample

    def test_stays_one_at_the_start_and_may_cease_to_by_learning(self, dims, scale) -> None:
        for upsample in AT_THE_START:
            found = pattern_on_a_constant(upsample, dims, scale, learned=False)
            assert found < 1e-6, upsample  # weights start in single precision
            assert pattern_on_a_constant(upsample, dims, scale, learned=True) > 1e-2, upsample

    def test_does_not_stay_one_in_the_others(self, dims, scale) -> None:
        for upsample in NEVER:
            found = pattern_on_a_constant(upsample, dims, scale, learned=False)
            assert found > 1e-2, upsample


def test_every_upsampling_is_in_one_of_the_lists_of_constants() -> None:
    listed = {type(block) for block in WHATEVER_IS_LEARNED + AT_THE_START + NEVER}
    assert {type(block) for block in UPSAMPLES} == listed


@covering(skip=SKIPS, grid=EVERY_GRID, channels=[1, 4, 7])
def test_a_skip_keeps_the_grid_and_names_its_channels(skip, grid, channels) -> None:
    join = skip(len(grid), channels)
    doubled = isinstance(skip, skips.Concatenate | skips.Attention)
    assert join.out_channels == (2 * channels if doubled else channels)
    from_encoder, from_below = image(channels, grid), image(channels, grid)
    assert join(from_encoder, from_below).shape == (2, join.out_channels, *grid)
    assert_every_parameter_learns(join, from_encoder, from_below)
    assert from_below.grad.abs().sum() > 0
    counts = from_encoder.grad is not None and bool(from_encoder.grad.abs().sum() > 0)
    assert counts == (not isinstance(skip, skips.Nothing))


def arguments_of(slot) -> tuple:
    """What a block of that slot is called with, for four channels in 2-D."""
    wanted = {
        "spatial_dims": 2,
        "channels": 4,
        "in_channels": 4,
        "out_channels": 4,
        "scale": 2,
        "conv": CONV,
    }
    return tuple(wanted[name] for name in parameters_of(type(SLOTS[slot][0]))[1:])


def parameters_of(cls: type) -> list[str]:
    return list(inspect.signature(cls.__call__).parameters)


@pytest.mark.parametrize("slot", SLOTS, ids=lambda slot: slot.__name__)
class TestSlot:
    def test_no_block_is_forgotten_in_the_lists(self, slot) -> None:
        assert set(classes_of(slot).values()) == {type(block) for block in SLOTS[slot]}

    def test_every_block_is_called_as_its_protocol_asks(self, slot) -> None:
        classes = [c for n, c in vars(slot).items() if inspect.isclass(c) and not n.startswith("_")]
        own = [c for c in classes if Protocol in c.__bases__ and c.__module__ == slot.__name__]
        (protocol,) = own
        for block in SLOTS[slot]:
            assert isinstance(block, protocol)
            assert parameters_of(type(block)) == parameters_of(protocol)

    def test_two_calls_share_nothing(self, slot) -> None:
        for block in SLOTS[slot]:
            first, second = (block(*arguments_of(slot)) for _ in range(2))
            for kind in (nn.Module.modules, nn.Module.parameters, nn.Module.buffers):
                assert not {id(p) for p in kind(first)} & {id(p) for p in kind(second)}
            pointers = [p.data_ptr() for module in (first, second) for p in module.parameters()]
            assert len(pointers) == len(set(pointers))


def classes_of(slot) -> dict[str, type]:
    return {
        name: cls
        for name, cls in vars(slot).items()
        if dataclasses.is_dataclass(cls)
        and cls.__module__ == slot.__name__
        and not inspect.isabstract(cls)
        and not name.startswith("_")
    }


@pytest.mark.parametrize("block", EVERY_BLOCK, ids=repr)
def test_a_block_is_a_value(block) -> None:
    names = {name: cls for slot in SLOTS for name, cls in classes_of(slot).items()}
    again = eval(repr(block), names)
    assert again == block
    assert hash(again) == hash(block)
    assert pickle.loads(pickle.dumps(block)) == block
    assert sum(block == other for other in EVERY_BLOCK) == 1
    for name in [*vars(block), "other"]:
        with pytest.raises((AttributeError, TypeError)):
            setattr(block, name, 3)
