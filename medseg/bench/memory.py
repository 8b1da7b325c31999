"""Peak memory of one call: what it allocated and had not yet freed, at its highest."""

from collections.abc import Callable, Iterable
from itertools import accumulate

import torch
from torch.profiler import ProfilerActivity, profile

_ALLOCATION = "[memory]"


def peak_memory_bytes(call: Callable[[], None], device: torch.device) -> int:
    """Most bytes of tensors that the call held at once, above those that were there before."""
    if device.type == "cuda":
        return _gpu_peak(call)
    return highest_sum(_allocation_deltas(call))


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
