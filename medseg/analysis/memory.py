"""Peak memory of a network: predicted from abstract tensors, and measured for comparison.

The prediction makes and frees every tensor without values. To the tensors it adds what an operation
takes while it computes.
"""

import copy
import logging
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg.analysis.trace import check_time, copied, first_line, hookable
from medseg.analysis.workspace import workspace_bytes
from medseg.data.config import DataConfig
from medseg.errors import ConfigError
from medseg.layers.context import CHANNELS_LAST
from medseg.layers.fast_conv import Conv3d
from medseg.models.weights import ModelCard

log = logging.getLogger(__name__)

_ALLOCATION = "[memory]"
_VIEWS = (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default)
_REFERENCES = 4  # to a tensor that only the arguments of a call hold, while it is looked at


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a network needs.

    Args:
        weights: Parameters and buffers.
        gradients: Of the parameters.
        kept: Tensors held for the backward pass when the forward pass ends; 0 in inference.
        tensors: Most that tensors hold at once besides weights, gradients and the image: known,
            and what the process takes at least.
        peak: The same with what operations take while they compute, which rules estimate.
        unseen: Operations that may take more inside, of which nothing is known.
    """

    weights: int
    gradients: int
    kept: int
    tensors: int
    peak: int
    unseen: tuple[str, ...] = ()


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
    ledger = _Ledger()
    for _, module in hookable(abstract):  # what an operation raises would end the whole process
        module.register_forward_pre_hook(lambda *_: check_time())
        if isinstance(module, Conv3d):
            module.register_forward_pre_hook(ledger.enter_convolution)
            module.register_forward_hook(ledger.leave_convolution)
    device = tensors[0].device if tensors else torch.device("cpu")
    kept = 0
    try:
        with mode, torch.set_grad_enabled(training):
            image = torch.empty((batch, in_channels, *size), device=device)
            for parameter in abstract.parameters():
                parameter.grad = torch.zeros_like(parameter) if training else None
                ledger.leave_out(parameter.grad)
            for tensor in (image, *abstract.parameters(), *abstract.buffers()):
                ledger.leave_out(tensor)  # their views are no new memory
            with ledger:
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    outputs = run(abstract, image)
                unseen = sorted(ledger.unseen)  # the backward pass goes through the same
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
        tensors=ledger.most,
        peak=ledger.peak,
        unseen=tuple(unseen),
    )


def foreseen_memory(
    network: nn.Module, in_channels: int, size: Sequence[int], **options: Any
) -> Memory | None:
    """As `predicted_memory`; None where a layer is not known."""
    try:
        return predicted_memory(network, in_channels, size, **options)
    except (ConfigError, RuntimeError, NotImplementedError) as error:
        log.debug("memory was not predicted: %s", error)
        return None


def window_bytes(
    card: ModelCard | DataConfig, *, bf16: bool = False
) -> Callable[[nn.Module], Callable[[int], int]]:
    """Foresees what networks take to segment windows.

    Args:
        card: Their channels, and their patch: a window.
        bf16: Under autocast to bfloat16.

    Returns:
        Network → windows that are computed at once → bytes besides weights and image; 0 where a
        layer is not known.
    """

    def of(network: nn.Module) -> Callable[[int], int]:
        @cache
        def needed(windows: int) -> int:
            size = card.patch_size
            found = foreseen_memory(network, card.in_channels, size, batch=windows, bf16=bf16)
            return found.peak if found else 0

        return needed

    return of


class _Ledger(TorchDispatchMode):
    """Adds up the memory of tensors as they come and go."""

    def __init__(self):
        super().__init__()
        self.live = 0
        self.most = 0
        self.peak = 0
        self.unseen: set[str] = set()
        self._by_library = False
        self._known: dict[int, weakref.ref] = {}

    def enter_convolution(self, layer: Conv3d, inputs: tuple[Tensor, ...]) -> None:
        """What the layer computes by the library, torch seems to compute while this watches."""
        self._by_library = layer.takes_over(inputs[0])

    def leave_convolution(self, *_: Any) -> None:
        """The operations that follow are torch's."""
        self._by_library = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is torch.ops.aten.add.Tensor and _is_bias_of_linear(args):
            func = torch.ops.aten.add_.Tensor
        result = _laid_out(func, args, func(*args, **(kwargs or {})))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._enter(tensor.untyped_storage())
        inside = workspace_bytes(func, args, result, by_library=self._by_library)
        if inside is None:
            first = next((t for t in tree_leaves(args) if isinstance(t, Tensor)), None)
            is_bf16 = first is not None and first.dtype == torch.bfloat16
            self.unseen.add(func.overloadpacket.__name__ + (" in bf16" if is_bf16 else ""))
        self.most = max(self.most, self.live)
        self.peak = max(self.peak, self.live + (inside or 0))
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


def _is_bias_of_linear(arguments: tuple[Any, ...]) -> bool:
    """Whether a linear layer adds its bias: in place, but not while somebody watches.

    Its product is then held by nothing in Python: `Tensor linear(` in ATen/native/Linear.cpp.
    """
    product, bias = arguments[:2]
    is_bias = isinstance(bias, Tensor) and bias.shape == product.shape[-1:]
    is_held = sys.getrefcount(product) > _REFERENCES
    return is_bias and not is_held and not torch.is_grad_enabled()


def _laid_out(operation: Any, arguments: tuple[Any, ...], result: Any) -> Any:
    """The result in the layout that it really has, where that of tensors without values differs."""
    if operation is torch.ops.aten.native_group_norm.default:  # keeps its input's
        image = arguments[0]
        if image.ndim not in CHANNELS_LAST or image.stride(1) != 1:
            return result
        kept = torch.empty_like(result[0], memory_format=CHANNELS_LAST[image.ndim])
        return kept, *result[1:]
    if operation in _VIEWS and result.ndim > 1 and len(result) == 1:
        # of one image the stride of the batch: `computeStride` in ATen/TensorUtils.cpp
        strides = (result.shape[1] * result.stride(1), *result.stride()[1:])
        if strides != result.stride():
            return arguments[0].as_strided(result.shape, strides, result.storage_offset())
    return result


def peak_memory_bytes(call: Callable[[], None], device: torch.device) -> int:
    """Most bytes of tensors that the call held at once, above those that were there before."""
    if device.type == "cuda":
        return _gpu_peak(call)
    return max(accumulate(_allocation_deltas(call), initial=0))


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
