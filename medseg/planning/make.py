"""Everything that a plan says of a dataset, as the text of its file."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg import __version__
from medseg.build import build
from medseg.data.augmentation import STEPS
from medseg.data.dataset import Dataset
from medseg.data.preprocess import BODY_AXES
from medseg.data.sides import resolve_flips
from medseg.errors import ConfigError
from medseg.formatting import duration, first_of, memory, sizes
from medseg.hardware import choose_device, describe_machine
from medseg.models.description import describe
from medseg.planning.document import PLANNED, planned_from, text_of
from medseg.planning.fingerprint import Fingerprint
from medseg.planning.network import PlannedNetwork, network_of
from medseg.planning.planner import (
    WIDTHS,
    Choice,
    Chooser,
    Grid,
    choose_like_nnunet,
    crop,
    grid_of,
    normalisation,
)
from medseg.resources import available_memory_bytes

if TYPE_CHECKING:
    import torch

STEP_SECONDS = 10.0
_FREE_SHARE = 0.8  # of the free memory, which other things use too
_LOWRES_SHARE = 0.25  # of a median case, below which nnU-Net trains a coarser network besides
_THIN = 3  # voxels
_RATIO_OF_SPACINGS = 1.2
_LISTED = 5


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a training may take.

    Args:
        memory_gb: Of a training step; None: what is free on the device.
        step_seconds: Longest training step; inf measures none.
        like_nnunet: Whether memory is estimated as nnU-Net does, and nothing is measured.
    """

    memory_gb: float | None = None
    step_seconds: float = STEP_SECONDS
    like_nnunet: bool = False


def make_text(
    facts: Fingerprint,
    dataset: Dataset,
    config: Mapping[str, Any],
    *,
    limits: Limits,
    fixed: Collection[str] = (),
    left_out: Collection[str] = (),
    options: Mapping[str, str],
    values: Mapping[str, Any] | None = None,
) -> str:
    """A plan as the text of its file.

    Args:
        facts: Of the dataset.
        dataset: Whose facts they are.
        config: Resolved, without a plan.
        limits: What a training may take.
        fixed: Dotted keys that the user gave; their values stay.
        left_out: Dotted keys that are not written.
        options: Group (and place) → option that the plan chooses.
        values: Dotted key → value, that the user gave besides.

    Raises:
        MedsegError: a network that cannot be built, or no room to train it.
    """
    data = config["data"]
    grid = grid_of(facts, data, fixed)
    device = choose_device(config["trainer"]["device"], key="trainer.device")
    described = describe(config["model"])
    network = network_of(config, described, device, is_free="model" not in fixed)
    memory_bytes = _memory_bytes(network, limits)
    choice = _choice(grid, network, dataset, data, limits, memory_bytes, fixed)
    intensity, why = normalisation(facts)
    if "data.intensity" in fixed:
        intensity, why = dict(data["intensity"]), "given"
    cropped = {"crop": crop(facts)} if crop(facts) and "data.crop" not in fixed else {}
    encoder = network.encoder(choice.shape, choice.first_width)
    tree: dict[str, Any] = {
        "data": {
            "root": str(dataset.folder.absolute()),
            "spatial_dims": grid.spatial_dims,
            **({"slice_axis": grid.slice_axis} if grid.spatial_dims == 2 else {}),
            **cropped,
            "spacing": data["spacing"] if "data.spacing" in fixed else list(grid.spacing),
            "patch_size": list(choice.shape.patch),
            "batch_size": choice.batch,
            "intensity": intensity,
        },
        **({"model": {"encoder": encoder}} if encoder else {}),
        PLANNED: {
            **planned_from(dataset),
            "medseg": __version__,
            "made_for": _made_for(device, limits, memory_bytes),
        },
    }
    for key, value in (values or {}).items():
        _put(tree, key, value)
    for key in left_out:
        _put(tree, key, None, remove=True)
    comments = {
        "data.spacing": _about_spacing(facts, grid, data, fixed),
        "data.patch_size": _about_patch(grid, choice),
        "data.batch_size": f"limit: {choice.limited_by}",
        "data.intensity": why,
        "model.encoder.channels": _about_width(choice),
        "model.encoder.strides": "into each stage; per axis where they differ",
        "model.encoder.kernel_sizes": "1 along an axis while its voxels are twice as long; "
        "null: the convolution's own",
        PLANNED: "what the plan was made from; a dataset of other channels or classes is refused",
    }
    if cropped:
        comments["data.crop"] = f"to what is not 0: {facts.relative_size:.0%} of a median case"
    if not encoder.get("kernel_sizes"):
        del comments["model.encoder.kernel_sizes"]
    heading = _heading(facts, grid, choice, network, dataset, config, limits, memory_bytes)
    return text_of(tree, options, comments, heading)


def _choice(
    grid: Grid,
    network: PlannedNetwork,
    dataset: Dataset,
    data: Mapping[str, Any],
    limits: Limits,
    memory_bytes: int,
    fixed: Collection[str],
) -> Choice:
    if limits.like_nnunet:
        if given := sorted({"data.patch_size", "data.batch_size"} & {*fixed}):
            raise ConfigError(f"--nnunet chooses {given[0]} itself; leave out one of the two")
        gigabytes = 8 if limits.memory_gb is None else limits.memory_gb
        return choose_like_nnunet(grid, num_classes=dataset.num_classes, memory_gb=gigabytes)
    return Chooser(
        grid=grid,
        network=network,
        num_classes=dataset.num_classes,
        memory_bytes=memory_bytes,
        step_seconds=limits.step_seconds,
        free_bytes=0 if limits.memory_gb else _free_bytes(network.device),
        patch=data["patch_size"] if "data.patch_size" in fixed else None,
        batch=data["batch_size"] if "data.batch_size" in fixed else None,
    ).choose()


def _memory_bytes(network: PlannedNetwork, limits: Limits) -> int:
    if limits.memory_gb is not None:
        return round(limits.memory_gb * 1e9)
    free = _free_bytes(network.device)
    free /= 1 if network.device.type == "cuda" else 2  # a process takes up to twice its tensors
    # in tenths of a GB, so that --memory can say the same on another machine
    return max(1, int(free * _FREE_SHARE / 1e8)) * 10**8


def _free_bytes(device: "torch.device") -> int:
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return available_memory_bytes()


def _made_for(device: "torch.device", limits: Limits, memory_bytes: int) -> dict[str, Any]:
    """What a plan depends on besides its dataset and network."""
    if limits.like_nnunet:
        return {"memory_gb": limits.memory_gb or 8, "by": "nnU-Net's estimate"}
    made_for = {"memory_gb": memory_bytes / 1e9, "device": device.type}
    if math.isinf(limits.step_seconds):
        return made_for
    machine = describe_machine(device, "")
    measured = {name: machine[name] for name in ("device", "cpu", "threads")}
    return made_for | {"step_seconds": limits.step_seconds} | measured


def _heading(
    facts: Fingerprint,
    grid: Grid,
    choice: Choice,
    network: PlannedNetwork,
    dataset: Dataset,
    config: Mapping[str, Any],
    limits: Limits,
    memory_bytes: int,
) -> list[str]:
    lines = [
        f"{dataset.name}: {len(dataset.cases)} cases, {dataset.form}; planned by medseg "
        f"{__version__}",
        "Train: medseg train plan=FILE    its cost: medseg audit plan=FILE",
        "Any value may be edited; values on the command line go before these.",
        "",
    ]
    if choice.bytes is not None:
        lines.append(
            f"A training step takes {memory(choice.bytes)} of {memory(memory_bytes)} by exact "
            "prediction"
        )
    if choice.seconds is not None:
        epoch = choice.seconds * config["data"]["batches_per_epoch"]
        lines.append(
            f"and {choice.seconds:.2g} s on this machine ({network.device}) when idle: "
            f"{duration(epoch)} for {config['data']['batches_per_epoch']} batches"
        )
        if choice.seconds > limits.step_seconds:
            lines.append(
                f"MORE than the {limits.step_seconds:g} s that were asked for: it is the smallest "
                "step that was tried"
            )
    if not limits.like_nnunet:
        options = f"--memory {memory_bytes / 1e9:g} --step-seconds {limits.step_seconds:g}"
        lines.append(f"Made for {options} on {network.device.type}; another memory or speed may")
        lines.append("give another plan: to train the same elsewhere, take this file with you.")
    lines += ["", *_augmentation(config, dataset, grid), ""]
    return lines + _extents(facts, grid, choice, network) + _oddities(facts, grid, choice)


def _augmentation(config: Mapping[str, Any], dataset: Dataset, grid: Grid) -> list[str]:
    """Which augmentation is on, and in which ways of the body patches are mirrored."""
    section = config["augmentation"]
    if not section:
        return ["Augmentation: none"]
    names = [BODY_AXES[axis] for axis in sorted(grid.axes)]
    resolved = resolve_flips(build(section, "augmentation"), dataset.labelling, names)
    every = ("affine", "elastic", *STEPS)
    steps = [f"{kind} {getattr(resolved, kind):g}" for kind in every if getattr(resolved, kind)]
    mirrored = [names[int(axis)] for axis in resolved.flip_axes]
    flips = f"mirrored {' and '.join(mirrored)}" if mirrored else "nothing is mirrored"
    pairs = "; classes of sides are swapped" if resolved.side_pairs and mirrored else ""
    grows = f"; of all patches after {resolved.ramp:g} passes" if resolved.ramp else ""
    kinds = ", ".join(steps) or "none"
    return [f"Augmentation (with its probability): {kinds}; {flips}{pairs}{grows}"]


def _extents(facts: Fingerprint, grid: Grid, choice: Choice, network: PlannedNetwork) -> list[str]:
    """How large classes are beside the patch and the receptive field."""
    spacing = _spacing(facts, grid)
    patch = [n * mm for n, mm in zip(choice.shape.patch, spacing, strict=True)]
    field = network.field_mm(choice.shape, choice.first_width, spacing)
    lines = [f"Extents in mm along {_ways(grid)}:", f"  patch            {sizes(patch)}"]
    lines.append(f"  receptive field  {sizes(field) if field else 'the whole image'}")
    axes, missed = sorted(grid.axes), []
    found = {name: facts.extents(name)[:, axes] for name in facts.classes}
    largest = sorted(
        (name for name, own in found.items() if len(own)),
        key=lambda name: -float(np.median(found[name], axis=0).max()),
    )
    for name in largest[:_LISTED]:
        lines.append(
            f"  {name}: median {sizes(np.median(found[name], axis=0))}, "
            f"largest {sizes(found[name].max(axis=0))}"
        )
    for name in largest:
        high = np.percentile(found[name], 95, axis=0)
        short = [i for i, mm in enumerate(high) if field and mm > field[i]]
        if short:
            missed.append(f"{name} ({_ways(grid, short)})")
    if missed:
        lines.append(f"The receptive field does NOT cover {first_of(missed)}: see medseg reach")
    elif found:
        lines.append("The receptive field covers every class, in 95 of 100 cases.")
    return lines


def _oddities(facts: Fingerprint, grid: Grid, choice: Choice) -> list[str]:
    """What a reader of the plan should know of the dataset."""
    lines, axes = [], sorted(grid.axes)
    spacing = _spacing(facts, grid)
    own = facts.spacings[:, axes]
    if (own.max(0) > _RATIO_OF_SPACINGS * own.min(0)).any():
        lines.append(
            f"Spacings differ: {sizes(own.min(0))} to {sizes(own.max(0))} mm; all cases are "
            f"resampled to {sizes(spacing)}"
        )
    median = [grid.median_size[axis] for axis in axes]
    held = [min(1.0, n / m) for n, m in zip(choice.shape.patch, median, strict=True)]
    if math.prod(held) < _LOWRES_SHARE:
        lines.append(
            f"A patch holds {math.prod(held):.0%} of a median case; nnU-Net would train a coarser "
            "network besides: plan one with data.spacing"
        )
    thin = []
    for name in facts.classes:
        extents = facts.extents(name)[:, axes]
        if len(extents) and (np.median(extents, axis=0) / spacing).min() < _THIN:
            thin.append(name)
    if thin:
        lines.append(f"Less than {_THIN} voxels thick at this spacing: {first_of(thin)}")
    if absent := [name for name in facts.classes if not len(facts.extents(name))]:
        lines.append(f"In no label map: {first_of(absent)}")
    return lines


def _about_spacing(
    facts: Fingerprint, grid: Grid, data: Mapping[str, Any], fixed: Collection[str]
) -> str:
    if "data.spacing" in fixed:
        return "given"
    median = np.median(facts.spacings, axis=0)
    finer = any(
        mm is not None and mm < 0.99 * own for mm, own in zip(grid.spacing, median, strict=True)
    )
    rule = "median of the cases; along the coarse axis the finest tenth" if finer else "median"
    return f"mm left-right, anterior-posterior, head-foot: {rule}"


def _about_patch(grid: Grid, choice: Choice) -> str:
    size = " × ".join(f"{grid.median_size[axis]:g}" for axis in sorted(grid.axes))
    return f"voxels; a median case has {size}, without margins of 0"


def _about_width(choice: Choice) -> str:
    if choice.first_width < WIDTHS[0]:
        return f"nnU-Net's would start at {WIDTHS[0]}, too slow here"
    return "nnU-Net's"


def _spacing(facts: Fingerprint, grid: Grid) -> list[float]:
    """Mm along the network's axes, in the order of a patch; the median where each keeps its own."""
    medians = np.median(facts.spacings, axis=0)
    return [float(grid.spacing[axis] or medians[axis]) for axis in sorted(grid.axes)]


def _ways(grid: Grid, chosen: Sequence[int] | None = None) -> str:
    names = [BODY_AXES[axis] for axis in sorted(grid.axes)]
    return ", ".join(names if chosen is None else [names[i] for i in chosen])


def _put(tree: dict[str, Any], key: str, value: Any, *, remove: bool = False) -> None:
    *path, last = key.split(".")
    for part in path:
        if remove and part not in tree:
            return
        tree = tree.setdefault(part, {})
    if remove:
        tree.pop(last, None)
    else:
        tree[last] = value
