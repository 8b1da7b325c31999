"""A configuration's network in the shape of a plan: its memory, its step time, what it sees."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from medseg.analysis.cost import Load, abstract_network, training_call
from medseg.analysis.match import TrainingStep
from medseg.analysis.memory import predicted_memory
from medseg.analysis.receptive_field import receptive_field
from medseg.analysis.timing import gpu_milliseconds
from medseg.errors import ResourceError
from medseg.hardware import choose_precision, require_precision
from medseg.models.description import Description
from medseg.planning.rules import Shape, widths

_TIMED_EDGE = 32  # voxels of the patch that is timed, or two of the coarsest stage
_OPTIMIZER_STATES = 2  # AdamW's averages


@dataclass(frozen=True, kw_only=True)
class PlannedNetwork:
    """The network of a configuration, whose shape a plan chooses where it has one to choose.

    Args:
        description: Of the configuration's own network.
        in_channels: Channels of the image.
        device: Where it is trained.
        precision: `auto`, `bf16`, `fp16` or `fp32`.
        is_free: Whether stages, strides and widths may be chosen.
    """

    description: Description
    in_channels: int
    device: torch.device
    precision: str
    is_free: bool

    def encoder(self, shape: Shape, first_width: int) -> dict[str, Any]:
        """What the encoder's configuration becomes; empty where the network stays as it is."""
        if not self.is_free:
            return {}
        stages = len(shape.strides)
        own = self.description["encoder"].get("depths", 2)
        depths = own if isinstance(own, int) else [*own, *[own[-1]] * stages][:stages]
        kernels = [
            None if set(taps) == {3} else [None if n == 3 else n for n in taps]
            for taps in shape.kernels
        ]
        return {
            "channels": list(widths(stages, len(shape.patch), first_width)),
            "strides": [_shortest(steps) for steps in shape.strides],
            "depths": depths,
            "kernel_sizes": kernels if any(kernels) else None,
        }

    def described(self, shape: Shape, first_width: int) -> Description:
        """The network in a shape."""
        encoder = self.encoder(shape, first_width)
        halves = {name: dict(self.description[name]) for name in ("encoder", "decoder") if encoder}
        for half in halves.values():
            half |= {key: value for key, value in encoder.items() if key != "depths"}
        if encoder:
            mirrors = self.description["decoder"]["depths"] == self.description["encoder"]["depths"]
            halves["encoder"]["depths"] = encoder["depths"]
            halves["decoder"]["depths"] = encoder["depths"] if mirrors else 1
        return dict(self.description) | halves

    def training_bytes(self, shape: Shape, first_width: int, batch: int) -> int:
        """Peak of a training step: tensors, weights, gradients and the optimiser's averages."""
        description = self.described(shape, first_width)
        network = abstract_network(description).to_empty(device=self.device)
        several = bool(description.get("deep_supervision"))
        memory = predicted_memory(
            network,
            self.in_channels,
            shape.patch,
            batch=batch,
            training=True,
            bf16=self._is_half(network),
            run=training_call(network, deep_supervision=several),
        )
        return memory.peak + memory.weights + (1 + _OPTIMIZER_STATES) * memory.gradients

    def seconds_per_voxel(self, shape: Shape, first_width: int) -> float:
        """Of a training step on this machine when nothing else runs on it.

        Measured on a smaller patch, since a step's time grows with its voxels. On a CPU the time
        of the processor counts, which other programs do not lengthen.

        Raises:
            ResourceError: the step fails, or this machine does not compute in the precision.
        """
        require_precision(self.precision, self.device)
        patch = [
            min(n, max(2 * step, _TIMED_EDGE // step * step))
            for n, step in zip(shape.patch, shape.total_stride, strict=True)
        ]
        if not self.is_free:
            patch = list(shape.patch)
        load = Load(in_channels=self.in_channels, patch_size=patch, batch=2)
        step = TrainingStep(self.described(shape, first_width), load, self.device)
        half = self._is_half(step.network)

        def once() -> None:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
                step()

        try:
            once()  # what is made once, such as kernels, is no part of a step
            if self.device.type == "cpu":
                start = time.process_time()
                once()
                seconds = (time.process_time() - start) / torch.get_num_threads()
            else:
                seconds = gpu_milliseconds(once) / 1e3
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [repr(error)])[0]
            raise ResourceError(
                f"a training step failed: {reason}; --step-seconds inf leaves its time out"
            ) from error
        return seconds / (2 * math.prod(patch))

    def field_mm(
        self, shape: Shape, first_width: int, spacing: Sequence[float]
    ) -> list[float] | None:
        """Smallest receptive field of an output voxel along each axis; None if it has no end."""
        network = abstract_network(self.described(shape, first_width))
        fields = receptive_field(network, self.in_channels, shape.total_stride)
        if any(field is None for field in fields):
            return None
        sizes = [field.smallest for field in fields if field]
        return [n * mm for n, mm in zip(sizes, spacing, strict=True)]

    def _is_half(self, network: torch.nn.Module) -> bool:
        return choose_precision(self.precision, network, self.device) != "fp32"


def network_of(
    config: Mapping[str, Any], description: Description, device: torch.device, *, is_free: bool
) -> PlannedNetwork:
    """The network of a resolved configuration.

    Args:
        config: Resolved.
        description: Its network as plain data.
        device: Where it is trained.
        is_free: Whether the user left its stages open.

    Raises:
        ConfigError: it cannot be built.
    """
    halves = [description.get(half) for half in ("encoder", "decoder")]
    shaped = all(isinstance(half, Mapping) and "strides" in half for half in halves)
    if not shaped:
        abstract_network(description)
    return PlannedNetwork(
        description=description,
        in_channels=config["data"]["in_channels"],
        device=device,
        precision=config["trainer"]["precision"],
        is_free=is_free and shaped,
    )


def _shortest(steps: Sequence[int]) -> int | list[int]:
    return steps[0] if len(set(steps)) == 1 else list(steps)
