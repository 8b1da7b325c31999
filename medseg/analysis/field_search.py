"""Which change of a U-Net gives it a wanted receptive field, and what that costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from medseg.analysis.changes import Change, Grid, changes
from medseg.analysis.cost import Load, abstract_network, costs
from medseg.analysis.receptive_field import gridding_warnings, receptive_field
from medseg.errors import ConfigError
from medseg.models.description import Description


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network and its receptive field.

    Args:
        change: How it differs from the network asked about.
        extents_mm: Extent of its receptive field along each axis, of the phase where it is
            smallest; infinite where it is the whole image.
        holes: Whether its field, or that of one of its stages, skips voxels.
        load: Its input.
    """

    change: Change
    extents_mm: tuple[float, ...]
    holes: bool
    load: Load

    @cached_property
    def costs(self) -> dict[str, int]:
        """Parameters, multiply-accumulates, and bytes of a training step."""
        return costs(self.change.description, self.load)

    def covers(self, wanted_mm: Sequence[float]) -> bool:
        """Whether its field has the wanted extent along every axis, without holes."""
        return not self.holes and self.share(wanted_mm) >= 1

    def share(self, wanted_mm: Sequence[float]) -> float:
        """Extent by wanted extent, of the axis where it is smallest."""
        return min(own / mm for own, mm in zip(self.extents_mm, wanted_mm, strict=True))


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The changes that give a network a wanted receptive field.

    Args:
        wanted_mm: Along each axis.
        base: The network as it is.
        candidates: The weakest change of each kind that is enough, by multiply-accumulates; none
            if the network as it is does.
        furthest: Among the changes without holes the one with the largest field, if none is enough.
    """

    wanted_mm: tuple[float, ...]
    base: Candidate
    candidates: tuple[Candidate, ...]
    furthest: Candidate | None

    @property
    def is_reached(self) -> bool:
        """Whether the network as it is has the wanted field."""
        return self.base.covers(self.wanted_mm)

    @property
    def surplus_mm(self) -> tuple[float, ...]:
        """By how much the field of the network as it is is larger; negative: smaller."""
        return tuple(own - mm for own, mm in zip(self.base.extents_mm, self.wanted_mm, strict=True))


def advise(
    description: Description, wanted_mm: Sequence[float], spacing: Sequence[float], load: Load
) -> Advice:
    """Tries more stages, deeper stages, larger kernels and dilations on a U-Net.

    The receptive field of every network is the exact one. Networks with holes in it, or in that
    of a stage, are left out. If no single change is enough, the most further stages are combined
    with each of the others.

    Args:
        description: Of the network as it is; only a `models.unet.UNet` is changed.
        wanted_mm: Along each axis, or one number.
        spacing: mm per voxel along each axis, or one number.
        load: The input of the network.

    Raises:
        ConfigError: numbers that are not positive or too many or few; an extent beyond the patch;
            a network that cannot be built or does not accept the patch.
    """
    dims = len(load.patch_size)
    wanted = _per_axis("extent", wanted_mm, dims)
    grid = Grid(spacing=_per_axis("spacing", spacing, dims), patch_size=tuple(load.patch_size))
    _check_patch_spans(wanted, grid)
    search = _Search(wanted=wanted, grid=grid, load=load)
    base = search.candidate(Change(text="as it is", description=description, overrides=()))
    if base.covers(wanted):
        return Advice(wanted_mm=wanted, base=base, candidates=(), furthest=None)
    found = search.single(description) or search.combined(description)
    found.sort(key=lambda candidate: candidate.costs["macs"])
    return Advice(
        wanted_mm=wanted,
        base=base,
        candidates=tuple(found),
        furthest=None if found else search.furthest(),
    )


class _Search:
    """Tries changes, and remembers those that were not enough."""

    def __init__(self, *, wanted: tuple[float, ...], grid: Grid, load: Load):
        self._wanted, self._grid, self._load = wanted, grid, load
        self._short: dict[str, list[Candidate]] = {}

    def candidate(self, change: Change) -> Candidate:
        """A changed network with its receptive field."""
        network = abstract_network(change.description)
        fields = receptive_field(network, self._load.in_channels, self._grid.patch_size)
        holes = any(field is not None and field.coverage < 1 for field in fields)
        extents = (
            math.inf if field is None else field.smallest * mm
            for field, mm in zip(fields, self._grid.spacing, strict=True)
        )
        return Candidate(
            change=change,
            extents_mm=tuple(extents),
            holes=holes or bool(gridding_warnings(network)),
            load=self._load,
        )

    def single(self, description: Description) -> list[Candidate]:
        """The weakest change of each kind that is enough."""
        kinds = changes(description, self._grid)
        first = (self._first(kind, options) for kind, options in kinds.items())
        return [candidate for candidate in first if candidate]

    def combined(self, description: Description) -> list[Candidate]:
        """The same on top of as many stages as the patch allows."""
        stages = self._short.get("stages")
        if not stages:
            return []
        most = stages[-1].change
        kinds = changes(most.description, self._grid)
        first = (
            self._first(kind, (_both(most, change) for change in options))
            for kind, options in kinds.items()
        )
        return [candidate for candidate in first if candidate]

    def furthest(self) -> Candidate | None:
        """The one with the largest field of those without holes."""
        sound = [one for short in self._short.values() for one in short if not one.holes]
        return max(sound, key=lambda one: one.share(self._wanted), default=None)

    def _first(self, kind: str, options: Iterable[Change]) -> Candidate | None:
        for change in options:
            try:
                candidate = self.candidate(change)
                if candidate.covers(self._wanted):
                    _ = candidate.costs  # raises where a patch passes, but no training step
                    return candidate
            except ConfigError:  # blocks that do not go together
                continue
            self._short.setdefault(kind, []).append(candidate)
        return None


def _both(first: Change, second: Change) -> Change:
    given = {text.partition("=")[0]: text for text in (*first.overrides, *second.overrides)}
    return Change(
        text=f"{first.text}, {second.text}",
        description=second.description,
        overrides=tuple(given.values()),
    )


def _per_axis(name: str, values: Sequence[float], dims: int) -> tuple[float, ...]:
    listed = [float(value) for value in values]
    if len(listed) not in (1, dims):
        raise ConfigError(
            f"{name}={_times(listed) or 'nothing'} has {len(listed)} numbers, the network has "
            f"{dims} axes; give one number, or {dims}"
        )
    if not all(0 < value < math.inf for value in listed):
        raise ConfigError(f"{name}={_times(listed)} mm must be positive and finite; for instance 1")
    return tuple(listed * dims if len(listed) == 1 else listed)


def _check_patch_spans(wanted: Sequence[float], grid: Grid) -> None:
    spans = [size * mm for size, mm in zip(grid.patch_size, grid.spacing, strict=True)]
    if all(span >= mm for span, mm in zip(spans, wanted, strict=True)):
        return
    enough = [
        max(size, 16 * math.ceil(extent / mm / 16))
        for size, extent, mm in zip(grid.patch_size, wanted, grid.spacing, strict=True)
    ]
    raise ConfigError(
        f"patch_size={list(grid.patch_size)} spans {_times(spans)} mm, less than the "
        f"{_times(wanted)} mm wanted, which no receptive field can then hold; "
        f"choose data.patch_size={enough} or larger"
    )


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
