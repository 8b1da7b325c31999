"""Units and normalisations against their definition, written out by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.blocks import activation, conv, norm, unit

from .helpers import signal

GRIDS = [(6, 5), (4, 3, 5)]
GRID = pytest.mark.parametrize("grid", GRIDS, ids=str)
POOL = {2: functional.max_pool2d, 3: functional.max_pool3d}


def test_a_norm_by_hand() -> None:
    x = signal(8, (6, 5)).expand(3, -1, -1, -1) * torch.arange(1, 4).reshape(3, 1, 1, 1)
    x = x + torch.randn_like(x)
    for spec, axes in ((norm.Instance(eps=1e-2), (2, 3)), (norm.Batch(eps=1e-2), (0, 2, 3))):
        mean, variance = x.mean(axes, keepdim=True), x.var(axes, correction=0, keepdim=True)
        expected = (x - mean) / (variance + 1e-2).sqrt()
        torch.testing.assert_close(spec(2, 8).double()(x), expected)
    pairs = x.reshape(3, 4, 2, 6, 5)
    mean = pairs.mean((2, 3, 4), keepdim=True)
    variance = pairs.var((2, 3, 4), correction=0, keepdim=True)
    expected = ((pairs - mean) / (variance + 1e-2).sqrt()).reshape(x.shape)
    torch.testing.assert_close(norm.Group(groups=4, eps=1e-2)(2, 8).double()(x), expected)


def convs_of(module: nn.Module) -> list[nn.Module]:
    """Convolutions in the order in which they are applied; the shortcut's comes last."""
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)]


def widths(module: nn.Module) -> list[tuple[int, int, int]]:
    """Channels in and out, and taps per axis, of every convolution."""
    return [(c.in_channels, c.out_channels, c.kernel_size[0]) for c in convs_of(module)]


normed = functional.instance_norm


def act(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.01)


def layer(convolution: nn.Module, x: Tensor) -> Tensor:
    """Convolution, normalisation, activation."""
    return act(normed(convolution(x)))


def build(block, grid, inputs: int, outputs: int) -> tuple[nn.Module, list[nn.Module], Tensor]:
    module = block(len(grid), inputs, outputs, conv.Standard()).double()
    return module, convs_of(module), signal(inputs, grid)


def shortcut(x: Tensor, project: list[nn.Module], outputs: int) -> Tensor:
    assert len(project) == (x.shape[1] != outputs)
    return normed(project[0](x)) if project else x


@GRID
def test_a_plain_unit_by_hand(grid) -> None:
    module, (only,), x = build(unit.Plain(), grid, 4, 6)
    torch.testing.assert_close(module(x), layer(only, x))


@GRID
@pytest.mark.parametrize("outputs", [8, 12])
class TestShortcut:
    @pytest.mark.parametrize("convs", [1, 2, 3])
    def test_residual(self, convs, outputs, grid) -> None:
        module, layers, x = build(unit.Residual(convs=convs), grid, 8, outputs)
        inner = x
        for convolution in layers[: convs - 1]:
            inner = layer(convolution, inner)
        residual = normed(layers[convs - 1](inner))
        expected = act(residual + shortcut(x, layers[convs:], outputs))
        torch.testing.assert_close(module(x), expected)

    @pytest.mark.parametrize("reduction", [1, 2, 4])
    def test_bottleneck(self, reduction, outputs, grid) -> None:
        module, layers, x = build(unit.Bottleneck(reduction=reduction), grid, 8, outputs)
        inner = outputs // reduction
        assert widths(module)[:3] == [(8, inner, 1), (inner, inner, 3), (inner, outputs, 1)]
        down, spatial, up, *project = layers
        residual = normed(up(layer(spatial, layer(down, x))))
        torch.testing.assert_close(module(x), act(residual + shortcut(x, project, outputs)))

    @pytest.mark.parametrize("expansion", [1, 3])
    def test_inverted_bottleneck_on_the_wide_channels(self, expansion, outputs, grid) -> None:
        block = unit.InvertedBottleneck(expansion=expansion)
        module, layers, x = build(block, grid, 8, outputs)
        wide = 8 * expansion
        assert widths(module)[:3] == [(8, wide, 1), (wide, wide, 3), (wide, outputs, 1)]
        up, spatial, down, *project = layers
        residual = normed(down(layer(spatial, layer(up, x))))
        torch.testing.assert_close(module(x), residual + shortcut(x, project, outputs))

    @pytest.mark.parametrize("expansion", [1, 3])
    def test_inverted_bottleneck_on_the_narrow_channels(self, expansion, outputs, grid) -> None:
        block = unit.InvertedBottleneck(expansion=expansion, conv_on="narrow")
        module, layers, x = build(block, grid, 8, outputs)
        wide = 8 * expansion
        assert widths(module)[:3] == [(8, 8, 3), (8, wide, 1), (wide, outputs, 1)]
        spatial, up, down, *project = layers
        residual = down(act(up(normed(spatial(x)))))
        torch.testing.assert_close(module(x), residual + shortcut(x, project, outputs))

    @pytest.mark.parametrize("repeats", [1, 3])
    def test_separable_residual(self, repeats, outputs, grid) -> None:
        block = unit.SeparableResidual(repeats=repeats)
        module, layers, x = build(block, grid, 8, outputs)
        residual = x
        for step in range(repeats):
            spatial, mix = layers[2 * step : 2 * step + 2]
            assert spatial.in_channels == spatial.out_channels == residual.shape[1]
            residual = normed(mix(spatial(residual)))
            residual = act(residual) if step < repeats - 1 else residual
        project = layers[2 * repeats :]
        torch.testing.assert_close(module(x), act(residual + shortcut(x, project, outputs)))


@GRID
class TestBranches:
    @pytest.mark.parametrize(("outputs", "first"), [(8, 2), (11, 5)])
    def test_inception(self, outputs, first, grid) -> None:
        module, (one, a1, a2, b1, b2, b3, last), x = build(unit.Inception(), grid, 5, outputs)
        q = outputs // 4
        assert widths(module) == [
            (5, first, 1), (5, q, 1), (q, q, 3), (5, q, 1), (q, q, 3), (q, q, 3), (5, q, 1),
        ]  # fmt: skip
        pooled = POOL[len(grid)](x, 3, stride=1, padding=1)
        branches = [
            layer(one, x),
            layer(a2, layer(a1, x)),
            layer(b3, layer(b2, layer(b1, x))),
            layer(last, pooled),
        ]
        torch.testing.assert_close(module(x), torch.cat(branches, dim=1))

    @pytest.mark.parametrize(("outputs", "squeeze"), [(8, 4), (9, 2)])
    def test_fire(self, outputs, squeeze, grid) -> None:
        module, layers, x = build(unit.Fire(squeeze=squeeze), grid, 5, outputs)
        inner, half = outputs // squeeze, outputs // 2
        assert widths(module) == [(5, inner, 1), (inner, outputs - half, 1), (inner, half, 3)]
        narrow, one, spatial = layers
        squeezed = layer(narrow, x)
        expected = torch.cat([layer(one, squeezed), layer(spatial, squeezed)], dim=1)
        torch.testing.assert_close(module(x), expected)

    @pytest.mark.parametrize(("growth", "adds"), [(None, 4), (3, 3)])
    def test_dense(self, growth, adds, grid) -> None:
        module, layers, x = build(unit.Dense(layers=2, growth=growth), grid, 5, 8)
        assert widths(module) == [
            (5, 4 * adds, 1), (4 * adds, adds, 3), (5 + adds, 4 * adds, 1), (4 * adds, adds, 3),
            (5 + 2 * adds, 8, 1),
        ]  # fmt: skip
        wide1, spatial1, wide2, spatial2, merge = layers
        seen = torch.cat([x, layer(spatial1, layer(wide1, x))], dim=1)
        seen = torch.cat([seen, layer(spatial2, layer(wide2, seen))], dim=1)
        torch.testing.assert_close(module(x), layer(merge, seen))


def test_a_unit_is_built_of_its_slots() -> None:
    block = unit.Residual(norm=norm.Group(groups=2), activation=activation.GELU())
    module = block(2, 4, 6, conv.Depthwise(kernel_size=5)).double()
    first, second, project = convs_of(module)
    assert first.kernel_size == second.kernel_size == (5, 5)
    assert project.kernel_size == (1, 1)
    x = signal(4, (6, 5))
    inner = functional.gelu(functional.group_norm(first(x), 2))
    residual = functional.group_norm(second(inner), 2)
    expected = functional.gelu(residual + functional.group_norm(project(x), 2))
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("dims", [2, 3])
def test_dropout_drops_whole_channels_in_training_only(dims) -> None:
    for spec in (unit.Plain(dropout=0.5), unit.Residual(dropout=0.5)):
        module = spec(dims, 4, 4, conv.Standard())
        drop = next(m for m in module.modules() if "Dropout" in type(m).__name__)
        kept = drop(torch.ones(8, 4, *[3] * dims)).flatten(2)
        assert (kept == kept[..., :1]).all()
        assert {0.0, 2.0} == set(kept.flatten().tolist())
        assert not drop.eval()(torch.ones(8, 4, *[3] * dims)).eq(0).any()
    plain = unit.Plain()(dims, 4, 4, conv.Standard())
    assert not [m for m in plain.modules() if "Dropout" in type(m).__name__]
