"""Memory that a convolution takes on a CPU only while it computes.

torch's CPU library, oneDNN, computes on tensors whose channels are last in memory as they are.
Others it puts into a layout of its own first, in blocks of channels. Single small images torch
unfolds into the columns of a matrix instead. What that takes is in no tensor; these rules were read
off measured peaks of torch 2.13 (docs/arithmetic.md).
"""

import math
from typing import Any

import torch
from torch import Tensor

_FORWARD = {torch.ops.aten.convolution.default}
_BACKWARD = {torch.ops.aten.convolution_backward.default}


_BLOCK = 16 if torch.backends.cpu.get_cpu_capability() == "AVX512" else 8  # channels in a register
_SMALL = 20480  # torch's own bound (use_mkldnn in ATen/native/Convolution.cpp)


def workspace_bytes(operation: Any, arguments: tuple[Any, ...], result: Any) -> int:
    """Bytes beyond inputs and outputs; 0 for whatever is no convolution on a CPU."""
    if operation in _FORWARD:
        image, weight, _, _, _, _, transposed, _, groups = arguments
        output, needed = result, _forward
    elif operation in _BACKWARD:
        output, image, weight, _, _, _, _, transposed, _, groups, _ = arguments
        needed = _backward
    else:
        return 0
    if image.device.type != "cpu":
        return 0
    if _is_unfolded(image, weight):
        return _columns(image, weight, image if transposed else output)
    return needed(image, weight, output, groups)


def _is_unfolded(image: Tensor, weight: Tensor) -> bool:
    small = math.prod(image.shape[:4]) <= _SMALL and max(weight.shape[-2:]) <= 3
    single = image.dtype == torch.float32 and len(image) == 1
    return single and small and not _is_pointwise(weight)


def _is_pointwise(weight: Tensor) -> bool:
    return math.prod(weight.shape[2:]) == 1


def _columns(image: Tensor, weight: Tensor, grid: Tensor) -> int:
    """Every tap of every voxel of the grid that the kernel moves over."""
    columns = math.prod(weight.shape[1:]) * math.prod(grid.shape[2:]) * image.element_size()
    return columns + (_size(image) if _has_channels_last(image) else 0)


def _forward(image: Tensor, weight: Tensor, output: Tensor, groups: int) -> int:
    if _has_channels_last(image):
        return 2 * _size(weight)
    if groups > 1:
        return _size(image) + _size(output)
    first, second = _blocked(image), _blocked(output)
    needed = max(first, second) + _size(weight)
    if not _is_pointwise(weight):
        return needed
    if image.dtype == torch.float32:
        return max(needed, first + second - _size(output))
    return first + second + _accumulators(image, second) - _size(output)


def _backward(image: Tensor, weight: Tensor, gradient: Tensor, groups: int) -> int:
    half, last = image.dtype != torch.float32, _has_channels_last(image)
    plain, blocked = _size(image) + _size(gradient), _blocked(image) + _blocked(gradient)
    if last:
        return plain if half else 3 * _size(weight)
    if groups > 1:
        return _size(image)
    if half and _is_pointwise(weight):
        return _accumulators(image, _blocked(image)) + _blocked(gradient)
    if half:
        return 2 * plain if blocked == plain else blocked
    return max(plain, blocked - _size(image))


def _accumulators(image: Tensor, result: int) -> int:
    """Every thread sums up the result of one image in single precision."""
    return 2 * torch.get_num_threads() * result // len(image)


def _has_channels_last(x: Tensor) -> bool:
    return x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1


def _blocked(x: Tensor) -> int:
    channels = x.shape[1]
    return _size(x) // channels * (-(-channels // _BLOCK) * _BLOCK)


def _size(x: Tensor) -> int:
    return x.numel() * x.element_size()
