"""Calls timed in turn, so that drifts of the machine meet all of them alike."""

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch

SLOW_MILLISECONDS = 2000.0
SLOW_ROUNDS = 3

Call = Callable[[], None]
Clock = Callable[[Call], float]
"""Calls, and returns the milliseconds that it took."""
Key = TypeVar("Key", bound=Hashable)


def cpu_milliseconds(call: Call) -> float:
    """Wall-clock time of a call."""
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def gpu_milliseconds(call: Call) -> float:
    """Time between two events on the GPU, which is idle before and after a call."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end)


@dataclass(frozen=True)
class Outcome:
    """The measured rounds of one call, or why there are none."""

    samples_milliseconds: tuple[float, ...] = ()
    failure: str | None = None


def interleave(calls: Mapping[Key, Call], rounds: int, clock: Clock) -> dict[Key, Outcome]:
    """Times all calls round by round: a, b, c, a, b, c, …; a first round is not counted.

    A call that fails in the first round takes no part in the others; one that takes longer than
    `SLOW_MILLISECONDS` there leaves after `SLOW_ROUNDS`.

    Args:
        calls: What is timed.
        rounds: Measured rounds, at least 1.
        clock: Times a call.
    """
    planned: dict[Key, int] = {}
    outcomes: dict[Key, Outcome] = {}
    for key, call in calls.items():
        try:
            warm_up = clock(call)
        except (RuntimeError, ValueError) as error:  # out of memory, or a kernel that is missing
            outcomes[key] = Outcome(failure=(str(error).splitlines() or [repr(error)])[0])
        else:
            planned[key] = min(rounds, SLOW_ROUNDS) if warm_up > SLOW_MILLISECONDS else rounds
    samples: dict[Key, list[float]] = {key: [] for key in planned}
    for index in range(rounds):
        for key, own_rounds in planned.items():
            if index < own_rounds:
                samples[key].append(clock(calls[key]))
    return outcomes | {key: Outcome(tuple(times)) for key, times in samples.items()}
