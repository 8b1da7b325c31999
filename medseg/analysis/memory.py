"""Peak memory of a network, without running it: every tensor is made and freed, without values."""

import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medseg.analysis.trace import copied
from medseg.analysis.workspace import workspace_bytes
from medseg.errors import ConfigError
from medseg.layers.context import CHANNELS_LAST


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes that a network needs.

    Args:
        weights: Parameters and buffers.
        gradients: Of the parameters.
        kept: Tensors kept for the backward pass when the forward pass ends; 0 in inference.
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
    """
    mode = FakeTensorMode()
    tensors = [*network.parameters(), *network.buffers()]
    abstract = copied(network, {id(t): mode.from_tensor(t) for t in tensors})
    abstract.train(training)
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
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"size={list(size)} with {in_channels} channels does not pass "
            f"{type(network).__name__}: {reason}"
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
        self.peak = max(self.peak, self.live + workspace_bytes(func, args, result))
        return result

    def leave_out(self, tensor: Tensor | None) -> None:
        """Does not count a tensor that is there before."""
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
