"""A trained network applied to volumes, on their own grids."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from medseg.data.preprocess import Preprocessing
from medseg.errors import ConfigError
from medseg.hardware import allow_tf32, choose_device, computes_in_bf16, require_precision
from medseg.inference.head import parted
from medseg.inference.in_memory import volume_of
from medseg.inference.memory import MemoryPlan, WindowBytes
from medseg.inference.mirroring import Mirrored
from medseg.inference.segment import SECONDS_SILENT, Prediction, plan_memory, segment
from medseg.inference.sliding_window import Observer, band_axis
from medseg.inference.view import Place, View, attempted
from medseg.models.evidence import PLAIN_OVERLAP, proves
from medseg.models.weights import ModelCard, TrainedModel, load_model
from medseg.progress import bar
from medseg.resources import keep_freed_memory
from medseg.volumes import Volume

PRECISIONS = ("auto", "fp32", "bf16")
_LESS_OVERLAP = 0.25


class Predictor:
    """Volume → label map, by windows blended with Gaussian weights.

    The process keeps freed memory from now on (`medseg.resources.keep_freed_memory`).

    Args:
        model: The trained network.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        overlap: Share of a window that it has in common with the next, in [0, 1); None: 0.25 where
            the model's card tells that it was found equal to 0.5, else 0.5.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device computes in it and the model's
            card tells that it was found equal, else fp32; OpenVINO's is fp32.
        window: In voxels, as many axes as the network has; None: the patch it was trained on.
            Networks that normalise each window, by instance norm say, give other results on others.
        engine: `torch`, or `openvino` for a CPU (`medseg.inference.engine`).
        window_bytes: Network → what it takes by torch, asked for where memory may be short; None:
            not counted.

    Attributes:
        precision: `fp32` or `bf16`.
        overlap: Of neighbouring windows.
        window: In voxels.
        engine: That computes the network.
        view: What `segment` takes.

    Raises:
        ConfigError: an overlap outside [0, 1), an unknown precision or engine, a window of other
            axes, a network that OpenVINO cannot compute.
        ResourceError: a GPU is asked for and there is none, a CPU has no kernels for bf16, or
            OpenVINO is not installed.
    """

    def __init__(
        self,
        model: TrainedModel,
        *,
        device: str = "auto",
        overlap: float | None = PLAIN_OVERLAP,
        precision: str = "auto",
        window: Sequence[int] | None = None,
        engine: str = "torch",
        window_bytes: Callable[[nn.Module], WindowBytes] | None = None,
    ):
        if overlap is not None and not 0 <= overlap < 1:
            raise ConfigError(f"overlap={overlap} must lie in [0, 1); for instance 0.5")
        self.card = model.card
        self.device = choose_device(device)
        keep_freed_memory()  # activations of large windows would be paid for in page faults
        self.preprocessing = Preprocessing.from_description(model.card.preprocessing)
        # what a card tells of bf16 is of torch's
        chosen = "fp32" if (engine, precision) == ("openvino", "auto") else precision
        self.precision = _precision(chosen, model.card, self.device)
        allow_tf32(self.precision)
        is_equal = proves(model.card.evidence, self.precision, _LESS_OVERLAP)
        by_evidence = _LESS_OVERLAP if is_equal else PLAIN_OVERLAP
        self.overlap = by_evidence if overlap is None else overlap
        self.window = tuple(window or model.card.patch_size)
        if len(self.window) != len(model.card.patch_size) or min(self.window) < 1:
            raise ConfigError(
                f"window={list(self.window)} must be {len(model.card.patch_size)} numbers of "
                f"voxels, such as {list(model.card.patch_size)}"
            )
        self.engine = engine
        self.model = model
        self.network = model.network.to(self.device).eval()
        of_windows, head = parted(self.network)
        each = of_windows.network if isinstance(of_windows, Mirrored) else of_windows
        needed = window_bytes(each) if window_bytes else None  # mirror images one by one
        if engine != "torch":
            from medseg.inference import engine as engines  # heavy: torch.export

            on = {"device": self.device, "precision": self.precision}
            part = replace(model, network=of_windows)
            of_windows = engines.with_engine(part, engine, self.window, head=head, **on)
            needed = engines.window_bytes(of_windows, needed)
        self.view = View(
            network=of_windows,
            head=head,
            preprocessing=self.preprocessing,
            window=self.window,
            overlap=self.overlap,
            bf16=self.precision == "bf16",
            window_bytes=needed,
        )

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
            ResourceError: not even one window fits that of a GPU.
        """
        labelling = self.card.labelling
        return segment(
            [self.view],
            volume,
            self.device,
            labelling=labelling,
            probabilities=range(labelling.outputs) if probabilities else (),
            observe=observe,
        )

    @torch.no_grad()
    def logits(self, image: Tensor, *, shift: Sequence[int] = (0, 0, 0)) -> Tensor:
        """Logits `(classes, *grid)` as a whole, on the network's grid.

        Args:
            image: `(channels, *grid)`, three axes.
            shift: Voxels per axis by which it is moved below the windows, each at least 0; the
                logits are moved back.

        Raises:
            ResourceError: not even one window fits the memory.
        """
        view, grid = replace(self.view, shift=shift), image.shape[1:]
        axis = band_axis(grid, self.window)

        def whole(place: Place) -> Tensor:
            with bar(view.windows(grid), "windows", delay=SECONDS_SILENT) as step:
                return torch.stack([*view.logits(image, place, axis=axis, step=step)], 1 + axis)

        return attempted(whole, self.device, None)

    def require_memory(self, volume: Volume, *, maps: int) -> MemoryPlan:
        """Plans the memory of maps of all classes as a whole, before any of it is taken.

        Args:
            volume: The volume.
            maps: Those on the network's grid that exist at once.

        Raises:
            DataError: they do not fit; with what is needed and is free.
        """
        classes = self.card.labelling.outputs
        return plan_memory(
            [self.view], volume, self.device, classes=classes, kept=classes, maps=maps
        )


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
