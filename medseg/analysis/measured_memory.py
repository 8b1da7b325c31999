"""Peak memory of one call: what it allocated and had not yet freed, at its highest."""

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

_ALLOCATION = "[memory]"


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
    """The peak of one batch, with the gradients there before; see `arithmetic.memory`.

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
