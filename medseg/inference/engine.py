"""What computes a network on a CPU: torch, or OpenVINO, which takes less time for a window.

OpenVINO (Intel, Apache 2.0) compiles a network for windows of one size: layers are joined, and
tensors stay in the layout that its convolutions want.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from threading import Lock
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from medseg.errors import ConfigError, ResourceError
from medseg.export.program import compared, of_windows, quiet, refused
from medseg.inference.head import Head
from medseg.inference.memory import WindowBytes
from medseg.inference.mirroring import Mirrored
from medseg.models.weights import TrainedModel

ENGINES = ("torch", "openvino")

_REMEDY = "choose the engine torch"
_WEIGHTS = 2  # copies of the weights in the order of its convolutions; measured, as what follows
_MORE = 64 << 20


class Compiled(nn.Module):
    """Windows → what a network gives, by OpenVINO in fp32, of one size and any number.

    Args:
        model: The trained network, or what `head` makes its logits of.
        window: In voxels.
        head: Features → logits; None: the network gives logits.

    Attributes:
        weight_bytes: Of the network.

    Raises:
        ConfigError: the network has no such form, or computes something else in it.
        ResourceError: OpenVINO is not installed.
    """

    def __init__(self, model: TrainedModel, window: tuple[int, ...], head: Head | None = None):
        super().__init__()
        openvino = _openvino()
        self._core = openvino.Core()
        try:
            with quiet():
                self._graph = openvino.convert_model(of_windows(model, window))
        except Exception as error:  # torch and OpenVINO raise whatever they meet
            raise refused(model, "OpenVINO", error, remedy=_REMEDY) from error
        self.weight_bytes = sum(p.nbytes for p in model.network.parameters())
        self._lock = Lock()  # a request computes one thing at a time
        self._request: Any = None
        self._count = 0  # of windows that it is compiled for
        if head is None:
            compared(model, [window], self, remedy=_REMEDY)
        else:
            whole = replace(model, network=_Whole(model.network, head))
            compared(whole, [window], _Whole(self, head), remedy=_REMEDY)

    def forward(self, windows: Tensor) -> Tensor:
        """Windows `(n, channels, *window)` → `(n, outputs, *window)`, float32."""
        count = len(windows)
        with self._lock:
            if count > self._count:
                self._request = None  # it holds the memory of all its tensors
                self._request, self._count = self._compiled(windows.shape), count
            # the last windows of a volume are fewer: some once more take less time than compiling
            more = windows[-1:].expand(self._count - count, *windows.shape[1:])
            (found,) = self._request.infer([torch.cat([windows, more]).numpy()]).values()
        return torch.from_numpy(found[:count])

    def _compiled(self, shape: Sequence[int]) -> Any:
        graph = self._graph.clone()
        graph.reshape(list(shape))
        options = {
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "INFERENCE_PRECISION_HINT": "f32",  # else bf16 where the processor has it
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one window, whose memory exists once
        }
        return self._core.compile_model(graph, "CPU", options).create_infer_request()


class _Whole(nn.Module):
    """A network of two parts."""

    def __init__(self, network: nn.Module, head: Head):
        super().__init__()
        self.network, self.head = network, head

    def forward(self, windows: Tensor) -> Tensor:
        """Windows `(n, channels, *window)` → logits `(n, classes, *window)`."""
        return self.head.of_windows(self.network(windows))


def with_engine(
    model: TrainedModel,
    engine: str,
    window: tuple[int, ...],
    *,
    head: Head | None = None,
    device: torch.device,
    precision: str,
) -> nn.Module:
    """The network of a model, computed by an engine; of a mirrored network, what is mirrored.

    Args:
        model: A trained network, or what `head` makes its logits of.
        engine: `torch` or `openvino`.
        window: In voxels, of all that it will be given.
        head: As of `medseg.inference.head.parted`.
        device: Of the prediction; OpenVINO's is a CPU.
        precision: Of the prediction; OpenVINO's is `fp32`.

    Raises:
        ConfigError: an unknown engine, another device or precision, or a network without that form.
        ResourceError: OpenVINO is not installed.
    """
    if engine not in ENGINES:
        raise ConfigError(f"engine={engine!r} must be one of {', '.join(ENGINES)}")
    if engine == "torch":
        return model.network
    if device.type != "cpu" or precision != "fp32":
        raise ConfigError(
            f"the engine openvino computes on a CPU in fp32, not on {device.type} in {precision}; "
            f"choose the device cpu and the precision fp32, or {_REMEDY.removeprefix('choose ')}"
        )
    if isinstance(network := model.network, Mirrored):
        return network.of(Compiled(replace(model, network=network.network), window, head))
    return Compiled(model, window, head)


def window_bytes(network: nn.Module, by_torch: WindowBytes | None) -> WindowBytes | None:
    """What a network takes to segment windows, given what it takes by torch: a bound.

    OpenVINO's tensors take less than torch's, but it keeps weights of its own.
    """
    compiled = [module for module in network.modules() if isinstance(module, Compiled)]
    if by_torch is None or not compiled:
        return by_torch
    own = sum(_WEIGHTS * each.weight_bytes for each in compiled) + _MORE
    return lambda windows: own + by_torch(windows)


def _openvino() -> ModuleType:
    # it would tell its makers of every use (openvino-telemetry), from a hospital's network
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return import_module("openvino")
    except ModuleNotFoundError as error:
        raise ResourceError(
            f"{error.name} is not installed; pip install 'medseg[openvino]', or {_REMEDY}"
        ) from error
