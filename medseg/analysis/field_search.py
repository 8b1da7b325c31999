"""Changes of a U-Net that give it a wanted receptive field, and what they cost.

Every change is a description and the overrides that turn the configuration into it.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import nn

from medseg.analysis.cost import Load, abstract_network, costs
from medseg.analysis.gridding import gridding_warnings
from medseg.analysis.receptive_field import receptive_field
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
_DILATED = {"name": "blocks.conv.DilatedSchedule", "kernel_size": _USUAL_KERNEL}
_SEPARABLE = {"name": "blocks.conv.DepthwiseSeparable", "multiplier": 1}


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network that was changed; its receptive field and costs are found when they are asked for.

    Args:
        text: The change in words.
        description: Of the changed network.
        overrides: That turn the configuration of the network as it was into this one.
        spacing: mm per voxel along each axis.
        load: Its input.
    """

    text: str
    description: Description
    overrides: tuple[str, ...]
    spacing: tuple[float, ...]
    load: Load

    @cached_property
    def _network(self) -> nn.Module:
        return abstract_network(self.description)

    @cached_property
    def _fields(self) -> tuple[Any, ...]:
        return receptive_field(self._network, self.load.in_channels, self.load.patch_size)

    @property
    def extents_mm(self) -> tuple[float, ...]:
        """Extent of its field along each axis, of the smallest phase; infinite: the whole image."""
        axes = zip(self._fields, self.spacing, strict=True)
        return tuple(field.smallest * mm if field else math.inf for field, mm in axes)

    @cached_property
    def holes(self) -> bool:
        """Whether its field, or that of one of its stages, skips voxels."""
        skips = any(field is not None and field.coverage < 1 for field in self._fields)
        return skips or bool(gridding_warnings(self._network))

    @cached_property
    def costs(self) -> dict[str, int]:
        """Parameters, multiply-accumulates, and bytes of a training step."""
        return costs(self.description, self.load)

    def covers(self, wanted_mm: Sequence[float]) -> bool:
        """Whether its field has the wanted extent along every axis, without holes."""
        return self.share(wanted_mm) >= 1 and not self.holes

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
    candidates: tuple[Candidate, ...] = ()
    furthest: Candidate | None = None

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
    wanted, mm = _per_axis("extent", wanted_mm, dims), _per_axis("spacing", spacing, dims)
    _check_patch_spans(wanted, load.patch_size, mm)
    base = as_it_is(description, mm, load)
    if base.covers(wanted):
        return Advice(wanted_mm=wanted, base=base)
    found, short = _weakest_enough(changes(base), wanted)
    more_stages = short.get("stages")
    if not found and more_stages:
        found, shorter = _weakest_enough(changes(more_stages[-1]), wanted)
        short = {kind: [*short.get(kind, []), *shorter.get(kind, [])] for kind in short | shorter}
    found.sort(key=lambda candidate: candidate.costs["macs"])
    sound = [one for candidates in short.values() for one in candidates if not one.holes]
    furthest = max(sound, key=lambda one: one.share(wanted), default=None)
    return Advice(
        wanted_mm=wanted,
        base=base,
        candidates=tuple(found),
        furthest=None if found else furthest,
    )


def as_it_is(description: Description, spacing: tuple[float, ...], load: Load) -> Candidate:
    """The network without a change."""
    return Candidate(
        text="as it is", description=description, overrides=(), spacing=spacing, load=load
    )


def _weakest_enough(
    kinds: Mapping[str, Iterable[Candidate]], wanted_mm: Sequence[float]
) -> tuple[list[Candidate], dict[str, list[Candidate]]]:
    """Of each kind the first candidate that is enough, and those before it that are not."""
    found: list[Candidate] = []
    short: dict[str, list[Candidate]] = {}
    for kind, candidates in kinds.items():
        for candidate in candidates:
            try:
                if candidate.covers(wanted_mm):
                    _ = candidate.costs  # raises where a patch passes, but no training step
                    found.append(candidate)
                    break
            except ConfigError:  # blocks that do not go together
                continue
            short.setdefault(kind, []).append(candidate)
    return found, short


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


def changes(base: Candidate) -> dict[str, Iterator[Candidate]]:
    """Kinds of changes that enlarge the receptive field, of each kind the weakest first.

    Returns:
        Nothing for a network that is no `models.unet.UNet`.
    """
    if base.description.get("name") != _NETWORK:
        return {}
    return {
        "stages": _more_stages(base),
        "depth": _more_units(base),
        "coarsest depth": _more_coarsest_units(base),
        "encoder kernel": _larger_kernels(base, ("encoder",)),
        "kernel": _larger_kernels(base, _HALVES),
        "separable encoder kernel": _larger_kernels(base, ("encoder",), separable=True),
        "separable kernel": _larger_kernels(base, _HALVES, separable=True),
        "dilation": _dilated_encoder(base),
    }


def _changed(
    base: Candidate,
    text: str,
    values: Mapping[Path, Any],
    *,
    options: Mapping[Path, tuple[str, Description]] | None = None,
    following: Mapping[Path, Any] | None = None,
) -> Candidate:
    """A candidate with a further change.

    Args:
        base: What is changed.
        text: The change in words.
        values: Path in the description → new value.
        options: Path → convolution in its place: its option of the configuration, its description.
        following: Values that the configuration takes over from `values`.
    """
    blocks = {path: block for path, (_, block) in (options or {}).items()}
    description = base.description
    for path, value in (blocks | dict(values) | dict(following or {})).items():
        description = replaced_at(description, path, value)
    chosen = {
        f"conv@model.{'.'.join(path)}": option for path, (option, _) in (options or {}).items()
    }
    new = {f"model.{'.'.join(path)}": str(v).replace(" ", "") for path, v in values.items()}
    given = dict(override.split("=", 1) for override in base.overrides) | chosen | new
    return Candidate(
        text=f"{base.text}, {text}" if base.overrides else text,
        description=description,
        overrides=tuple(f"{key}={value}" for key, value in given.items()),
        spacing=base.spacing,
        load=base.load,
    )


def _more_stages(base: Candidate) -> Iterator[Candidate]:
    encoder = base.description["encoder"]
    channels, strides = list(encoder["channels"]), list(encoder["strides"])
    most = max(_LARGEST_WIDTH[len(base.spacing)], channels[-1])
    for added in range(1, _MORE_STAGES + 1):
        step = _next_step(strides, base.load.patch_size, base.spacing)
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
            if isinstance(depths := base.description[half]["depths"], list)
        }
        mirrored = {("decoder", "channels"): channels, ("decoder", "strides"): strides}
        yield _changed(base, _more(added, "stage"), values, following=mirrored)


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


def _more_units(base: Candidate) -> Iterator[Candidate]:
    own = base.description["encoder"]["depths"]
    halves = [half for half in _HALVES if base.description[half]["depths"] == own]
    where = f"every stage of the {' and '.join(halves)}"
    for more in _MORE_UNITS:
        depths = own + more if isinstance(own, int) else [count + more for count in own]
        values = {(half, "depths"): depths for half in halves}
        yield _changed(base, f"{_more(more, 'unit')} in {where}", values)


def _more_coarsest_units(base: Candidate) -> Iterator[Candidate]:
    *fine, last = _unit_counts(base.description)
    for more in _MORE_COARSEST_UNITS:
        values = {("encoder", "depths"): [*fine, last + more]}
        yield _changed(base, f"{_more(more, 'unit')} in the coarsest stage", values)


def _larger_kernels(
    base: Candidate, halves: Sequence[str], *, separable: bool = False
) -> Iterator[Candidate]:
    convs = [base.description[half]["conv"] for half in halves]
    if separable and any(conv["name"] == _SEPARABLE["name"] for conv in convs):
        return
    own = 0 if separable else max(map(_largest_kernel, convs))
    options = {(half, "conv"): ("large_kernel", _SEPARABLE) for half in halves if separable}
    for kernel in _KERNELS:
        if kernel > own:
            kind = "depthwise separable kernel" if separable else "kernel"
            values = {(half, "conv", "kernel_size"): kernel for half in halves}
            text = f"{kind} {kernel} in the {' and '.join(halves)}"
            yield _changed(base, text, values, options=options)


def _dilated_encoder(base: Candidate) -> Iterator[Candidate]:
    counts, conv = _unit_counts(base.description), ("encoder", "conv")
    kernel = base.description["encoder"]["conv"].get("kernel_size", _USUAL_KERNEL)
    kernels = {(*conv, "kernel_size"): kernel} if kernel != _USUAL_KERNEL else {}
    decoder = {("decoder", "depths"): base.description["decoder"]["depths"]}  # else it follows
    for rates in _SCHEDULES:
        enough = [max(count, len(rates)) for count in counts]
        depths = {("encoder", "depths"): enough} | decoder if enough != counts else {}
        yield _changed(
            base,
            f"dilations {', '.join(map(str, rates))} in the encoder",
            {(*conv, "rates"): list(rates)} | kernels | depths,
            options={conv: ("dilated_schedule", _DILATED)},
        )


def _more(count: int, thing: str) -> str:
    return f"{count} more {thing}{'s' if count > 1 else ''}"


def _unit_counts(description: Description) -> list[int]:
    encoder = description["encoder"]
    depths = encoder["depths"]
    return [depths] * len(encoder["channels"]) if isinstance(depths, int) else list(depths)


def _largest_kernel(conv: Description) -> float:
    """Infinite for a convolution whose kernel cannot be chosen."""
    kernel = getattr(build(conv), "kernel_size", math.inf)
    return max(kernel) if isinstance(kernel, tuple) else kernel
