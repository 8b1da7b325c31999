"""One small kernel for all channels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from medseg.layers.depthwise import depthwise_conv


class SharedSmoothing(nn.Module):
    """A learned depthwise convolution with the same kernel for every channel, first the identity.

    Reference: Wang & Ji 2018, "Smoothed Dilated Convolutions for Improved Dense Prediction",
    section 3.3 (separable and shared convolution).
    """

    def __init__(self, kernel_size: Sequence[int]):
        super().__init__()
        self.padding = tuple((k - 1) // 2 for k in kernel_size)
        self.padding_mode = "zeros"
        kernel = torch.zeros(1, 1, *kernel_size)
        kernel[(0, 0, *self.padding)] = 1.0
        self.weight = nn.Parameter(kernel)

    def forward(self, x: Tensor) -> Tensor:
        one = (1,) * len(self.padding)
        kernels = self.weight.expand(x.shape[1], *self.weight.shape[1:])
        if self.padding_mode == "zeros":
            return depthwise_conv(x, kernels, one, self.padding, one)
        sides = [side for pad in reversed(self.padding) for side in (pad, pad)]
        padded = functional.pad(x, sides, mode=self.padding_mode)
        return depthwise_conv(padded, kernels, one, (0,) * len(one), one)

    def extra_repr(self) -> str:
        return f"kernel_size={tuple(self.weight.shape[2:])}"
