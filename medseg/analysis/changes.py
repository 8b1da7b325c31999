"""Changes that enlarge the receptive field of a U-Net, each as a description and as overrides."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from medseg.analysis.widths import Path, replaced_at
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
class Grid:
    """The images of a network.

    Args:
        spacing: mm per voxel of each axis.
        patch_size: In voxels.
    """

    spacing: Sequence[float]
    patch_size: Sequence[int]


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


def changes(description: Description, grid: Grid) -> dict[str, Iterator[Change]]:
    """Kinds of changes that enlarge the receptive field, of each kind the weakest first.

    Returns:
        Nothing for a network that is no `models.unet.UNet`.
    """
    if description.get("name") != _NETWORK:
        return {}
    return {
        "stages": _more_stages(description, grid),
        "depth": _more_units(description),
        "coarsest depth": _more_coarsest_units(description),
        "encoder kernel": _larger_kernels(description, ("encoder",)),
        "kernel": _larger_kernels(description, _HALVES),
        "separable encoder kernel": _separable_kernels(description, ("encoder",)),
        "separable kernel": _separable_kernels(description, _HALVES),
        "dilation": _dilated_encoder(description),
        "coarsest dilation": _dilated_coarsest(description),
    }


def _more_stages(description: Description, grid: Grid) -> Iterator[Change]:
    encoder = description["encoder"]
    channels, strides = list(encoder["channels"]), list(encoder["strides"])
    most = max(_LARGEST_WIDTH[len(grid.spacing)], channels[-1])
    for added in range(1, _MORE_STAGES + 1):
        step = _next_step(strides, grid)
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


def _next_step(strides: Sequence[Any], grid: Grid) -> list[int]:
    """nnU-Net's rule: an axis is halved unless it is coarse already, or its grid is small."""
    dims = len(grid.spacing)
    done = [1] * dims
    for stride in strides:
        steps = [stride] * dims if isinstance(stride, int) else stride
        done = [d * s for d, s in zip(done, steps, strict=True)]
    can = [n // d >= 2 * _SMALLEST_GRID for n, d in zip(grid.patch_size, done, strict=True)]
    spacing = [mm * d for mm, d in zip(grid.spacing, done, strict=True)]
    finest = min((mm for mm, possible in zip(spacing, can, strict=True) if possible), default=0)
    return [
        2 if possible and mm < _NEAR * finest else 1
        for mm, possible in zip(spacing, can, strict=True)
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
