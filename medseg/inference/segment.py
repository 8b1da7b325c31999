"""A volume segmented by the mean of views: networks, each at a place of its grid.

Slices of every view are blended, turned into probabilities and restored on the volume's own grid
together, so that the scores of all classes never exist as a whole.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from medseg.data.preprocess import ras_shape
from medseg.data.restore import Scores, restore
from medseg.formatting import memory
from medseg.inference.memory import MemoryPlan, Shapes, WindowBytes
from medseg.inference.sliding_window import Observer
from medseg.inference.view import Place, View, attempted
from medseg.labelling import Labelling
from medseg.progress import bar
from medseg.resources import available_memory_bytes, held_memory_bytes, is_memory_limited
from medseg.volumes import Volume, from_ras
from medseg.volumes.container import FLOAT32_BYTES, require_memory

log = logging.getLogger(__name__)
T = TypeVar("T")

SECONDS_SILENT = 1.0  # before a bar is shown
_TENSORS = 16  # more than a network holds at once of its widest tensor


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """Segmentation of one volume, on the volume's own grid.

    Args:
        labels: Label map `(i, j, k)`, uint8, or int32 beyond 256 classes.
        probabilities: `(outputs, i, j, k)` in [0, 1], of classes with the background first, or of
            regions; None unless asked for.
        seconds: Time of `preprocess`, `network` and `restore`.
        uncertainty: Entropy of the probabilities in bits, `(i, j, k)`; None unless asked for.
    """

    labels: np.ndarray
    probabilities: np.ndarray | None
    seconds: dict[str, float]
    uncertainty: np.ndarray | None = None


@torch.no_grad()
def segment(
    views: Sequence[View],
    volume: Volume,
    device: torch.device,
    *,
    labelling: Labelling,
    probabilities: Sequence[int] = (),
    uncertainty: bool = False,
    observe: Callable[[Tensor], Observer] | None = None,
    plan: MemoryPlan | None = None,
) -> Prediction:
    """Segments one volume by the mean of the probabilities of views.

    Args:
        views: Of the same outputs, channels and crop.
        volume: The volume; around what is cropped is background, of probability 1.
        device: On which the networks are.
        labelling: What the outputs mean.
        probabilities: Outputs whose probabilities are kept, in that order.
        uncertainty: Keep the entropy of the probabilities, too.
        observe: Given the image on the first view's grid, makes what is shown its windows.
        plan: Of `plan_memory`; None: is made.

    Raises:
        DataError: the volume does not fit the memory that is free.
        ResourceError: not even one window fits that of a GPU.
    """
    start = time.perf_counter()
    if plan is None:
        kept = len(probabilities) + uncertainty
        plan = plan_memory(views, volume, device, classes=labelling.outputs, kept=kept)
    box = views[0].preprocessing.box(volume)
    volume = box.cut(volume)
    axis = slice_axis(views, volume)
    images = _images(views, volume)
    prepared = time.perf_counter()
    windows = sum(view.windows(image.shape[1:]) for view, image in zip(views, images, strict=True))
    network = _Stopwatch()

    def restored(place: Place) -> Prediction:
        network.seconds = 0.0
        with bar(windows, "windows", delay=SECONDS_SILENT) as step:
            first = observe(images[0]) if observe else None
            slices = [
                view.logits(
                    image,
                    place,
                    axis=view.preprocessing.ras_axes.index(axis),
                    observe=None if index else first,
                    step=step,
                )
                for index, (view, image) in enumerate(zip(views, images, strict=True))
            ]
            found = restore(
                _parts(views, [network.around(each) for each in slices], volume, axis, labelling),
                ras_shape(volume),
                labelling=labelling,
                axis=axis,
                wanted=probabilities,
                entropy=uncertainty,
            )
        background = [not labelling.overlap and output == 0 for output in probabilities]
        certain, affine = np.reshape(background, (-1, 1, 1, 1)), volume.geometry.affine
        labels, scores, entropy = (
            None if array is None else box.put_back(from_ras(array, affine), outside)
            for array, outside in ((found.labels, 0), (found.scores, certain), (found.entropy, 0))
        )
        assert labels is not None
        seconds = {"preprocess": prepared - start, "network": network.seconds}
        seconds["restore"] = time.perf_counter() - prepared - network.seconds
        return Prediction(labels=labels, probabilities=scores, seconds=seconds, uncertainty=entropy)

    return attempted(restored, device, plan)


def slice_axis(views: Sequence[View], volume: Volume) -> int:
    """The axis of RAS across which the slices of all views take the least memory."""

    def held(axis: int) -> int:
        return sum(view.shapes(volume, axis).sums(1, 1, spill=False) for view in views)

    return min(range(3), key=held)


def plan_memory(
    views: Sequence[View],
    volume: Volume,
    device: torch.device,
    *,
    classes: int,
    kept: int = 0,
    maps: int = 0,
    make_room: Callable[[], object] = int,
) -> MemoryPlan:
    """Plans the memory of a prediction, before any of it is taken.

    Args:
        views: As of `segment`.
        volume: As of `segment`.
        device: As of `segment`.
        classes: Outputs of a network.
        kept: Maps on the volume's grid beside the labels.
        maps: Maps of all classes on the first view's grid that exist as a whole.
        make_room: Gives back what other threads hold, where memory may be short.

    Raises:
        DataError: not even the plan that takes least fits; with what is needed and is free.
    """
    box = views[0].preprocessing.box(volume)
    volume = box.cut(volume)
    axis, own = slice_axis(views, volume), ras_shape(volume)
    by_grid = {_image_key(view): view.preprocessing.grid_shape(volume) for view in views}
    shapes = Shapes(
        own=own,
        across=math.prod(own) // own[axis],
        classes=classes,
        views=[view.shapes(volume, axis) for view in views],
        images=[math.prod(grid) for grid in by_grid.values()],
        kept=kept,
        maps=maps,
        around=0 if box.shape == box.whole else math.prod(box.whole),
    )
    on_cpu = device.type == "cpu"
    bounds = [_window_bound(view) for view in views]
    quickest = next(shapes.plans(bounds, on_cpu=on_cpu))
    if quickest.needed <= available_memory_bytes() and not is_memory_limited():
        return quickest  # what is exact takes a second
    exact = [view.window_bytes or (lambda _windows: 0) for view in views]
    plans = [*shapes.plans(exact, on_cpu=on_cpu)]
    make_room()
    free = available_memory_bytes()  # foreseeing the network takes some itself
    least = min(plans, key=lambda plan: plan.needed)
    plan = next((p for p in plans if p.needed <= free), None) or _refused(volume, least)
    total = memory(held_memory_bytes() + plan.needed)
    log.info("%s: %s, %s in all", volume.path, plan, total)
    return plan


def _refused(volume: Volume, least: MemoryPlan) -> MemoryPlan:
    require_memory(volume.path, least.needed)
    return least  # memory was freed meanwhile


def _window_bound(view: View) -> WindowBytes:
    """More than a network takes, by its widest weight."""
    widest = max((n for p in view.network.parameters() for n in p.shape[:2]), default=1)
    window = FLOAT32_BYTES * math.prod(view.window) * widest
    return lambda windows: _TENSORS * windows * window


def _image_key(view: View) -> str:
    return str(view.preprocessing.describe())


def _images(views: Sequence[View], volume: Volume) -> list[Tensor]:
    """The image on the grid of each view; one for all that prepare it alike."""
    found: dict[str, Tensor] = {}
    for view in views:
        if (key := _image_key(view)) not in found:
            found[key] = view.preprocessing.image(volume)
    return [found[_image_key(view)] for view in views]


def _parts(
    views: Sequence[View],
    logits: Sequence[Iterator[Tensor]],
    volume: Volume,
    axis: int,
    labelling: Labelling,
) -> list[Scores]:
    """The share of the mean that each grid has: linear interpolation of a sum is that of all."""
    groups: dict[Any, list[Iterator[Tensor]]] = {}
    ways = {}
    for view, slices in zip(views, logits, strict=True):
        way = view.preprocessing
        key = way.ras_axes, way.grid_shape(volume)
        ways.setdefault(key, way)
        groups.setdefault(key, []).append(_probabilities(view, slices, labelling))
    return [
        ways[key].scores_of(
            _summed(group, len(views)), volume, axis=axis, share=len(group) / len(views)
        )
        for key, group in groups.items()
    ]


def _probabilities(view: View, logits: Iterator[Tensor], labelling: Labelling) -> Iterator[Tensor]:
    for slice_ in logits:
        # probabilities are interpolated rather than logits, whose scale has no bound
        found = labelling.probabilities(slice_)
        yield found[list(view.order)] if view.order else found


def _summed(group: Sequence[Iterator[Tensor]], views: int) -> Iterator[Tensor]:
    for first, *others in zip(*group, strict=True):
        for other in others:
            first += other
        yield first.div_(views) if views > 1 else first


class _Stopwatch:
    """Time that iterators take to give their next item."""

    def __init__(self):
        self.seconds = 0.0

    def around(self, items: Iterator[T]) -> Iterator[T]:
        """The same items."""
        while True:
            start = time.perf_counter()
            item = next(items, None)
            self.seconds += time.perf_counter() - start
            if item is None:
                return
            yield item
