"""What each phase of a kernel makes of a constant and of noise."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from medseg.checkerboard.phases import phase_sums, require_kernel
from medseg.checkerboard.weights.imbalance import phase_imbalance


def kernel_gains(
    kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]
) -> Float[Tensor, "phases inputs outputs"]:
    """`G_φ = Σ_{n ≡ φ mod s} h[n]`: DC gain of each phase, in array order.

    Args:
        kernel: Taps on the output grid, such as of `upsampling_kernel`.
        stride: Stride per axis.

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    >>> import torch
    >>> kernel_gains(torch.tensor([[[1.0, 5.0, 2.0]]]), (2,)).flatten().tolist()
    [3.0, 5.0]
    """
    require_kernel(kernel, stride)
    return phase_sums(kernel.detach().cpu().double(), stride)


def noise_gain_imbalance(
    kernel: Float[Tensor, "inputs outputs *taps"], stride: Sequence[int]
) -> float:
    """`A(e)`, `e_φ = Σ_{n ≡ φ mod s} ‖h[n]‖²`: how unevenly phases pass white noise, in [0, 1].

    Its variance, and so what looks sharp, is then locked to the grid though constants may stay
    constants: `[½, 1, ½]` at stride 2 gives 0.1. At most `1 − 1/P`. Independent of scale, bias,
    the order of phases and rotations of inputs and outputs; 0 for nearest neighbours.
    Independent zero-mean weights give `overlap_imbalance` in the limit of many channels.

    Args:
        kernel: Taps on the output grid, such as of `upsampling_kernel`.
        stride: Stride per axis.

    Raises:
        ValueError: stride 1 on all axes, another number of axes, only zeros, or a tap that is
            not finite.

    Reference: Gallagher 2005, "Detection of Linear and Cubic Interpolation in JPEG Compressed
    Images" (variance that is periodic after interpolation).

    >>> import torch
    >>> noise_gain_imbalance(torch.tensor([[[0.5, 1.0, 0.5]]]), (2,))
    0.1
    """
    require_kernel(kernel, stride)
    kernel = kernel.detach().cpu().double()
    energies = (kernel / kernel.abs().max()).square().sum(dim=(0, 1))
    return phase_imbalance(phase_sums(energies, stride))
