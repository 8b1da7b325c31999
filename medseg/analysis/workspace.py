"""What an operation takes only while it computes, beside the tensors that it reads and makes.

On a CPU only. Rules for convolutions were read off measured peaks of torch 2.13, with AVX-512 and
with AVX2; those for attention off its source (cpu/FlashAttentionKernel.cpp and
transformers/attention.cpp in ATen/native). docs/arithmetic.md says how far they hold.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medseg.analysis.vocabulary import (
    COMPARISONS,
    KNOWN,
    LINEAR_INTERPOLATIONS,
    NEAREST_INTERPOLATIONS,
    PADS,
    POINTWISE,
    SAMPLERS,
    base_name,
)
from medseg.layers.context import CHANNELS_LAST
from medseg.layers.fast_conv import is_unfolded

_Rule = Callable[[tuple[Any, ...], Any], int]

_HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
_HALF = (torch.bfloat16, torch.float16)  # computed in single precision without AVX-512
_BLOCK = 16 if _HAS_AVX512 else 8  # channels in a register
_THREADED_COLUMNS = 2_400_000  # bytes; 2.05 MB were measured in every thread, 2.76 MB in one
_KEYS = 512  # that fused attention takes at once
_ACCUMULATOR = 4  # bytes
_LARGEST_KERNEL = 7
_FURTHEST_TAP = 3  # voxels from the middle one; with more oneDNN takes another way with AVX2
_LARGEST_DEPTHWISE = 3  # kernel whose gradient oneDNN has a kernel of its own for
_LARGEST_COPIED = 128  # height and width together, up to which torch interpolates channels last


def workspace_bytes(
    operation: Any, arguments: tuple[Any, ...], result: Any, *, by_library: bool = False
) -> int | None:
    """Bytes above those of the operation's inputs and results; None if nobody knows.

    Args:
        operation: Of aten; whatever is no calculation takes nothing.
        arguments: That it was called with.
        result: What it returned.
        by_library: Whether a layer of medseg's has oneDNN compute a single small volume, which
            torch would unfold.
    """
    if operation.namespace != "aten":
        return 0
    name = base_name(operation.overloadpacket.__name__)
    if (rule := _RULES.get(name)) is None:
        return 0 if name in KNOWN else None
    first = next((leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)), None)
    if first is None:
        return 0
    if first.device.type != "cpu":
        return None if name in _ESTIMATED else 0
    if name in _CONVOLUTIONS and not _was_measured(arguments, backward=name != "convolution"):
        return None
    if by_library and rule is _convolution:
        return _convolution_by_library(arguments, result)
    return rule(arguments, result)


def _was_measured(arguments: tuple[Any, ...], *, backward: bool) -> bool:
    """Whether the rules were held against convolutions of this kind."""
    image, weight, _, _, _, dilation, *_ = arguments[backward:]
    kernel = weight.shape[2:]
    reach = max(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    is_known = max(kernel) <= _LARGEST_KERNEL and reach <= _FURTHEST_TAP
    return is_known and (_HAS_AVX512 or image.dtype not in _HALF)


def _convolution(arguments: tuple[Any, ...], output: Tensor) -> int:
    """Single small images torch unfolds into the columns of a matrix."""
    image, weight, _, stride, _, dilation, transposed, _, groups = arguments
    if is_unfolded(image, weight, stride, dilation, groups):
        return _copies(image) + _columns(image, weight, image if transposed else output)
    return _convolution_by_library(arguments, output)


def _convolution_by_library(arguments: tuple[Any, ...], output: Tensor) -> int:
    """Channels that are last in memory oneDNN takes as they are.

    Others it first puts into a layout of its own, in blocks of channels.
    """
    image, weight, _, stride, _, _, transposed, _, groups = arguments
    copy = _copies(image)
    if not (_HAS_AVX512 or _has_channels_last(image)) and image.dtype == torch.float32:
        if groups > 1:
            return copy + _grouped_of_avx2(image, weight, output, stride, groups)
        if transposed:
            return copy + max(2 * _size(output), _size(image) + _size(weight))
    return copy + _forward(image, weight, output, groups)


def _convolution_backward(arguments: tuple[Any, ...], _result: Any) -> int:
    gradient, image, weight, _, stride, _, dilation, transposed, _, groups, _ = arguments
    copy = _copies(gradient, image)
    if is_unfolded(image, weight, stride, dilation, groups):
        return copy + _columns(image, weight, image if transposed else gradient)
    needed = _backward(image, weight, gradient, groups)
    if _HAS_AVX512 or image.dtype != torch.float32:
        return copy + needed
    if groups > 1:
        return copy + _grouped_backward_of_avx2(image, weight, gradient, groups)
    is_2d = image.ndim == 4 and image.shape[1] >= _BLOCK and not _is_pointwise(weight)
    is_in_blocks = transposed or is_2d
    if is_in_blocks and not _has_channels_last(image):
        padding = _weights_in_blocks(weight, 1) - _size(weight)
        needed = max(needed, _blocked(image) + _blocked(gradient) + padding)
    if not _is_pointwise(weight):
        unfolded = _backward_of_avx2(image, weight, gradient, stride, dilation, transposed)
        needed = max(needed, unfolded)
    return copy + needed


def _is_pointwise(weight: Tensor) -> bool:
    return math.prod(weight.shape[2:]) == 1


def _columns(image: Tensor, weight: Tensor, grid: Tensor) -> int:
    """Every tap of every voxel of the grid that the kernel moves over."""
    columns = math.prod(weight.shape[1:]) * math.prod(grid.shape[2:]) * image.element_size()
    if _is_pointwise(weight) and grid.shape[2:] == image.shape[2:]:
        columns = 0  # they are the image
    if not _has_channels_last(image):
        return columns
    if image.ndim == 5:
        return columns + _size(image)
    return columns + (0 if _is_pointwise(weight) else _size(weight))  # in the image's layout


def _forward(image: Tensor, weight: Tensor, output: Tensor, groups: int) -> int:
    if _has_channels_last(image):
        return 2 * _size(weight)
    if groups > 1:
        return _size(image) + _size(output)
    first, second = _blocked(image), _blocked(output)
    needed = max(first, second) + _size(weight)
    if not _is_pointwise(weight):
        return needed if _HAS_AVX512 else _in_blocks(image, weight, output)
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


def _grouped_of_avx2(
    image: Tensor, weight: Tensor, output: Tensor, stride: Sequence[int], groups: int
) -> int:
    """Groups that fill registers are put into blocks; others are unfolded, one after the other."""
    if not _fills_blocks(image, weight, groups):
        return max(_size(output), _group_columns(weight, output))
    if _is_depthwise(weight, groups) and weight.ndim == 5 and max(stride) == 1:
        return _size(image) + _size(output)
    return _in_blocks(image, weight, output)


def _in_blocks(image: Tensor, weight: Tensor, output: Tensor) -> int:
    """Image, weights and output in blocks, then the output beside a plain one.

    Images with fewer channels than a block stay as they are.
    """
    first = _blocked(image) + _size(weight) if image.shape[1] >= _BLOCK else 0
    padding = _blocked(output) - _size(output)
    return max(_blocked(output), first + padding if first else 0)


def _grouped_backward_of_avx2(image: Tensor, weight: Tensor, gradient: Tensor, groups: int) -> int:
    depthwise, last = _is_depthwise(weight, groups), _has_channels_last(image)
    is_2d, fills = weight.ndim == 4, _fills_blocks(image, weight, groups)
    has_kernel = is_2d and fills and (not depthwise or max(weight.shape[2:]) <= _LARGEST_DEPTHWISE)
    if last and has_kernel:
        return 3 * _size(weight)
    if last:
        return _weights_in_blocks(weight, groups) + 2 * _size(weight)
    if _is_pointwise(weight):
        return _size(image) + _size(weight)
    if has_kernel:
        return _blocked(image) + _blocked(gradient)
    return max(_group_columns(weight, gradient) + 4 * _size(weight), _size(image) - _size(weight))


def _is_depthwise(weight: Tensor, groups: int) -> bool:
    return len(weight) == groups and weight.shape[1] == 1


def _fills_blocks(image: Tensor, weight: Tensor, groups: int) -> bool:
    whole = image.shape[1] // groups % _BLOCK == 0 and len(weight) // groups % _BLOCK == 0
    return whole or _is_depthwise(weight, groups)


def _group_columns(weight: Tensor, grid: Tensor) -> int:
    """Of a group: every tap of every voxel, in 3-D of a slice."""
    return math.prod(weight.shape[1:]) * math.prod(grid.shape[-2:]) * grid.element_size()


def _weights_in_blocks(weight: Tensor, groups: int) -> int:
    channels = [-(-n // _BLOCK) * _BLOCK for n in (weight.shape[1], len(weight) // groups)]
    return groups * math.prod(channels) * math.prod(weight.shape[2:]) * weight.element_size()


def _accumulators(image: Tensor, result: int) -> int:
    """Every thread sums up the result of one image in single precision."""
    return 2 * torch.get_num_threads() * result // len(image)


def _has_channels_last(x: Tensor) -> bool:
    """As torch decides (`suggest_memory_format` in c10/core/MemoryFormat.h)."""
    if x.ndim not in CHANNELS_LAST or x.stride(1) == 0:
        return False
    least = 0
    for axis in (1, *range(x.ndim - 1, 1, -1), 0):
        if x.stride(axis) < least or (axis == 0 and least == x.stride(1)):
            return False
        least = x.stride(axis) * x.shape[axis]
    return True


def _copies(*inputs: Tensor) -> int:
    """Of inputs that lie neither in one piece nor with channels last."""
    return sum(_size(x) for x in inputs if not _is_laid_out(x))


def _is_laid_out(x: Tensor) -> bool:
    last = _has_channels_last(x)
    return x.is_contiguous(memory_format=CHANNELS_LAST[x.ndim] if last else torch.contiguous_format)


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


def _in_one_piece(arguments: tuple[Any, ...], _result: Any) -> int:
    """A copy of every input that does not lie in one piece."""
    return sum(_size(x) for x in _tensors(arguments) if not x.is_contiguous())


def _interpolated(arguments: tuple[Any, ...], result: Tensor) -> int:
    """Small planes are copied to channels last, interpolated and copied back."""
    image = arguments[0]
    small = result.ndim == 4 and sum(result.shape[2:]) <= _LARGEST_COPIED
    if image.shape[1] > 1 and small and not _has_channels_last(image):
        return _size(image) + _size(result)
    return 0


def _batch_norm_backward(arguments: tuple[Any, ...], result: Any) -> int:
    """The image's gradient is allocated twice where all lies in one piece."""
    gradient, image, *_ = arguments
    return _size(result[0]) if gradient.is_contiguous() and image.is_contiguous() else 0


def _converted(arguments: tuple[Any, ...], result: Any) -> int:
    """Inputs of another type than the one that is calculated in, such as masks, are converted."""
    inputs = [x for x in _tensors(arguments) if x.ndim]
    dtype = functools.reduce(torch.promote_types, [x.dtype for x in inputs], torch.bool)
    if isinstance(result, Tensor) and result.dtype != torch.bool:
        dtype = torch.promote_types(dtype, result.dtype)
    return sum(x.numel() * dtype.itemsize for x in inputs if x.dtype != dtype)


def _rolled(arguments: tuple[Any, ...], result: Tensor) -> int:
    """Along several axes, one after the other."""
    return 0 if len(arguments) > 2 and len(arguments[2]) == 1 else _size(result)


def _product(arguments: tuple[Any, ...], _result: Any) -> int:
    """Copies of matrices neither of whose axes is dense, as of an expanded gradient."""
    return sum(_size(x) for x in _tensors(arguments) if x.ndim == 2 and 1 not in x.stride())


def _tensors(arguments: tuple[Any, ...]) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


_ESTIMATED: dict[str, _Rule] = {
    "convolution": _convolution,
    "convolution_backward": _convolution_backward,
    "_scaled_dot_product_flash_attention_for_cpu": _fused_attention,
    "_scaled_dot_product_flash_attention_for_cpu_backward": _fused_attention_backward,
    "_native_multi_head_attention": _whole_attention,
}
_CONVOLUTIONS = {"convolution", "convolution_backward"}
_IN_ONE_PIECE = {
    "native_layer_norm", "native_layer_norm_backward", "_softmax", "_softmax_backward_data",
    "_log_softmax", "_log_softmax_backward_data", "log_sigmoid_forward", "index_select",
    "avg_pool3d",
}  # fmt: skip
_IN_EITHER_LAYOUT = {
    "max_pool2d_with_indices", "max_pool3d_with_indices", "avg_pool2d", "_adaptive_avg_pool2d",
    "adaptive_max_pool2d", "pixel_shuffle", "pixel_unshuffle",
} | (PADS - {"constant_pad_nd"})  # fmt: skip
_INTERPOLATIONS = NEAREST_INTERPOLATIONS | LINEAR_INTERPOLATIONS
_SPREAD_BACK = _IN_EITHER_LAYOUT | _INTERPOLATIONS | SAMPLERS | {"avg_pool3d"}
_CALCULATED = (POINTWISE - COMPARISONS - {"where", "masked_fill"}) | {"sum", "mean", "prod"}
_RULES = {
    **dict.fromkeys(_CALCULATED, _converted),
    **dict.fromkeys(_IN_ONE_PIECE, _in_one_piece),
    **dict.fromkeys(_IN_EITHER_LAYOUT, lambda arguments, _: _copies(*_tensors(arguments))),
    **dict.fromkeys(_INTERPOLATIONS, _interpolated),
    **dict.fromkeys(
        (f"{name}_backward" for name in _SPREAD_BACK), lambda arguments, _: _copies(arguments[0])
    ),
    **dict.fromkeys(("mm", "addmm"), _product),
    "_safe_softmax": _safe_softmax,
    "native_batch_norm_backward": _batch_norm_backward,
    "roll": _rolled,
    "logsumexp": lambda arguments, result: _size(arguments[0]) + _size(result),
} | _ESTIMATED
"""What CPU kernels take; on a GPU only `_ESTIMATED` ones are known to take something."""
