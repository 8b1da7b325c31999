"""A trained network applied to volumes, on their own grids."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import torch
from torch import Tensor, nn

from medseg.data.preprocess import Preprocessing
from medseg.errors import ConfigError, ResourceError
from medseg.hardware import available_memory_bytes, choose_device, computes_in_bf16
from medseg.inference.in_memory import volume_of
from medseg.inference.memory import prediction_bytes, scoring_bytes
from medseg.inference.sliding_window import WINDOWS_PER_BATCH, Observer, slide, windows_along
from medseg.models.weights import TrainedModel, load_model
from medseg.progress import bar
from medseg.volumes import Volume
from medseg.volumes.container import FLOAT32_BYTES, require_memory

log = logging.getLogger(__name__)

SECONDS_SILENT = 1.0  # before a bar is shown
_TENSORS = 16  # more than a network holds at once of its widest tensor

WindowBytes = Callable[[int], int]
"""Windows that are computed at once → bytes that the network takes for them."""


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
        overlap: Share of a window that it has in common with the next, in [0, 1).
        bf16: Compute in bfloat16; None: fp32 on a CPU, bf16 on a GPU that has it.
        window_bytes: Memory of the network, asked for where it may be short; None: not counted.

    Raises:
        ConfigError: an overlap outside [0, 1).
        ResourceError: a GPU is asked for and there is none.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        device: str = "auto",
        overlap: float = 0.5,
        bf16: bool | None = None,
        window_bytes: WindowBytes | None = None,
    ):
        if not 0 <= overlap < 1:
            raise ConfigError(f"overlap={overlap} must lie in [0, 1); for instance 0.5")
        self.model = model
        self.card = model.card
        self.device = choose_device(device)
        self.network = model.network.to(self.device).eval()
        self.preprocessing = Preprocessing.from_description(model.card.preprocessing)
        self.overlap = overlap
        self._window_bytes = window_bytes
        on_gpu = self.device.type == "cuda"
        self.bf16 = on_gpu and computes_in_bf16(self.device) if bf16 is None else bf16

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

        Args:
            volume: The volume.
            probabilities: Return those of every class, too.
            observe: Given the image on the network's grid, makes what is shown every window.

        Raises:
            DataError: the volume does not fit the memory that is free.
        """
        start = time.perf_counter()
        self.require_memory(volume, probabilities=probabilities)
        image = self.preprocessing.image(volume)
        prepared = time.perf_counter()
        scores = self.logits(image, observe).cpu()
        computed = time.perf_counter()
        # probabilities are interpolated rather than logits, whose scale has no bound
        scores = torch.softmax(scores, dim=0)
        labels = self.preprocessing.restore_labels(scores, volume)
        restored = self.preprocessing.restore_scores(scores, volume) if probabilities else None
        return Prediction(
            labels=labels,
            probabilities=restored,
            seconds={
                "preprocess": prepared - start,
                "network": computed - prepared,
                "restore": time.perf_counter() - computed,
            },
        )

    @torch.no_grad()
    def logits(self, image: Tensor, observe: Callable[[Tensor], Observer] | None = None) -> Tensor:
        """Image `(channels, *grid)` → logits `(classes, *grid)`, on the network's grid.

        Gives way step by step when a GPU's memory is short; what observes starts anew then.

        Raises:
            ResourceError: not even one window fits.
        """
        windows = self._windows(image.shape[1:])
        for device, accumulate_on, batch in self._attempts():
            try:
                network = self.network.to(device)
                with (
                    torch.autocast(device.type, torch.bfloat16, enabled=self.bf16),
                    bar(windows, "windows", delay=SECONDS_SILENT) as step,
                ):
                    return slide(
                        network,
                        image[None].to(accumulate_on),
                        self.card.patch_size,
                        overlap=self.overlap,
                        windows_per_batch=batch,
                        compute_on=device,
                        observe=_counted(observe(image) if observe else None, step),
                    )[0]
            except torch.OutOfMemoryError:
                log.warning("GPU memory is short (%d windows at once); giving way", batch)
                torch.cuda.empty_cache()
        raise ResourceError(
            "not even one window fits the memory; free some, or train a smaller patch"
        )

    def require_memory(self, volume: Volume, *, probabilities: bool = False, held: int = 0) -> None:
        """Refuses a volume whose prediction would not fit the memory, before any of it is made.

        Args:
            volume: The volume.
            probabilities: Those of every class are wanted, too.
            held: Maps of all classes on the network's grid that exist besides.

        Raises:
            DataError: with what is needed and what is free.
        """
        needed = partial(self._needed_bytes, volume, probabilities=probabilities, held=held)
        bound = needed(_window_bound(self.network, self.card.patch_size))
        if bound > available_memory_bytes():  # what is exact takes a second
            require_memory(volume.path, needed(self._window_bytes or (lambda _windows: 0)))

    def _needed_bytes(
        self, volume: Volume, activations: WindowBytes, *, probabilities: bool, held: int
    ) -> int:
        shape, classes = self.preprocessing.grid_shape(volume), len(self.card.classes) + 1
        windows = min(WINDOWS_PER_BATCH, self._windows(shape)) if self.device.type == "cpu" else 0
        scoring = scoring_bytes(
            shape,
            self.card.patch_size,
            channels=len(volume.array),
            classes=classes,
            windows=windows,
            activations=activations(windows) if windows else 0,
            held=held,
        )
        return prediction_bytes(
            volume,
            self.preprocessing,
            classes=classes,
            scoring=scoring,
            probabilities=probabilities,
            held=held,
        )

    def _windows(self, shape: Sequence[int]) -> int:
        axes = (*self.card.patch_size, 1)[:3]
        sizes = zip(shape, axes, strict=True)
        return math.prod(windows_along(size, window, self.overlap) for size, window in sizes)

    def _attempts(self) -> Iterator[tuple[torch.device, torch.device, int]]:
        cpu = torch.device("cpu")
        if self.device.type == "cuda":
            yield self.device, self.device, 8
            yield self.device, cpu, 8
            yield self.device, cpu, 1
        yield cpu, cpu, WINDOWS_PER_BATCH


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
    found = Predictor(model, device="cpu").predict(volume, probabilities=True)
    return found.labels, cast(np.ndarray, found.probabilities)


def _counted(observe: Observer | None, step: Callable[..., None]) -> Observer:
    """An observer that also counts the windows it is shown."""

    def counted(seen: Tensor, logits: Tensor, starts: list[tuple[int, ...]]) -> None:
        step(len(seen))
        if observe is not None:
            observe(seen, logits, starts)

    return counted


def _window_bound(network: nn.Module, patch_size: Sequence[int]) -> WindowBytes:
    """More than a network takes, by its widest weight."""
    widest = max((n for p in network.parameters() for n in p.shape[:2]), default=1)
    window = FLOAT32_BYTES * math.prod(patch_size) * widest
    return lambda windows: _TENSORS * windows * window
