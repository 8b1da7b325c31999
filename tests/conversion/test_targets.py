"""Kernels that no block of the workbench has, and how large a block must be."""

import pytest
import torch
from torch import Tensor

from medseg.blocks import downsample
from medseg.conversion.kernels import Kernel
from medseg.conversion.targets import target_of

STANDARD = target_of("conv", "standard")
STRIDED = target_of("downsample", "strided")


def ones(*size: int) -> Tensor:
    return torch.ones(*size, dtype=torch.float64)


def strided(taps: tuple[int, ...], scale: tuple[int, ...], padding: tuple[int, ...]):
    first = tuple(-p for p in padding)
    return Kernel(taps=ones(1, 1, *taps), first=first, bias=ones(1, 1, 1) * 0, scale=scale)


def test_a_bias_has_no_place_in_a_standard_convolution() -> None:
    kernel = Kernel(taps=ones(1, 1, 3, 3), first=(-1, -1), bias=ones(1, 1, 1), scale=(1, 1))
    with pytest.raises(ValueError, match="has a bias and the standard convolution has none"):
        STANDARD.describe([kernel])


class TestSize:
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
                [-a for a in kernel.first],
                [k + s for k, s in zip(kernel.taps.shape[2:], kernel.scale, strict=True)],
            )
            padded = torch.nn.functional.pad(x, (before[1], after[1], before[0], after[0]))
            expected = torch.nn.functional.conv2d(padded, kernel.taps, stride=kernel.scale)
            found = layer(x)
            rows, columns = found.shape[2:]
            torch.testing.assert_close(found, expected[..., :rows, :columns])
            assert (rows, columns) == tuple(24 // s for s in kernel.scale)
