"""Kernels that no block of the workbench has, and how large a block must be."""

import pytest
import torch
from torch import Tensor

from medseg.blocks import downsample, upsample
from medseg.conversion.reading import Kernel
from medseg.conversion.targets import target_of
from medseg.layers.resampling import depth_to_space

STANDARD = target_of("conv", "standard")
STRIDED = target_of("downsample", "strided")
SPACE_TO_DEPTH = target_of("downsample", "space_to_depth")


def ones(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.float64)


def strided(taps: tuple[int, ...], scale: tuple[int, ...], padding: tuple[int, ...]):
    return Kernel(weight=ones(1, 1, *taps), scale=scale, padding=padding)


def test_a_bias_has_no_place_in_a_standard_convolution() -> None:
    kernel = Kernel(weight=ones(1, 1, 3, 3), bias=ones(1))
    with pytest.raises(ValueError, match="has a bias and the standard convolution has none"):
        STANDARD.describe([kernel])


@pytest.mark.parametrize("option", ["pixel_shuffle", "transposed"])
def test_without_a_bias_the_layer_gets_zeros(option) -> None:
    target = target_of("upsample", option)
    kernel = Kernel(weight=torch.randn(4, 1, 3, 3), scale=(2, 2))
    options = {k: v for k, v in target.describe([kernel]).items() if k != "name"}
    block = {"pixel_shuffle": upsample.PixelShuffle, "transposed": upsample.Transposed}
    layer = block[option](**options)(2, 1, 1, 2)
    target.fill(layer, kernel)
    assert not any(b.any() for name, b in layer.named_parameters() if name.endswith("bias"))
    x = torch.randn(1, 1, 4, 5)
    coarse = torch.nn.functional.conv2d(x, kernel.weight, padding=1)
    torch.testing.assert_close(layer(x), depth_to_space(coarse, (2, 2)))


class TestSize:
    def test_zeros_at_the_rim_are_left_out(self) -> None:
        weight = torch.zeros(1, 1, 7, 5)
        weight[0, 0, 3, 2], weight[0, 0, 4, 2] = 1, 2
        found = STANDARD.describe([Kernel(weight=weight)])
        assert found["kernel_size"] == [3, 1]

    def test_a_kernel_of_zeros_has_one_tap_or_its_cell(self) -> None:
        nothing = torch.zeros(1, 1, 5, 5)
        assert STANDARD.describe([Kernel(weight=nothing)])["kernel_size"] == 1
        empty = Kernel(weight=nothing, scale=(2, 2), padding=(2, 2))
        assert STRIDED.describe([empty])["kernel_size"] == 2
        assert SPACE_TO_DEPTH.describe([empty]) == {"name": "blocks.downsample.SpaceToDepth"}

    @pytest.mark.parametrize(
        ("kernels", "taps"),
        [
            ([strided((2, 2), (2, 2), (0, 0))], 2),
            ([strided((3, 3), (2, 2), (1, 1))], 3),
            ([strided((3, 3), (2, 2), (0, 0))], 4),  # a tap on the far side needs one on the near
            ([strided((1, 3), (1, 3), (0, 0)), strided((2, 2), (2, 2), (0, 0))], [2, 3]),
            ([strided((2, 2), (2, 2), (0, 0)), strided((4, 4), (4, 4), (0, 0))], 4),
        ],
    )
    def test_the_smallest_that_holds_all_layers_of_the_block(self, kernels, taps) -> None:
        described = STRIDED.describe(kernels)
        assert described == {"name": "blocks.downsample.Strided", "kernel_size": taps}
        block = downsample.Strided(kernel_size=taps)
        for kernel in kernels:
            layer = block(2, 1, kernel.scale).double()
            STRIDED.fill(layer, kernel)
            x = torch.randn(1, 1, 24, 24, dtype=torch.float64)
            # the padding is one-sided where the kernel is: zeros behind the far border make it up
            before, after = (
                kernel.padding,
                [k + s for k, s in zip(kernel.weight.shape[2:], kernel.scale, strict=True)],
            )
            padded = torch.nn.functional.pad(x, (before[1], after[1], before[0], after[0]))
            expected = torch.nn.functional.conv2d(padded, kernel.weight, stride=kernel.scale)
            found = layer(x)
            rows, columns = found.shape[2:]
            torch.testing.assert_close(found, expected[..., :rows, :columns])
            assert (rows, columns) == tuple(24 // s for s in kernel.scale)
