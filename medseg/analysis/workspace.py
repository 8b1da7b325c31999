"""What an operation takes only while it computes, beside the tensors that it reads and makes.

On a CPU only. Rules for convolutions were read off measured peaks of torch 2.13, with AVX-512 and
with AVX2; those for attention off its source (cpu/FlashAttentionKernel.cpp and
transformers/attention.cpp in ATen/native). docs/arithmetic.md says how far they hold.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medseg.analysis.vocabulary import KNOWN, base_name

_HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
_BLOCK = 16 if _HAS_AVX512 else 8  # channels in a register
_SMALL = 20480  # torch's own bounds (use_mkldnn in ATen/native/Convolution.cpp)
_MANY = 16
_THREADED_COLUMNS = 2_400_000  # bytes; 2.05 MB were measured in every thread, 2.76 MB in one
_KEYS = 512  # that fused attention takes at once
_ACCUMULATOR = 4  # bytes


def workspace_bytes(operation: Any, arguments: tuple[Any, ...], result: Any) -> int | None:
    """Bytes above those of the operation's inputs and results; None if nobody knows.

    Args:
        operation: Of aten; whatever is no calculation takes nothing.
        arguments: That it was called with.
        result: What it returned.
    """
    if operation.namespace != "aten":
        return 0
    name = operation.overloadpacket.__name__
    if (rule := _RULES.get(name)) is None:
        return 0 if base_name(name) in KNOWN else None
    return rule(arguments, result) if arguments[0].device.type == "cpu" else None


def _convolution(arguments: tuple[Any, ...], output: Tensor) -> int:
    """Channels that are last in memory oneDNN takes as they are.

    Others it first puts into a layout of its own, in blocks of channels. Single small images torch
    unfolds into the columns of a matrix instead.
    """
    image, weight, _, stride, _, dilation, transposed, _, groups = arguments
    if _is_unfolded(image, weight, stride, dilation, groups):
        return _columns(image, weight, image if transposed else output)
    return _forward(image, weight, output, groups)


def _convolution_backward(arguments: tuple[Any, ...], _result: Any) -> int:
    output, image, weight, _, stride, _, dilation, transposed, _, groups, _ = arguments
    if _is_unfolded(image, weight, stride, dilation, groups):
        return _columns(image, weight, image if transposed else output)
    needed = _backward(image, weight, output, groups)
    if _HAS_AVX512 or image.dtype != torch.float32 or groups > 1 or _is_pointwise(weight):
        return needed
    return max(needed, _backward_of_avx2(image, weight, output, stride, dilation, transposed))


def _is_unfolded(
    image: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> bool:
    """Whether torch does without oneDNN (`use_mkldnn` in ATen/native/Convolution.cpp)."""
    if image.dtype != torch.float32:
        return False
    plane = weight.shape[2:][-2:]
    is_product = max(plane) == max(stride) == max(dilation) == 1 and len(image) < _MANY
    if is_product and torch.get_num_threads() == 1:
        return True
    is_small = len(image) == 1 and math.prod(image.shape[:4]) <= _SMALL
    return is_small and groups == 1 and min(plane) <= 3


def _is_pointwise(weight: Tensor) -> bool:
    return math.prod(weight.shape[2:]) == 1


def _columns(image: Tensor, weight: Tensor, grid: Tensor) -> int:
    """Every tap of every voxel of the grid that the kernel moves over."""
    columns = math.prod(weight.shape[1:]) * math.prod(grid.shape[2:]) * image.element_size()
    if _is_pointwise(weight) and grid.shape[2:] == image.shape[2:]:
        columns = 0  # they are the image
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


def _backward_of_avx2(
    image: Tensor,
    weight: Tensor,
    gradient: Tensor,
    stride: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
) -> int:
    """What the fp32 gradients take where oneDNN has no kernel of its own for them.

    Dilated and 3-D gradients are products of matrices: a slice of the grid is unfolded beside four
    copies of the weights, in 3-D by every thread while the slice is small. Strided ones take a copy
    of the image more.
    """
    source, grid = (gradient, image) if transposed else (image, gradient)
    last, is_3d, weights = _has_channels_last(image), weight.ndim == 5, _size(weight)
    needed = 0 if last else weights
    if max(stride) > 1 and not (transposed or last):
        needed = max(needed, 2 * _size(image) - weights)
    if (is_3d and tuple(weight.shape[2:]) != tuple(stride)) or max(dilation) > 1:
        columns = math.prod(weight.shape[1:]) * math.prod(grid.shape[-2:]) * grid.element_size()
        own = columns + 4 * weights + (_size(source) // len(source) if last else 0)
        threads = torch.get_num_threads() if is_3d and columns <= _THREADED_COLUMNS else 1
        needed = max(needed, threads * own + (weights if last else 0))
    return needed


def _accumulators(image: Tensor, result: int) -> int:
    """Every thread sums up the result of one image in single precision."""
    return 2 * torch.get_num_threads() * result // len(image)


def _has_channels_last(x: Tensor) -> bool:
    several = x.shape[1] > 1 and math.prod(x.shape[2:]) > 1
    return x.ndim > 3 and several and x.stride(1) == 1


def _blocked(x: Tensor) -> int:
    channels = x.shape[1]
    return _size(x) // channels * (-(-channels // _BLOCK) * _BLOCK)


def _size(x: Tensor) -> int:
    return x.numel() * x.element_size()


def _fused_attention(arguments: tuple[Any, ...], _result: Any) -> int:
    """Every thread holds the scores of some queries and keys, their maxima, sums and results."""
    query, key, *_ = arguments
    queries, keys = _tile(query, key)
    own = queries * (keys + 2 + query.shape[-1]) * _ACCUMULATOR
    return torch.get_num_threads() * (own + _reduced(query, queries * keys))


def _fused_attention_backward(arguments: tuple[Any, ...], _result: Any) -> int:
    """Every thread holds scores and their gradients."""
    _, query, key, *_ = arguments
    queries, keys = _tile(query, key)
    own = 2 * queries * keys * _ACCUMULATOR
    sums = queries * _ACCUMULATOR
    return torch.get_num_threads() * (own + _reduced(query, 2 * queries * keys)) + sums


def _tile(query: Tensor, key: Tensor) -> tuple[int, int]:
    """Queries and keys that are taken at once."""
    length = query.shape[2]
    at_once = 256 if length >= 768 else 64 if length >= 192 else 32
    return min(at_once, length), min(_KEYS, key.shape[2])


def _reduced(query: Tensor, scores: int) -> int:
    """A copy of the scores where they are computed in half precision."""
    return 0 if query.dtype == torch.float32 else scores * query.element_size()


def _whole_attention(arguments: tuple[Any, ...], result: Any) -> int:
    """`nn.MultiheadAttention` in prediction: queries, keys and values twice, then all scores."""
    query, heads = arguments[0], arguments[4]
    batch, length, _ = query.shape
    inputs, scores = 3 * _size(query), batch * heads * length**2 * query.element_size()
    return inputs + max(inputs, scores) - _size(result[0])


def _safe_softmax(arguments: tuple[Any, ...], _result: Any) -> int:
    """Which scores are −∞, and in which rows all are; a byte each."""
    scores, axis, *_ = arguments
    return scores.numel() + scores.numel() // scores.shape[axis]


def _sampling_backward(arguments: tuple[Any, ...], _result: Any) -> int:
    """A copy of a gradient that does not lie in one piece."""
    return 0 if arguments[0].is_contiguous() else _size(arguments[0])


_RULES = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": _fused_attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _fused_attention_backward,
    "_native_multi_head_attention": _whole_attention,
    "_safe_softmax": _safe_softmax,
    "grid_sampler_2d_backward": _sampling_backward,
    "grid_sampler_3d_backward": _sampling_backward,
}
