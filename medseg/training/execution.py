"""How a training step is carried out: the layout of memory, and whether the network is compiled.

Which way is fastest depends on GPU and network. `auto` measures a few steps of each and keeps what
it found, so that the next run of the same network on the same device goes the same way.
"""

import copy
import hashlib
import json
import logging
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ResourceError
from medseg.files import write_text
from medseg.layers.context import CHANNELS_LAST, channels_last

WAYS = ("plain", "channels_last", "compiled", "cuda_graphs")
"""Compiled networks have their channels last; CUDA graphs are of a compiled network."""

_UNTIMED, _TIMED = 4, 7  # steps
_WORTH = 0.97  # of the plain time: what is left by less is noise
_LONG = 600.0  # seconds of training; compiling takes about one minute
_FOLDER = "execution"

log = logging.getLogger(__name__)

Call = Callable[[nn.Module, Tensor], Any]


@dataclass(frozen=True, kw_only=True)
class Step:
    """The step of a training.

    Args:
        network: The network.
        call: What is called on it and the image (`medseg.analysis.cost.training_call`).
        shape: Of a batch of images of one process, `(N, channels, *S)`.
        precision: `bf16`, `fp16`, `tf32` or `fp32`.
        device: Where it is trained.
        steps: How many there are.
        max_seconds: Of all of them, where time ends the training.
    """

    network: nn.Module
    call: Call
    shape: tuple[int, ...]
    precision: str
    device: torch.device
    steps: int
    max_seconds: float | None = None

    def seconds(self, way: str) -> float:
        """Median time of forward and backward pass, on a copy of the network and noise."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.enable_grad():
            network = copy.deepcopy(self.network).to(self.device).train()
            call = executed(way, network, self.call)
            image = torch.randn(self.shape, device=self.device)
            times = []
            for _ in range(_UNTIMED + _TIMED):
                start = self._now()
                with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
                    logits = call(network, image)
                    every = logits if isinstance(logits, list) else [logits]
                    loss = torch.stack([own.float().mean() for own in every]).sum()
                loss.backward()
                network.zero_grad(set_to_none=True)
                times.append(self._now() - start)
        return statistics.median(times[_UNTIMED:])

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def executed(way: str, network: nn.Module, call: Call) -> Call:
    """Lays a network's weights out as a way wants them.

    Args:
        way: Of `WAYS`.
        network: Is changed in place.
        call: What a step calls on it and an image.

    Returns:
        What a step calls in its place.
    """
    if way == "plain":
        return call
    for weight in network.parameters():
        if weight.ndim in CHANNELS_LAST:
            weight.data = channels_last(weight.data)
    if way == "compiled":
        call = torch.compile(call, dynamic=False)
    if way == "cuda_graphs":
        call = torch.compile(call, dynamic=False, mode="reduce-overhead")
    return lambda own, image: call(own, channels_last(image))


def choose_execution(
    wanted: str,
    step: Step,
    described: Any,
    *,
    cache: Path,
    deterministic: bool = False,
    measure: Callable[[Step, str], float] = Step.seconds,
) -> str:
    """Finds the way in which a training step is carried out.

    `auto` is `plain` on a CPU, where medseg's layers choose their own layout, and with
    `deterministic`. On a GPU it is the fastest of `plain`, `channels_last` and, where training
    takes more than ten minutes, `compiled`.

    Args:
        wanted: `auto`, or one of `WAYS`.
        step: The step.
        described: What the network is built from.
        cache: Folder in which measured times are kept.
        deterministic: Whether another run must do the same.
        measure: Step and way → seconds.

    Raises:
        ResourceError: CUDA graphs are asked for and it is no GPU.
    """
    if wanted == "cuda_graphs" and step.device.type != "cuda":
        raise ResourceError(f"trainer.execution={wanted}: needs a GPU; take trainer.execution=auto")
    if wanted != "auto":
        return wanted
    if step.device.type != "cuda" or deterministic:
        return "plain"
    name = torch.cuda.get_device_name(step.device)
    depends_on = name, torch.__version__, described, step.shape, step.precision
    key = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:16]
    path = cache.expanduser() / _FOLDER / f"{key}.json"
    seconds = _kept(path)
    known = dict(seconds)
    for way in ("plain", "channels_last"):
        if way not in seconds:
            seconds[way] = measure(step, way)
    is_long = (step.max_seconds or step.steps * seconds["plain"]) > _LONG
    if is_long and "compiled" not in seconds:
        try:
            seconds["compiled"] = measure(step, "compiled")
        except Exception as error:  # whatever the compiler has to say
            log.debug("not compiled", exc_info=True)
            log.info("the network is not compiled: %s", " ".join(str(error).split())[:200])
    if seconds != known:
        with suppress(OSError):  # then the next run measures again
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(seconds))
    if not is_long:  # it would be compiled for longer than it gains
        seconds.pop("compiled", None)
    way = fastest(seconds)
    told = ", ".join(f"{own} {1e3 * each:.3g} ms" for own, each in seconds.items())
    log.info("a training step is carried out %s (forward and backward: %s)", way, told)
    return way


def fastest(seconds: Mapping[str, float]) -> str:
    """The quickest way, if it is worth leaving the plain one.

    >>> fastest({"plain": 1.0, "channels_last": 0.8}), fastest({"plain": 1.0, "compiled": 0.99})
    ('channels_last', 'plain')
    """
    way = min(seconds, key=lambda own: seconds[own])
    return way if seconds[way] < _WORTH * seconds["plain"] else "plain"


def _kept(path: Path) -> dict[str, float]:
    """Times that were measured before; none where the file is damaged."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        found = json.loads(path.read_text(encoding="utf-8"))
        return {way: float(each) for way, each in found.items() if way in WAYS}
    return {}
