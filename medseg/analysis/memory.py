"""Peak memory of a network: predicted from abstract tensors, and measured for comparison.

The prediction makes and frees every tensor without values. To the tensors it adds what torch's CPU
library takes inside a convolution.
"""

import copy
import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg.analysis.time_limit import check_time
from medseg.analysis.trace import copied, first_line
from medseg.errors import ConfigError
from medseg.layers.context import CHANNELS_LAST

_FORWARD = {torch.ops.aten.convolution.default}
_BACKWARD = {torch.ops.aten.convolution_backward.default}
_HAS_AVX512 = torch.backends.cpu.get_cpu_capability() == "AVX512"
_BLOCK = 16 if _HAS_AVX512 else 8  # channels in a register
_SMALL = 20480  # torch's own bound (use_mkldnn in ATen/native/Convolution.cpp)
_THREADED_COLUMNS = 2_400_000  # bytes; 2.05 MB were measured in every thread, 2.76 MB in one
_ALLOCATION = "[memory]"


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a network needs.

    Args:
        weights: Parameters and buffers.
        gradients: Of the parameters.
        kept: Tensors held for the backward pass when the forward pass ends; 0 in inference.
        peak: Most that is held at once besides weights, gradients and the image.
    """

    weights: int
    gradients: int
    kept: int
    peak: int


def predicted_memory(
    network: nn.Module,
    in_channels: int,
    size: Sequence[int],
    *,
    batch: int = 1,
    training: bool = False,
    bf16: bool = False,
    run: Callable[[nn.Module, Tensor], Any] = nn.Module.__call__,
) -> Memory:
    """Peak memory of one batch on the device where the network is.

    Args:
        network: Image → logits; left as it was.
        in_channels: Channels of the image.
        size: Of the image in voxels.
        batch: Images at once.
        training: Forward and backward instead of forward alone.
        bf16: Under autocast to bfloat16.
        run: What is called on network and image.

    Raises:
        ConfigError: the network does not accept the image.
        TimeoutError: see `time_limit`.
    """
    mode = FakeTensorMode()
    tensors = [*network.parameters(), *network.buffers()]
    abstract = copied(network, {id(t): mode.from_tensor(t) for t in tensors})
    abstract.train(training)
    for module in abstract.modules():  # what an operation raises would end the whole process
        module.register_forward_pre_hook(lambda *_: check_time())
    device = tensors[0].device if tensors else torch.device("cpu")
    ledger = _Ledger()
    kept = 0
    try:
        with mode, torch.set_grad_enabled(training):
            image = torch.empty((batch, in_channels, *size), device=device)
            for parameter in abstract.parameters():
                parameter.grad = torch.zeros_like(parameter) if training else None
                ledger.leave_out(parameter.grad)
            with ledger:
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    outputs = run(abstract, image)
                if training:
                    loss = torch.stack([t.float().sum() for t in tree_leaves(outputs)]).sum()
                    kept = ledger.live
                    loss.backward()
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"size={list(size)} with {in_channels} channels does not pass "
            f"{type(network).__name__}: {first_line(error)}"
        ) from error
    parameters = sum(p.numel() * p.element_size() for p in network.parameters() if p.requires_grad)
    return Memory(
        weights=sum(t.numel() * t.element_size() for t in tensors),
        gradients=parameters if training else 0,
        kept=kept,
        peak=ledger.peak,
    )


class _Ledger(TorchDispatchMode):
    """Adds up the memory of tensors as they come and go."""

    def __init__(self):
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = _laid_out(func, args, func(*args, **(kwargs or {})))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        self.peak = max(self.peak, self.live + _workspace_bytes(func, args, result))
        return result

    def leave_out(self, tensor: Tensor | None) -> None:
        """Leaves a tensor out that was there before."""
        if tensor is not None:
            storage = tensor.untyped_storage()
            self._known[storage._cdata] = weakref.ref(storage)

    def _enter(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self.live += size

        def leave(_gone: weakref.ref) -> None:
            self.live -= size
            del self._known[key]

        self._known[key] = weakref.ref(storage, leave)


def _laid_out(operation: Any, arguments: tuple[Any, ...], result: Any) -> Any:
    """The result in the layout that it really has: a group norm keeps its input's."""
    if operation is not torch.ops.aten.native_group_norm.default:
        return result
    image = arguments[0]
    if image.ndim not in CHANNELS_LAST or image.stride(1) != 1:
        return result
    return torch.empty_like(result[0], memory_format=CHANNELS_LAST[image.ndim]), *result[1:]


def _workspace_bytes(operation: Any, arguments: tuple[Any, ...], result: Any) -> int:
    """Memory that a convolution on a CPU takes only while it computes; 0 for all other steps.

    oneDNN computes on tensors whose channels are last in memory as they are. Others it first puts
    into a layout of its own, in blocks of channels. Single small images torch unfolds into the
    columns of a matrix instead. What that takes is in no tensor; these rules were read off measured
    peaks of torch 2.13, with AVX-512 and with AVX2 (docs/arithmetic.md).
    """
    if operation in _FORWARD:
        image, weight, _, stride, _, dilation, transposed, _, groups = arguments
        output, is_backward = result, False
    elif operation in _BACKWARD:
        output, image, weight, _, stride, _, dilation, transposed, _, groups, _ = arguments
        is_backward = True
    else:
        return 0
    if image.device.type != "cpu":
        return 0
    if _is_unfolded(image, weight):
        return _columns(image, weight, image if transposed else output)
    if not is_backward:
        return _forward(image, weight, output, groups)
    needed = _backward(image, weight, output, groups)
    if _HAS_AVX512 or image.dtype != torch.float32 or groups > 1 or _is_pointwise(weight):
        return needed
    return max(needed, _backward_of_avx2(image, weight, output, stride, dilation, transposed))


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
    return x.ndim > 3 and x.shape[1] > 1 and x.stride(1) == 1


def _blocked(x: Tensor) -> int:
    channels = x.shape[1]
    return _size(x) // channels * (-(-channels // _BLOCK) * _BLOCK)


def _size(x: Tensor) -> int:
    return x.numel() * x.element_size()


def peak_memory_bytes(call: Callable[[], None], device: torch.device) -> int:
    """Most bytes of tensors that the call held at once, above those that were there before."""
    if device.type == "cuda":
        return _gpu_peak(call)
    return highest_sum(_allocation_deltas(call))


def network_peak_bytes(
    network: nn.Module,
    shape: Sequence[int],
    *,
    training: bool,
    bf16: bool,
    run: Callable[[nn.Module, Tensor], Any] = nn.Module.__call__,
) -> int:
    """The measured peak of one batch, its gradients allocated before, as `predicted_memory` counts.

    Args:
        network: Image → logits; left as it was.
        shape: Of the batch, `(N, channels, *S)`.
        training: Forward and backward instead of forward alone.
        bf16: Under autocast to bfloat16.
        run: What is called on network and image.
    """
    own = copy.deepcopy(network).train(training)
    device = next(own.parameters()).device
    image = torch.randn(tuple(shape), device=device)
    for parameter in own.parameters():
        parameter.grad = torch.zeros_like(parameter) if training else None

    def once() -> None:
        with torch.set_grad_enabled(training):
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                outputs = run(own, image)
            if training:
                torch.stack([t.float().sum() for t in tree_leaves(outputs)]).sum().backward()

    once()  # what is made once, such as kernels, is no part of a step
    return peak_memory_bytes(once, device)


def highest_sum(deltas_bytes: Iterable[int]) -> int:
    """Highest running sum of allocations (positive) and releases (negative), at least 0."""
    return max(accumulate(deltas_bytes, initial=0))


def _gpu_peak(call: Callable[[], None]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def _allocation_deltas(call: Callable[[], None]) -> list[int]:
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    # the profiler's public table adds up an operator's own allocations and loses their order
    raw = recorded.profiler.kineto_results.events()  # type: ignore[union-attr]
    events = [event for event in raw if event.name() == _ALLOCATION]
    events.sort(key=lambda event: event.start_ns())
    return [event.nbytes() for event in events]  # type: ignore[attr-defined]
