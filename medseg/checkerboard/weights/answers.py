"""Kernels and gains read off what layers answer."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from medseg.checkerboard.phases import phase_means, require_finite
from medseg.checkerboard.torus import reach, torus
from medseg.layers.resampling import Upsampling

_CONSTANTS_AT_ONCE = 32
_IMPULSES_AT_ONCE = 4  # their grids are larger
_CELLS = 9  # an interpolation reaches two cells to either side
_ROUNDING = 1e-9
_Answer = Callable[[Tensor], Tensor]


@torch.no_grad()
def gains_of_interpolation(layer: nn.Upsample, stride: Sequence[int]) -> Tensor:
    """DC gains `(phases, 1, 1)`, channel by channel.

    >>> gains_of_interpolation(nn.Upsample(scale_factor=2, mode="linear"), (2,)).tolist()
    [[[1.0]], [[1.0]]]
    """
    return phase_means(layer(torch.ones((1, 1, *[4] * len(stride)), dtype=torch.float64)), stride)


@torch.no_grad()
def kernel_of_interpolation(layer: nn.Upsample, stride: Sequence[int]) -> Tensor:
    """`(1, 1, *taps)`.

    Raises:
        ValueError: corners that are put on each other.

    >>> kernel_of_interpolation(nn.Upsample(scale_factor=2, mode="linear"), (2,)).tolist()
    [[[0.0, 0.25, 0.75, 0.75, 0.25]]]
    """
    if layer.align_corners:
        raise ValueError(
            f"{layer} puts the corners on each other (align_corners=True), so that its taps do "
            "not repeat with the stride; measure it with align_corners=False"
        )
    impulse = torch.zeros((1, 1, *[_CELLS] * len(stride)), dtype=torch.float64)
    impulse[(0, 0, *[_CELLS // 2] * len(stride))] = 1
    response = layer(impulse)
    return response[_support(response, stride)].clone()


@torch.no_grad()
def gains_of_composite(layer: Upsampling) -> Tensor:
    """DC gains `(phases, inputs, outputs)`.

    Raises:
        ValueError: layers that are not linear, or weights that are not finite.

    >>> gains_of_composite(Upsampling(nn.Upsample(scale_factor=2), 1, (2,))).tolist()
    [[[1.0]], [[1.0]]]
    """
    cells = max(1, *(reach(m) for m in layer.modules()))
    grid = [cells] * len(layer.scale)

    def constants(some: Tensor) -> Tensor:
        return some.reshape(*some.shape, *[1] * len(grid)).expand(*some.shape, *grid)

    with _linear(layer, grid) as answer:
        eye = torch.eye(layer.in_channels, dtype=torch.float64)
        answers = [answer(constants(some)) for some in eye.split(_CONSTANTS_AT_ONCE)]
    return torch.cat([phase_means(each, layer.scale) for each in answers], dim=1)


@torch.no_grad()
def kernel_of_composite(layer: Upsampling) -> Tensor:
    """`(inputs, outputs, *taps)`.

    Raises:
        ValueError: layers that are not linear, or weights that are not finite.

    >>> kernel_of_composite(Upsampling(nn.Upsample(scale_factor=2), 1, (2,))).tolist()
    [[[1.0, 1.0]]]
    """
    # so many cells that no layer's answer meets itself on the way around
    cells = 2 * sum(reach(m) for m in layer.modules()) + 3
    grid = [cells] * len(layer.scale)
    middle = [cells // 2] * len(grid)

    def impulses(some: Tensor) -> Tensor:
        x = torch.zeros(*some.shape, *grid, dtype=torch.float64)
        x[(..., *middle)] = some
        return x

    with _linear(layer, grid) as answer:
        # where all channels together answer is where any of them does
        support = _support(answer(impulses(_noise(1, layer.in_channels))), layer.scale)
        eye = torch.eye(layer.in_channels, dtype=torch.float64)
        parts = [answer(impulses(some))[support] for some in eye.split(_IMPULSES_AT_ONCE)]
    return torch.cat(parts)


@contextmanager
def _linear(layer: Upsampling, grid: Sequence[int]) -> Iterator[_Answer]:
    """The layer on a torus without its bias; refused if it is not linear."""
    probe = copy.deepcopy(layer).double().cpu().eval()
    with torus(probe):
        zero = torch.zeros(1, layer.in_channels, *grid, dtype=torch.float64)
        bias = probe(zero)
        require_finite(bias, "answers to zeros")

        def answer(x: Tensor) -> Tensor:
            response = probe(x) - bias
            require_finite(response, "answers")
            return response

        _require_linear(layer, answer, zero)
        yield answer


def _require_linear(layer: Upsampling, answer: _Answer, zero: Tensor) -> None:
    x = _noise(*zero.shape)
    # a factor of −2 tells rectifiers and odd saturations alike
    once, twice = answer(x), answer(-2 * x)
    if (twice + 2 * once).abs().max() > _ROUNDING * once.abs().max():
        raise ValueError(
            f"{type(layer.layers).__name__} in an Upsampling does not answer −2·x with −2 times "
            "the answer to x, so it is not linear and has no kernel; measure its linear part"
        )


def _noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def _support(response: Tensor, stride: Sequence[int]) -> tuple[slice, ...]:
    """Where it is not 0; from the first voxel of a cell, which keeps the order of phases."""
    support = [slice(None)] * 2
    for axis, step in enumerate(stride, start=2):
        others = [a for a in range(response.ndim) if a != axis]
        used = (response != 0).sum(dim=others).nonzero().flatten().tolist() or [0]
        support.append(slice(used[0] // step * step, used[-1] + 1))
    return tuple(support)
