"""What every convolution and every unit obeys, whichever it is."""

import pytest
import torch

from medseg.blocks import conv as convs

from .helpers import assert_every_parameter_learns, image
from .specs import ANISOTROPIC_CONVS, CONVS, EVERY_GRID, UNITS

CONV = CONVS[0]
EVERY_ANISOTROPIC = [(dims, conv) for dims, blocks in ANISOTROPIC_CONVS.items() for conv in blocks]


def biases(module: torch.nn.Module) -> set[str]:
    return {name for name, _ in module.named_parameters() if "bias" in name}


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
        module = ANISOTROPIC_CONVS[len(grid)][index](len(grid), inputs, outputs)
        assert module(image(inputs, grid)).shape == (2, outputs, *grid)

    @pytest.mark.parametrize("conv", CONVS, ids=repr)
    def test_has_no_bias_and_passes_zero_as_zero(self, conv, inputs, outputs, grid) -> None:
        module = conv(len(grid), inputs, outputs)
        moves = isinstance(conv, convs.Deformable)
        assert biases(module) == ({"motion.bias"} if moves else set())
        assert not module(torch.zeros(1, inputs, *grid)).any()


@pytest.mark.parametrize(("dims", "conv"), EVERY_ANISOTROPIC, ids=repr)
def test_a_kernel_of_one_tap_along_an_axis_sees_no_neighbour_there(dims, conv) -> None:
    module = conv(dims, 4, 4).double()
    for name, parameter in module.named_parameters():
        if not name.startswith("motion"):  # a moved tap may go anywhere
            torch.nn.init.uniform_(parameter, 0.1, 0.3)
    centre, size = 5, 11
    x = torch.zeros(1, 4, *[size] * dims, dtype=torch.float64)
    x[(slice(None), slice(None), *[centre] * dims)] = 1
    changed = (module(x) - module(torch.zeros_like(x))).abs().sum((0, 1)) > 1e-12
    reached = [set(places.tolist()) for places in changed.nonzero().T]
    assert reached[0] == {centre}
    for places in reached[1:]:
        assert {n for n in places if n > centre}
        assert {n for n in places if n < centre}


@pytest.mark.parametrize("grid", EVERY_GRID, ids=str)
@pytest.mark.parametrize(("inputs", "outputs"), [(8, 8), (8, 4)])
@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_a_unit_keeps_the_grid_and_learns(unit, inputs, outputs, grid) -> None:
    module = unit(len(grid), inputs, outputs, CONV).eval()
    x = image(inputs, grid)
    assert module(x).shape == (2, outputs, *grid)
    assert_every_parameter_learns(module, x)


@pytest.mark.parametrize("grid", [(3, 4), (2, 3, 2)], ids=str)
@pytest.mark.parametrize("conv", CONVS, ids=repr)
@pytest.mark.parametrize("unit", UNITS, ids=repr)
def test_a_unit_takes_every_convolution(unit, conv, grid) -> None:
    module = unit(len(grid), 16, 32, conv)
    assert module(image(16, grid)).shape == (2, 32, *grid)
