"""Which network sees a given extent of the body, and what that costs."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from medseg.analysis.changes import Change, Grid, changes
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.quantity import Cost, Load, abstract_network, cost
from medseg.analysis.receptive_field import AxisField, receptive_field
from medseg.errors import ConfigError
from medseg.models.description import Description


@dataclass(frozen=True, kw_only=True)
class Sight:
    """A network and what it sees.

    Args:
        change: How it differs from the network asked about, and the overrides to get there.
        extents_mm: Extent of its receptive field along each axis, of the phase that sees least;
            infinite where all voxels are seen.
        holes: Whether it sees only some of the voxels in between, or a stage does.
    """

    change: Change
    extents_mm: tuple[float, ...]
    holes: bool

    def reaches(self, wanted_mm: Sequence[float]) -> bool:
        """Whether it sees as much along every axis, without holes."""
        return not self.holes and self.share(wanted_mm) >= 1

    def share(self, wanted_mm: Sequence[float]) -> float:
        """Extent by wanted extent, of the axis where it is least."""
        return min(own / mm for own, mm in zip(self.extents_mm, wanted_mm, strict=True))


@dataclass(frozen=True, kw_only=True)
class Candidate(Sight):
    """A network, what it sees and what it costs."""

    cost: Cost


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What lets a network see a wanted extent.

    Args:
        wanted_mm: Along each axis.
        base: The network as it is.
        candidates: The weakest change of each kind that reaches it, by multiply-accumulates; none
            if the network as it is does.
        furthest: Among the changes without holes the one that sees most, if none reaches it.
    """

    wanted_mm: tuple[float, ...]
    base: Candidate
    candidates: tuple[Candidate, ...]
    furthest: Candidate | None

    @property
    def is_reached(self) -> bool:
        """Whether the network as it is sees the extent."""
        return self.base.reaches(self.wanted_mm)

    @property
    def surplus_mm(self) -> tuple[float, ...]:
        """By how much the network as it is sees more along each axis; negative: less."""
        return tuple(own - mm for own, mm in zip(self.base.extents_mm, self.wanted_mm, strict=True))


def advise(
    description: Description, wanted_mm: Sequence[float], spacing: Sequence[float], load: Load
) -> Advice:
    """Tries more stages, deeper stages, larger kernels and dilations on a U-Net.

    The receptive field of every network is the exact one. Networks with holes in it, or in that
    of a stage, are left out. If no single change is enough, the most further stages are combined
    with each of the others.

    Args:
        description: Of the network as it is; of a network of others only what it sees is told.
        wanted_mm: Along each axis, or one number.
        spacing: mm per voxel along each axis, or one number.
        load: What the network is given.

    Raises:
        ConfigError: numbers that are not positive or too many or few; an extent that the patch
            does not span; a network that cannot be built or does not accept the patch.
    """
    dims = len(load.patch_size)
    wanted = _per_axis("extent", wanted_mm, dims)
    grid = Grid(spacing=_per_axis("spacing", spacing, dims), patch_size=tuple(load.patch_size))
    _check_patch_spans(wanted, grid)
    unchanged = Change(text="as it is", description=description, overrides=())
    base = _priced(_sight(unchanged, grid, load), load)
    if base.reaches(wanted):
        return Advice(wanted_mm=wanted, base=base, candidates=(), furthest=None)
    search = _Search(wanted=wanted, grid=grid, load=load)
    found = search.single(description) or search.combined(description)
    found.sort(key=lambda candidate: candidate.cost.macs)
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
        self._short: dict[str, list[Sight]] = {}

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
        """The one that sees most of those without holes."""
        sound = [sight for short in self._short.values() for sight in short if not sight.holes]
        if not sound:
            return None
        return _priced(max(sound, key=lambda sight: sight.share(self._wanted)), self._load)

    def _first(self, kind: str, options: Iterable[Change]) -> Candidate | None:
        for change in options:
            try:
                sight = _sight(change, self._grid, self._load)
                if sight.reaches(self._wanted):
                    return _priced(sight, self._load)
            except ConfigError:  # blocks that do not go together
                continue
            self._short.setdefault(kind, []).append(sight)
        return None


def _both(first: Change, second: Change) -> Change:
    given = {text.partition("=")[0]: text for text in (*first.overrides, *second.overrides)}
    return Change(
        text=f"{first.text}, {second.text}",
        description=second.description,
        overrides=tuple(given.values()),
    )


def _sight(change: Change, grid: Grid, load: Load) -> Sight:
    network = abstract_network(change.description)
    fields = receptive_field(network, load.in_channels, grid.patch_size)
    holes = any(field is not None and field.coverage < 1 for field in fields)
    return Sight(
        change=change,
        extents_mm=tuple(map(_extent_mm, fields, grid.spacing)),
        holes=holes or bool(gridding_warnings(network)),
    )


def _priced(sight: Sight, load: Load) -> Candidate:
    return Candidate(
        change=sight.change,
        extents_mm=sight.extents_mm,
        holes=sight.holes,
        cost=cost(sight.change.description, load),
    )


def _extent_mm(field: AxisField | None, spacing: float) -> float:
    return math.inf if field is None else field.smallest * spacing


def _per_axis(name: str, values: Sequence[float], dims: int) -> tuple[float, ...]:
    listed = [float(value) for value in values]
    if len(listed) not in (1, dims):
        raise ConfigError(
            f"{name}={_short(listed) or 'nothing'} has {len(listed)} numbers, the network has "
            f"{dims} axes; give one number, or {dims}"
        )
    if not all(0 < value < math.inf for value in listed):
        raise ConfigError(f"{name}={_short(listed)} mm must be positive and finite; for instance 1")
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
        f"patch_size={list(grid.patch_size)} spans {_short(spans)} mm, less than the "
        f"{_short(wanted)} mm wanted, so that no network can see it; "
        f"choose data.patch_size={enough} or larger"
    )


def _short(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)
