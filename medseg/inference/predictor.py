"""A trained network applied to volumes, on their own grids."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from medseg.data.preprocess import Preprocessing
from medseg.errors import ConfigError, ResourceError
from medseg.hardware import (
    available_memory_bytes,
    choose_device,
    computes_in_bf16,
    is_memory_limited,
    require_precision,
)
from medseg.inference.in_memory import volume_of
from medseg.inference.memory import MemoryPlan, Shapes, WindowBytes
from medseg.inference.sliding_window import Observer, band_axis, blended_slices, starts_along
from medseg.models.evidence import PLAIN_OVERLAP, proves
from medseg.models.weights import ModelCard, TrainedModel, load_model
from medseg.progress import bar
from medseg.volumes import Volume
from medseg.volumes.container import FLOAT32_BYTES, require_memory

log = logging.getLogger(__name__)
T = TypeVar("T")

PRECISIONS = ("auto", "fp32", "bf16")
SECONDS_SILENT = 1.0  # before a bar is shown
_TENSORS = 16  # more than a network holds at once of its widest tensor
_LESS_OVERLAP = 0.25


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Segmentation of one volume, on the volume's own grid.

    Args:
        labels: Label map `(i, j, k)`, uint8.
        probabilities: `(classes, i, j, k)` in [0, 1], background first; None unless asked for.
        seconds: Time of `preprocess`, `network` and `restore`.
        uncertainty: Entropy of the probabilities in bits, `(i, j, k)`; None unless asked for.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    seconds: dict[str, float]
    uncertainty: np.ndarray | None = None


class Predictor:
    """Volume → label map, by windows blended with Gaussian weights.

    Args:
        model: The trained network.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overlap: Share of a window that it has in common with the next, in [0, 1); None: 0.25 where
            the model's card tells that it was found equal to 0.5, else 0.5.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device computes in it and the model's
            card tells that it was found equal, else fp32.
        window: In voxels, as many axes as the network has; None: the patch it was trained on.
            Networks that normalise each window, by instance norm say, give other results on others.
        window_bytes: Memory of the network, asked for where it may be short; None: not counted.

    Attributes:
        precision: `fp32` or `bf16`.
        overlap: Of neighbouring windows.
        window: In voxels.

    Raises:
        ConfigError: an overlap outside [0, 1), an unknown precision, a window of other axes.
        ResourceError: a GPU is asked for and there is none, or a CPU has no kernels for bf16.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        device: str = "auto",
        overlap: float | None = PLAIN_OVERLAP,
        precision: str = "auto",
        window: Sequence[int] | None = None,
        window_bytes: WindowBytes | None = None,
    ):
        if overlap is not None and not 0 <= overlap < 1:
            raise ConfigError(f"overlap={overlap} must lie in [0, 1); for instance 0.5")
        self.model = model
        self.card = model.card
        self.device = choose_device(device)
        self.network = model.network.to(self.device).eval()
        self.preprocessing = Preprocessing.from_description(model.card.preprocessing)
        self.precision = _precision(precision, model.card, self.device)
        is_equal = proves(model.card.evidence, self.precision, _LESS_OVERLAP)
        by_evidence = _LESS_OVERLAP if is_equal else PLAIN_OVERLAP
        self.overlap = by_evidence if overlap is None else overlap
        self.window = tuple(window or model.card.patch_size)
        if len(self.window) != len(model.card.patch_size) or min(self.window) < 1:
            raise ConfigError(
                f"window={list(self.window)} must be {len(model.card.patch_size)} numbers of "
                f"voxels, such as {list(model.card.patch_size)}"
            )
        self._window_bytes = window_bytes

    @classmethod
    def from_run(cls, path: str | PathLike, **options: Any) -> Self:
        """The predictor of a run's folder, or of what else `load_model` takes."""
        return cls(load_model(Path(path)), **options)

    def __call__(self, image: Any, affine: Any = None) -> Any:
        """Segments a path, an image of nibabel or SimpleITK, or an array with its affine.

        Returns:
            The label map on the image's own grid, of the same kind; for a path, of nibabel.

        Raises:
            DataError: the image cannot be used; arguments as of `in_memory.volume_of`.
        """
        volume, back = volume_of(image, affine, self.card.in_channels)
        return back(self.predict(volume).labels)

    def predict(
        self,
        volume: Volume,
        *,
        probabilities: bool = False,
        observe: Callable[[Tensor], Observer] | None = None,
    ) -> Prediction:
        """Segments one volume.

        Logits are blended, and their labels restored on the volume's grid, slice by slice, so that
        the scores of all classes never exist as a whole.

        Args:
            volume: The volume.
            probabilities: Return those of every class, too.
            observe: Given the image on the network's grid, makes what is shown every window.

        Raises:
            DataError: the volume does not fit the memory that is free.
            ResourceError: not even one window fits that of a GPU.
        """
        start = time.perf_counter()
        plan = self.require_memory(volume, probabilities=probabilities)
        log.info("%s: %s", volume.path, plan)
        image = self.preprocessing.image(volume)
        prepared = time.perf_counter()

        def restored(slices: Iterator[Tensor]) -> Prediction:
            restoration = self.preprocessing.restoration(
                volume,
                axis=band_axis(image.shape[1:], self.window),
                classes=len(self.card.classes) + 1 if probabilities else 0,
            )
            seconds = 0.0
            for slice_ in slices:
                begin = time.perf_counter()
                # probabilities are interpolated rather than logits, whose scale has no bound
                restoration.add(torch.softmax(slice_, dim=0))
                seconds += time.perf_counter() - begin
            labels, scores = self.preprocessing.onto_volume(restoration, volume)
            total = time.perf_counter() - prepared
            return Prediction(
                labels=labels,
                probabilities=scores,
                seconds={
                    "preprocess": prepared - start,
                    "network": total - seconds,
                    "restore": seconds,
                },
            )

        return self._attempted(restored, image, observe, plan)

    def logits(self, image: Tensor, observe: Callable[[Tensor], Observer] | None = None) -> Tensor:
        """Image `(channels, *grid)` → logits `(classes, *grid)`, on the network's grid.

        Gives way step by step when a GPU's memory is short; what observes starts anew then.

        Raises:
            ResourceError: not even one window fits.
        """
        axis = band_axis(image.shape[1:], self.window)

        def whole(slices: Iterator[Tensor]) -> Tensor:
            return torch.stack([*slices], dim=1 + axis)

        return self._attempted(whole, image, observe)

    @torch.no_grad()
    def _attempted(
        self,
        gather: Callable[[Iterator[Tensor]], T],
        image: Tensor,
        observe: Callable[[Tensor], Observer] | None,
        plan: MemoryPlan | None = None,
    ) -> T:
        """What is gathered of the slices of an image, giving way where a GPU's memory is short."""
        windows = self._windows(image.shape[1:])
        for device, accumulate_on, batch in self._attempts(plan):
            try:
                with bar(windows, "windows", delay=SECONDS_SILENT) as step:
                    return gather(
                        blended_slices(
                            self._network_on(device),
                            image.to(accumulate_on),
                            self.window,
                            overlap=self.overlap,
                            windows_per_batch=batch,
                            compute_on=device,
                            observe=observe(image) if observe else None,
                            reuse=True,
                            step=step,
                            spill=plan is not None and plan.spill and device.type == "cpu",
                        )
                    )
            except torch.OutOfMemoryError:
                log.warning("GPU memory is short (%d windows at once); giving way", batch or 0)
                torch.cuda.empty_cache()
        raise ResourceError(
            "not even one window fits the memory; free some, or train a smaller patch"
        )

    def _network_on(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        network, is_bf16 = self.network.to(device), self.precision == "bf16"

        def compute(windows: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
                return network(windows)

        return compute

    def require_memory(
        self, volume: Volume, *, probabilities: bool = False, maps: int = 0
    ) -> MemoryPlan:
        """Plans the memory of a prediction, before any of it is taken.

        Args:
            volume: The volume.
            probabilities: Those of every class are wanted, too.
            maps: Maps of all classes on the network's grid that exist as a whole.

        Raises:
            DataError: not even the plan that takes least fits; with what is needed and is free.
        """
        shapes = Shapes(
            grid=self.preprocessing.grid_shape(volume),
            own=self.preprocessing.own_shape(volume),
            patch_size=self.window,
            overlap=self.overlap,
            channels=len(volume.array),
            classes=len(self.card.classes) + 1,
            probabilities=probabilities,
            maps=maps,
        )
        on_cpu, free = self.device.type == "cpu", available_memory_bytes()
        quickest = next(shapes.plans(_window_bound(self.network, self.window), on_cpu=on_cpu))
        if quickest.needed <= free and not is_memory_limited():
            return quickest  # what is exact takes a second
        plans = [*shapes.plans(self._window_bytes or (lambda _windows: 0), on_cpu=on_cpu)]
        least = min(plans, key=lambda plan: plan.needed)
        return next((p for p in plans if p.needed <= free), None) or _refused(volume, least)

    def _windows(self, shape: Sequence[int]) -> int:
        axes = (*self.window, 1)[:3]
        sizes = zip(shape, axes, strict=True)
        return math.prod(len(starts_along(size, n, self.overlap)) for size, n in sizes)

    def _attempts(
        self, plan: MemoryPlan | None
    ) -> Iterator[tuple[torch.device, torch.device, int | None]]:
        cpu = torch.device("cpu")
        if self.device.type == "cuda":
            yield self.device, self.device, 8
            yield self.device, cpu, 8
            yield self.device, cpu, 1
        yield cpu, cpu, plan and plan.windows


def _precision(wanted: str, card: ModelCard, device: torch.device) -> str:
    if wanted not in PRECISIONS:
        raise ConfigError(
            f"precision={wanted!r} must be one of {', '.join(PRECISIONS)}; choose auto"
        )
    if wanted == "auto":
        is_equal = proves(card.evidence, "bf16", PLAIN_OVERLAP)
        return "bf16" if is_equal and computes_in_bf16(device) else "fp32"
    require_precision(wanted, device, key="precision", remedy="choose fp32 or auto")
    return wanted


def _refused(volume: Volume, least: MemoryPlan) -> MemoryPlan:
    require_memory(volume.path, least.needed)
    return least  # memory was freed meanwhile


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far the predictions of two networks lie apart on one volume, on its own grid.

    Args:
        voxels: Voxels of the volume.
        changed: Voxels whose label is another.
        difference: Largest absolute difference of a class's probability, in [0, 1].
    """

    voxels: int
    changed: int
    difference: float


def agreement(first: TrainedModel, second: TrainedModel, volume: Volume) -> Agreement:
    """Segments a volume with two networks on the CPU, in fp32, by the path of prediction.

    Raises:
        ConfigError: the two have different classes.
        DataError: the volume does not fit the memory that is free.
    """
    if first.card.classes != second.card.classes:
        raise ConfigError(
            f"classes {first.card.classes} and {second.card.classes} must be the same; "
            "compare networks of one dataset"
        )
    labels, probabilities = _predicted(first, volume)
    other_labels, other_probabilities = _predicted(second, volume)
    return Agreement(
        voxels=labels.size,
        changed=int(np.count_nonzero(labels != other_labels)),
        difference=max(
            float(np.abs(one - other).max())
            for one, other in zip(probabilities, other_probabilities, strict=True)
        ),
    )


def _predicted(model: TrainedModel, volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    predictor = Predictor(model, device="cpu", precision="fp32")
    found = predictor.predict(volume, probabilities=True)
    return found.labels, cast(np.ndarray, found.probabilities)


def _window_bound(network: nn.Module, patch_size: Sequence[int]) -> WindowBytes:
    """More than a network takes, by its widest weight."""
    widest = max((n for p in network.parameters() for n in p.shape[:2]), default=1)
    window = FLOAT32_BYTES * math.prod(patch_size) * widest
    return lambda windows: _TENSORS * windows * window
