"""Changes of a U-Net that give it a wanted receptive field, and what they cost.

Every change is a description and the overrides that turn the configuration into it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medseg.analysis.cost import Load, abstract_network, costs
from medseg.analysis.receptive_field import gridding_warnings, receptive_field
from medseg.analysis.widths import Path, replaced_at
from medseg.errors import ConfigError
from medseg.models.description import Description, build

_NETWORK = "models.unet.UNet"
_LARGEST_WIDTH = {2: 512, 3: 320}  # nnU-Net's
_SMALLEST_GRID = 4  # voxels along an axis of the coarsest stage, nnU-Net's
_NEAR = 2.0  # times the finest spacing from which an axis is not halved, nnU-Net's
_MORE_STAGES = 4
_MORE_UNITS = (1, 2, 3, 4)
_MORE_COARSEST_UNITS = (1, 2, 3, 4, 6, 8)
_KERNELS = (5, 7)
_SCHEDULES = ((1, 2), (1, 2, 3), (1, 2, 5), (1, 2, 5, 9))
_USUAL_KERNEL = 3
_HALVES = ("encoder", "decoder")
_SEPARABLE = "blocks.conv.DepthwiseSeparable"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A network that was changed in one way.

    Args:
        text: The change in words.
        description: Of the changed network.
        overrides: That turn the configuration of the network as it was into this one.
    """

    text: str
    description: Description
    overrides: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate(Change):
    """A changed network and its receptive field.

    Args:
        extents_mm: Extent of its receptive field along each axis, of the phase where it is
            smallest; infinite where it is the whole image.
        holes: Whether its field, or that of one of its stages, skips voxels.
        load: Its input.
    """

    extents_mm: tuple[float, ...]
    holes: bool
    load: Load

    @cached_property
    def costs(self) -> dict[str, int]:
        """Parameters, multiply-accumulates, and bytes of a training step."""
        return costs(self.description, self.load)

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
    mm = _per_axis("spacing", spacing, dims)
    _check_patch_spans(wanted, load.patch_size, mm)
    search = _Search(wanted=wanted, spacing=mm, load=load)
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

    def __init__(self, *, wanted: tuple[float, ...], spacing: tuple[float, ...], load: Load):
        self._wanted, self._spacing, self._load = wanted, spacing, load
        self._short: dict[str, list[Candidate]] = {}

    def candidate(self, change: Change) -> Candidate:
        """A changed network with its receptive field."""
        network = abstract_network(change.description)
        fields = receptive_field(network, self._load.in_channels, self._load.patch_size)
        holes = any(field is not None and field.coverage < 1 for field in fields)
        extents = (
            math.inf if field is None else field.smallest * mm
            for field, mm in zip(fields, self._spacing, strict=True)
        )
        return Candidate(
            text=change.text,
            description=change.description,
            overrides=change.overrides,
            extents_mm=tuple(extents),
            holes=holes or bool(gridding_warnings(network)),
            load=self._load,
        )

    def single(self, description: Description) -> list[Candidate]:
        """The weakest change of each kind that is enough."""
        return self._enough(changes(description, self._load.patch_size, self._spacing))

    def combined(self, description: Description) -> list[Candidate]:
        """The same on top of as many stages as the patch allows."""
        stages = self._short.get("stages")
        if not stages:
            return []
        most = stages[-1]
        kinds = changes(most.description, self._load.patch_size, self._spacing)
        return self._enough(
            {kind: (_both(most, change) for change in options) for kind, options in kinds.items()}
        )

    def furthest(self) -> Candidate | None:
        """The one with the largest field of those without holes."""
        sound = [one for short in self._short.values() for one in short if not one.holes]
        return max(sound, key=lambda one: one.share(self._wanted), default=None)

    def _enough(self, kinds: Mapping[str, Iterable[Change]]) -> list[Candidate]:
        first = (self._first(kind, options) for kind, options in kinds.items())
        return [candidate for candidate in first if candidate]

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


def _check_patch_spans(
    wanted: Sequence[float], patch_size: Sequence[int], spacing: Sequence[float]
) -> None:
    axes = list(zip(patch_size, wanted, spacing, strict=True))
    if all(size * mm >= extent for size, extent, mm in axes):
        return
    spans = [size * mm for size, _, mm in axes]
    enough = [max(size, 16 * math.ceil(extent / mm / 16)) for size, extent, mm in axes]
    raise ConfigError(
        f"patch_size={list(patch_size)} spans {_times(spans)} mm, less than the "
        f"{_times(wanted)} mm wanted, which no receptive field can then hold; "
        f"choose data.patch_size={enough} or larger"
    )


def _times(values: Sequence[float]) -> str:
    return " × ".join(f"{value:g}" for value in values)


def changes(
    description: Description, patch_size: Sequence[int], spacing: Sequence[float]
) -> dict[str, Iterator[Change]]:
    """Kinds of changes that enlarge the receptive field, of each kind the weakest first.

    Args:
        description: Of the network as it is.
        patch_size: Of its images, in voxels.
        spacing: mm per voxel of each axis.

    Returns:
        Nothing for a network that is no `models.unet.UNet`.
    """
    if description.get("name") != _NETWORK:
        return {}
    return {
        "stages": _more_stages(description, patch_size, spacing),
        "depth": _more_units(description),
        "coarsest depth": _more_coarsest_units(description),
        "encoder kernel": _larger_kernels(description, ("encoder",)),
        "kernel": _larger_kernels(description, _HALVES),
        "separable encoder kernel": _separable_kernels(description, ("encoder",)),
        "separable kernel": _separable_kernels(description, _HALVES),
        "dilation": _dilated_encoder(description),
        "coarsest dilation": _dilated_coarsest(description),
    }


def _more_stages(
    description: Description, patch_size: Sequence[int], spacing: Sequence[float]
) -> Iterator[Change]:
    encoder = description["encoder"]
    channels, strides = list(encoder["channels"]), list(encoder["strides"])
    most = max(_LARGEST_WIDTH[len(spacing)], channels[-1])
    for added in range(1, _MORE_STAGES + 1):
        step = _next_step(strides, patch_size, spacing)
        if all(s == 1 for s in step):
            return
        channels = [*channels, min(2 * channels[-1], most)]
        strides = [*strides, step[0] if len(set(step)) == 1 else step]
        values: dict[Path, Any] = {
            ("encoder", "channels"): channels,
            ("encoder", "strides"): strides,
        } | {
            (half, "depths"): [*depths, *depths[-1:] * added]
            for half in _HALVES
            if isinstance(depths := description[half]["depths"], list)
        }
        mirrored = {
            ("decoder", "channels"): channels,
            ("decoder", "strides"): strides,
        }
        changed = _with(description, values | mirrored)
        yield Change(text=_more(added, "stage"), description=changed, overrides=_texts(values))


def _next_step(
    strides: Sequence[Any], patch_size: Sequence[int], spacing: Sequence[float]
) -> list[int]:
    """nnU-Net's rule: an axis is halved unless it is coarse already, or its grid is small."""
    dims = len(spacing)
    done = [1] * dims
    for stride in strides:
        steps = [stride] * dims if isinstance(stride, int) else stride
        done = [d * s for d, s in zip(done, steps, strict=True)]
    can = [n // d >= 2 * _SMALLEST_GRID for n, d in zip(patch_size, done, strict=True)]
    coarse = [mm * d for mm, d in zip(spacing, done, strict=True)]
    finest = min((mm for mm, possible in zip(coarse, can, strict=True) if possible), default=0)
    return [
        2 if possible and mm < _NEAR * finest else 1
        for mm, possible in zip(coarse, can, strict=True)
    ]


def _more_units(description: Description) -> Iterator[Change]:
    own = description["encoder"]["depths"]
    halves = [half for half in _HALVES if description[half]["depths"] == own]
    for more in _MORE_UNITS:
        depths = own + more if isinstance(own, int) else [count + more for count in own]
        values = {(half, "depths"): depths for half in halves}
        where = f"every stage of the {' and '.join(halves)}"
        yield _change(f"{_more(more, 'unit')} in {where}", description, values)


def _more_coarsest_units(description: Description) -> Iterator[Change]:
    *fine, last = _unit_counts(description)
    for more in _MORE_COARSEST_UNITS:
        values = {("encoder", "depths"): [*fine, last + more]}
        yield _change(f"{_more(more, 'unit')} in the coarsest stage", description, values)


def _larger_kernels(description: Description, halves: Sequence[str]) -> Iterator[Change]:
    for kernel in _KERNELS:
        if any(kernel <= _largest_kernel(description[half]["conv"]) for half in halves):
            continue
        values = {(half, "conv", "kernel_size"): kernel for half in halves}
        yield _change(f"kernel {kernel} in the {' and '.join(halves)}", description, values)


def _separable_kernels(description: Description, halves: Sequence[str]) -> Iterator[Change]:
    if any(description[half]["conv"]["name"] == _SEPARABLE for half in halves):
        return
    for kernel in _KERNELS:
        conv = {"name": _SEPARABLE, "kernel_size": kernel, "multiplier": 1}
        overrides = []
        for half in halves:
            overrides += [f"conv@model.{half}.conv=large_kernel"]
            overrides += _texts({(half, "conv", "kernel_size"): kernel})
        yield Change(
            text=f"depthwise separable kernel {kernel} in the {' and '.join(halves)}",
            description=_with(description, {(half, "conv"): conv for half in halves}),
            overrides=tuple(overrides),
        )


def _dilated_encoder(description: Description) -> Iterator[Change]:
    counts = _unit_counts(description)
    of_decoder = {("decoder", "depths"): description["decoder"]["depths"]}  # else it follows
    for rates in _SCHEDULES:
        enough = [max(count, len(rates)) for count in counts]
        depths = {("encoder", "depths"): enough} | of_decoder if enough != counts else {}
        yield _dilated(description, ("encoder", "conv"), rates, depths, "in the encoder")


def _dilated_coarsest(description: Description) -> Iterator[Change]:
    *fine, last = _unit_counts(description)
    stage = str(len(fine))
    taken = description["encoder"].get("stage") or {}
    if "conv" in taken.get(stage, {}):
        return
    for rates in _SCHEDULES:
        enough = [*fine, max(last, len(rates))]
        depths = {("encoder", "depths"): enough} if enough[-1] != last else {}
        path = ("encoder", "stage", stage, "conv")
        slots = _with(description, {path[:2]: dict(taken), path[:3]: dict(taken.get(stage, {}))})
        yield _dilated(slots, path, rates, depths, "in the coarsest stage")


def _dilated(
    description: Description,
    path: Path,
    rates: Sequence[int],
    depths: dict[Path, Any],
    where: str,
) -> Change:
    kernel = description["encoder"]["conv"].get("kernel_size", _USUAL_KERNEL)
    conv = {"name": "blocks.conv.DilatedSchedule", "kernel_size": kernel, "rates": list(rates)}
    options: dict[Path, Any] = {(*path, "rates"): list(rates)}
    if kernel != _USUAL_KERNEL:
        options[(*path, "kernel_size")] = kernel
    new = "+" if "stage" in path else ""
    chosen = f"{new}conv@model.{'.'.join(path)}=dilated_schedule"
    return Change(
        text=f"dilations {', '.join(map(str, rates))} {where}",
        description=_with(description, {path: conv} | depths),
        overrides=(chosen, *_texts(options | depths)),
    )


def _more(count: int, thing: str) -> str:
    return f"{count} more {thing}{'s' if count > 1 else ''}"


def _change(text: str, description: Description, values: Mapping[Path, Any]) -> Change:
    return Change(text=text, description=_with(description, values), overrides=_texts(values))


def _with(description: Description, values: Mapping[Path, Any]) -> Description:
    changed = description
    for path, value in values.items():
        changed = replaced_at(changed, path, value)
    return changed


def _texts(values: Mapping[Path, Any]) -> tuple[str, ...]:
    texts = {".".join(path): str(value).replace(" ", "") for path, value in values.items()}
    return tuple(f"model.{path}={text}" for path, text in texts.items())


def _unit_counts(description: Description) -> list[int]:
    encoder = description["encoder"]
    depths = encoder["depths"]
    return [depths] * len(encoder["channels"]) if isinstance(depths, int) else list(depths)


def _largest_kernel(conv: Description) -> float:
    """Infinite for a convolution whose kernel cannot be chosen."""
    kernel = getattr(build(conv), "kernel_size", math.inf)
    return max(kernel) if isinstance(kernel, tuple) else kernel
