"""A plan: what to train on a dataset, from its fingerprint, a memory and the speed of a machine.

nnU-Net's own plan, for 8 GB, is the reference. More memory makes the patch and then the batch
larger as far as a step stays short; where even the reference is too slow, the network is made
narrower, then the batch smaller, then the patch. Less memory makes the patch smaller.
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medseg.errors import ResourceError
from medseg.formatting import memory
from medseg.planning import rules
from medseg.planning.fingerprint import Fingerprint, in_hounsfield_units
from medseg.planning.network import PlannedNetwork
from medseg.planning.rules import Shape

WIDTHS = (rules.FIRST_WIDTH, rules.FIRST_WIDTH // 2)
_LEAST_BATCH = 2
_LEAST_EDGE = 32  # of a cube; a smaller patch is not made smaller still
_DIGITS = 6
_WINDOW = "medseg.data.Window"
_CROPPED = 0.75  # share of a case below which it is cropped, and only what is not 0 normalised


@dataclass(frozen=True, kw_only=True)
class Grid:
    """The grid that a network sees.

    Args:
        spatial_dims: 2 or 3.
        slice_axis: The RAS axis that runs across the slices in 2-D.
        spacing: mm per RAS axis; None keeps each case's own.
        median_size: Voxels per RAS axis of the median case, without its margins of 0.
        dataset_voxels: Of all cases.
        axes: RAS axes of the network, in nnU-Net's order.
    """

    spatial_dims: int
    slice_axis: int
    spacing: tuple[float | None, ...]
    median_size: tuple[float, ...]
    dataset_voxels: float
    axes: tuple[int, ...]

    def of_axes(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """What RAS axes have, for the network's axes in nnU-Net's order."""
        return tuple(values[axis] for axis in self.axes)

    def to_patch(self, values: Sequence[Any]) -> tuple[Any, ...]:
        """What axes in nnU-Net's order have, in the order of a patch."""
        return tuple(value for _, value in sorted(zip(self.axes, values, strict=True)))

    def shape_to_patch(self, shape: Shape) -> Shape:
        """A shape whose axes are in nnU-Net's order, with those of a patch."""
        strides, kernels = (
            tuple(self.to_patch(steps) for steps in own) for own in (shape.strides, shape.kernels)
        )
        return Shape(patch=self.to_patch(shape.patch), strides=strides, kernels=kernels)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What a plan chose; axes are those of a patch.

    Args:
        shape: Patch and stages.
        first_width: Channels of the finest stage.
        batch: Patches per batch.
        bytes: Of a training step; None by nnU-Net's estimate.
        seconds: Of a training step on this machine; None if none was measured.
        limited_by: What kept the batch from being larger.
    """

    shape: Shape
    first_width: int
    batch: int
    bytes: int | None = None
    seconds: float | None = None
    limited_by: str = ""


def dimensions(facts: Fingerprint) -> int:
    """2 where the median case is one voxel thick along some axis, else 3."""
    return 2 if _is_flat(facts).any() else 3


def _is_flat(facts: Fingerprint) -> np.ndarray:
    """Axes along which the median case has one voxel."""
    return np.median([case.size for case in facts.cases], axis=0) == 1


def grid_of(facts: Fingerprint, data: Mapping[str, Any], fixed: Collection[str]) -> Grid:
    """Spacing and dimensions.

    Args:
        facts: Of the dataset.
        data: The data section of a resolved configuration.
        fixed: Keys whose values the user gave; they stay.
    """
    is_flat = _is_flat(facts)
    spacing = rules.target_spacing(facts.spacings, facts.sizes)
    dims = data["spatial_dims"] if "data.spatial_dims" in fixed else dimensions(facts)
    across = int(np.argmax(is_flat)) if is_flat.any() else rules.axis_order(spacing.tolist())[0]
    if "data.slice_axis" in fixed:
        across = data["slice_axis"]
    if "data.spacing" in fixed:
        given = data["spacing"] or (None,) * 3
        pairs = zip(spacing, given, strict=True)
        spacing = np.array([own if mm is None else mm for own, mm in pairs])
    own = facts.spacings
    resampled = own if "data.spacing" in fixed and data["spacing"] is None else spacing
    sizes = np.round(facts.sizes * own / resampled)
    if dims == 2:
        sizes[:, across] = facts.sizes[:, across]
    median = np.median(sizes, axis=0)
    kept: list[float | None] = [float(f"{mm:.{_DIGITS}g}") for mm in spacing]
    if dims == 2:
        kept[across] = None
    order = rules.axis_order(spacing.tolist())
    return Grid(
        spatial_dims=dims,
        slice_axis=across,
        spacing=tuple(kept),
        median_size=tuple(float(n) for n in median),
        dataset_voxels=float(np.prod(median) * len(facts.cases)),
        axes=order if dims == 3 else tuple(axis for axis in order if axis != across),
    )


def crop(facts: Fingerprint) -> str | None:
    """`nonzero` where nnU-Net's normalisation, too, leaves out what is 0; else None."""
    return "nonzero" if facts.relative_size < _CROPPED else None


def normalisation(facts: Fingerprint) -> tuple[dict[str, Any], str]:
    """How intensities are mapped, as a configuration, and why: nnU-Net's rules by channel."""
    mapped = [_of_channel(facts, number) for number in range(len(facts.channels))]
    if all(each == mapped[0] for each in mapped):
        own, text = mapped[0]
        names = "CT" if own["_target_"] == _WINDOW else ", ".join(dict.fromkeys(facts.channels))
        return own, f"{names}: {text}"
    channels = [own for own, _ in mapped]
    said = [f"{name}: {text}" for name, (_, text) in zip(facts.channels, mapped, strict=True)]
    return {"_target_": "medseg.data.PerChannel", "channels": channels}, "; ".join(said)


def _of_channel(facts: Fingerprint, channel: int) -> tuple[dict[str, Any], str]:
    """The mapping of one channel by its name, and why."""
    name = facts.channels[channel].casefold()
    ends = facts.percentiles(channel, (0.5, 99.5))
    if in_hounsfield_units([name]) and len(ends) == 2 and ends[0] < ends[1]:
        low, high = (float(f"{end:.4g}") for end in ends)
        text = "percentiles 0.5 and 99.5 inside the foreground, in HU"
        return {"_target_": _WINDOW, "low": low, "high": high}, text
    if name == "nonorm":
        return {"_target_": "medseg.data.Unchanged"}, "as it is, by its name"
    if name == "rescale_to_0_1":
        return {"_target_": "medseg.data.MinMax"}, "to [0, 1] per case, by its name"
    if name == "rgb_to_0_1":
        return {"_target_": _WINDOW, "low": 0.0, "high": 255.0}, "8 bits, by its name"
    nonzero, share = crop(facts) is not None, f"{facts.relative_size:.0%} of a median case"
    text = "per case and channel" + (f", where it is not 0: {share}" if nonzero else "")
    return {"_target_": "medseg.data.ZScore", "nonzero": nonzero}, text


def choose_like_nnunet(grid: Grid, *, num_classes: int, memory_gb: float) -> Choice:
    """nnU-Net's own plan, by its own estimate of memory."""
    spacing, size = _ordered(grid)
    shape, batch = rules.estimated(
        spacing,
        size,
        num_classes=num_classes,
        dataset_voxels=grid.dataset_voxels,
        memory_gb=memory_gb,
    )
    return Choice(
        shape=grid.shape_to_patch(shape),
        first_width=rules.FIRST_WIDTH,
        batch=batch,
        limited_by=f"nnU-Net's estimate for {memory_gb:g} GB",
    )


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """Chooses patch, stages, width and batch.

    Args:
        grid: That the network sees.
        network: Whose memory and time count.
        num_classes: With background.
        memory_bytes: For a training step.
        step_seconds: Longest training step; inf for none.
        free_bytes: Beyond which a patch that the user gave is refused, if it is more than that.
        patch: That the user gave; None: to be chosen.
        batch: That the user gave; None: to be chosen.
        known: Bytes of a training step that were predicted already.
    """

    grid: Grid
    network: PlannedNetwork
    num_classes: int
    memory_bytes: int
    step_seconds: float
    free_bytes: int = 0
    patch: Sequence[int] | None = None
    batch: int | None = None
    known: dict[tuple[Shape, int, int], int] = field(default_factory=dict)

    def choose(self) -> Choice:
        """The first candidate whose step is short enough, else the last."""
        speeds: dict[int, float | None] = {}
        candidates = list(self._candidates())
        for shape, width, least in candidates:
            if width not in speeds:
                measured = math.isfinite(self.step_seconds)
                speeds[width] = self.network.seconds_per_voxel(shape, width) if measured else None
            speed, batch = speeds[width], self.batch or least
            if not speed or speed * math.prod(shape.patch) * batch <= self.step_seconds:
                return self._with_batch(shape, width, least, speed)
        shape, width, least = candidates[-1]
        return self._with_batch(shape, width, least, speeds[width])

    def _candidates(self) -> Iterator[tuple[Shape, int, int]]:
        """Shape, width and least batch, in the order in which they are preferred."""
        spacing, size = _ordered(self.grid)
        own, own_batch = rules.estimated(
            spacing,
            size,
            num_classes=self.num_classes,
            dataset_voxels=self.grid.dataset_voxels,
        )
        widths = WIDTHS if self.network.is_free else WIDTHS[:1]
        if self.patch is not None:
            ordered = self.grid.axes
            given = dict(zip(sorted(ordered), self.patch, strict=True))
            fitting = rules.shape_for(spacing, [given[axis] for axis in ordered])
            shape = self.grid.shape_to_patch(fitting)
            shape = Shape(patch=tuple(self.patch), strides=shape.strides, kernels=shape.kernels)
            least = self._bytes(shape, widths[-1], self.batch or 1)
            if least > max(self.memory_bytes, self.free_bytes):
                size = "×".join(map(str, self.patch))
                raise ResourceError(
                    f"a patch of {size} voxels takes {memory(least)} to train on, and "
                    f"{memory(max(self.memory_bytes, self.free_bytes))} are there; choose a "
                    "smaller data.patch_size, or a device with more (--memory)"
                )
            yield from ((shape, width, own_batch) for width in widths)
            yield shape, widths[-1], 1
            return
        every = [self.grid.shape_to_patch(shape) for shape in rules.shapes(spacing, size)]
        least = _LEAST_EDGE**self.grid.spatial_dims
        every = [s for s in every if math.prod(s.patch) >= least] or every[:1]
        fitting = self._fitting(every, widths[0])
        reference = self.grid.shape_to_patch(own)
        larger = [s for s in fitting if math.prod(s.patch) > math.prod(reference.patch)]
        yield from ((shape, widths[0], _LEAST_BATCH) for shape in larger)
        rest = fitting[len(larger) :] or fitting[-1:]
        yield from ((rest[0], width, own_batch) for width in widths)
        yield from ((shape, widths[-1], _LEAST_BATCH) for shape in rest)

    def _fitting(self, every: Sequence[Shape], width: int) -> Sequence[Shape]:
        """From the largest shape on whose smallest batch the memory holds.

        Memory is predicted for few of them: how it changes with the shape is guessed first.
        """
        values = [rules.feature_values(shape, self.num_classes) for shape in every]
        index, last, batch = 0, len(every) - 1, self.batch or _LEAST_BATCH
        needed = self._bytes(every[0], width, batch)
        while needed > self.memory_bytes and index < last:
            wanted = values[index] * self.memory_bytes / needed
            index = next((i for i in range(index + 1, last) if values[i] <= wanted), last)
            needed = self._bytes(every[index], width, batch)
        while index and self._bytes(every[index - 1], width, batch) <= self.memory_bytes:
            index -= 1
        if needed > self.memory_bytes:
            raise ResourceError(
                f"{memory(needed)} are needed to train on {batch} of the smallest patches, "
                f"{memory(self.memory_bytes)} are there; give a device with more (--memory), or a "
                "smaller data.batch_size"
            )
        return every[index:]

    def _bytes(self, shape: Shape, width: int, batch: int) -> int:
        key = (shape, width, batch)
        if key not in self.known:
            self.known[key] = self.network.training_bytes(shape, width, batch)
        return self.known[key]

    def _with_batch(self, shape: Shape, width: int, least: int, speed: float | None) -> Choice:
        """The largest batch that memory, dataset and time allow, at least `least` of the first."""
        share = rules.largest_batch(shape.patch, self.grid.dataset_voxels)
        timed = math.inf
        if speed:
            timed = self.step_seconds // (speed * math.prod(shape.patch))
        limits = {
            "a twentieth of the dataset's voxels": share,
            f"a step of {self.step_seconds:g} s": max(timed, least),
        }
        most = int(min(limits.values()))
        reason = min(limits, key=lambda name: limits[name])
        batch = self.batch or self._largest_in_memory(shape, width, most)
        if self.batch or batch < most:
            reason = "given" if self.batch else "memory"
        return Choice(
            shape=shape,
            first_width=width,
            batch=batch,
            bytes=self._bytes(shape, width, batch),
            seconds=speed and speed * math.prod(shape.patch) * batch,
            limited_by=reason,
        )

    def _largest_in_memory(self, shape: Shape, width: int, most: int) -> int:
        """The largest batch up to `most` that the memory holds, at least 1."""
        if self._bytes(shape, width, most) <= self.memory_bytes:
            return most
        one, two = (self._bytes(shape, width, n) for n in (1, 2))
        batch = 1 + (self.memory_bytes - one) // max(1, two - one)
        batch = max(1, min(most, int(batch)))
        while batch > 1 and self._bytes(shape, width, batch) > self.memory_bytes:
            batch -= 1
        return batch


def _ordered(grid: Grid) -> tuple[list[float], list[float]]:
    """Spacing and median size of the network's axes, in nnU-Net's order."""
    spacing = [mm or 1.0 for mm in grid.of_axes(grid.spacing)]
    return spacing, list(grid.of_axes(grid.median_size))
