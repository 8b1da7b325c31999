"""Segments NIfTI volumes with a network in ONNX form; needs numpy, nibabel and onnxruntime only.

    python segment.py model.onnx image.nii.gz … folder

`medseg export --format onnx` writes this file beside the network, to be taken along: it imports
nothing of medseg. It prepares a volume, slides windows and puts the label map back on the volume's
own grid as `medseg predict` does, in fp32. A volume of several channels has them as fourth axis.
"""

import argparse
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)

Network = Callable[[np.ndarray], np.ndarray]
"""Windows `(n, channels, *window)` → logits `(n, classes, *window)`, float32."""

_RAS = axcodes2ornt("RAS")
_SIGMA, _LEAST_WEIGHT = 0.125, 1e-3  # of a window's Gaussian, as MONAI blends
_CHUNK_BYTES = 1 << 28  # of class scores on the volume's own grid that are held at once
_FORMATS = (1, 2, 3)  # of cards; 2: overlapping regions or cubic interpolation, too; 3: a crop
_HALF = np.float32(0.5)  # above which a voxel lies in a region
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # by NIfTI's code of the unit; anything else is in mm


class UnusableError(Exception):
    """A file that cannot be used, and why."""


def main(argv: Sequence[str] | None = None) -> int:
    """Segments every volume that is named; returns 0, or 3 where one could not be used."""
    parser = argparse.ArgumentParser(description="Segment NIfTI volumes with a network of medseg.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE")
    parser.add_argument("output", type=Path, metavar="OUT", help="a folder, or a .nii.gz for one")
    parser.add_argument("--overwrite", action="store_true", help="replace existing label maps")
    arguments = parser.parse_args(argv)
    named = str(arguments.output).endswith((".nii", ".nii.gz"))
    if named and len(arguments.images) > 1:
        parser.error(f"{arguments.output} is one file, for {len(arguments.images)} volumes")
    failed = 0
    try:
        network, card = load_onnx(arguments.model)
        targets: dict[Path, Path] = {}
        for image in arguments.images:
            target = arguments.output if named else arguments.output / f"{_stem(image)}.nii.gz"
            if target in targets:
                raise UnusableError(f"{image} and {targets[target]} would both become {target}")
            if os.path.lexists(target) and (not arguments.overwrite or target.samefile(image)):
                raise UnusableError(f"{target} exists; choose another folder, or give --overwrite")
            targets[target] = image
    except UnusableError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    for target, image in targets.items():
        try:
            segment_file(network, card, image, target)
            print(target, flush=True)
        except (UnusableError, OSError) as error:
            print(f"error: {image}: {error}", file=sys.stderr)
            failed = 3
    return failed


def load_onnx(path: Path) -> tuple[Network, dict[str, Any]]:
    """The network of a file of `medseg export`, and the card that tells how to use it."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        card = json.loads(session.get_modelmeta().custom_metadata_map["medseg"])
    except KeyError:
        raise UnusableError(f"{path}: no network of `medseg export`: it has no card") from None
    except Exception as error:  # whatever the library meets in a file
        raise UnusableError(f"{path}: {str(error)[:200]}") from None
    if card["format"] not in _FORMATS:
        raise UnusableError(f"{path}: its card has format {card['format']}; take its own script")
    name = session.get_inputs()[0].name
    return lambda windows: np.asarray(session.run(None, {name: windows})[0]), card


def segment_file(network: Network, card: dict[str, Any], source: Path, target: Path) -> None:
    """Writes the label map of one volume, whole or not at all."""
    image, array, affine = read(source, card["in_channels"])
    labels = segment(network, card, array, affine)
    header = image.header.copy()
    header.set_data_dtype(labels.dtype)
    header.set_slope_inter(1, 0)
    kind = nib.Nifti2Image if isinstance(image, nib.Nifti2Pair) else nib.Nifti1Image
    result = kind(labels, None, header)  # both forms of the place stay as they are
    target.parent.mkdir(parents=True, exist_ok=True)
    suffix = ".nii.gz" if target.name.endswith(".gz") else ".nii"
    with tempfile.TemporaryDirectory(prefix=".", dir=target.parent) as folder:
        part = Path(folder, f"labels{suffix}")
        nib.save(result, part)
        part.replace(target)


def read(path: Path, channels: int) -> tuple[Any, np.ndarray, np.ndarray]:
    """The image, its voxels `(channels, i, j, k)` as float32, and its affine in mm."""
    try:
        image: Any = nib.load(path)
        array = np.asarray(image.get_fdata(dtype=np.float32))
    except OSError:
        raise
    except Exception as error:  # whatever nibabel meets in a file
        raise UnusableError(f"nibabel cannot read it ({str(error)[:200]})") from None
    if not isinstance(image, nib.Nifti1Pair):
        raise UnusableError("is no NIfTI; convert it")
    axes = [*array.shape[:3], *[1] * (3 - array.ndim)]
    rest = [n for n in array.shape[3:] if n > 1] or [1]
    if rest != [channels]:
        raise UnusableError(
            f"has {'×'.join(map(str, rest))} channels, the network takes {channels}"
        )
    array = np.moveaxis(array.reshape((*axes, channels)), -1, 0)
    for channel in array:
        finite = np.isfinite(channel)
        if not finite.any():
            raise UnusableError("holds no finite voxel")
        channel[~finite] = channel.min(where=finite, initial=np.inf)
    return image, array, _affine(image)


def _affine(image: Any) -> np.ndarray:
    """Voxel to mm; where the header states no orientation, axes run right, anterior, superior."""
    header = image.header
    if header["sform_code"] > 0 or header["qform_code"] > 0:
        affine = np.asarray(image.affine, float)
    else:
        sizes = [*np.abs(header.get_zooms()[:3]), 1, 1][:3]
        affine = np.diag([*sizes, 1.0])
    scale = _MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    affine = np.diag([scale] * 3 + [1.0]) @ affine
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise UnusableError("its affine is no map from voxels to mm")
    return affine


def segment(
    network: Network, card: dict[str, Any], array: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    """Label map `(i, j, k)` of an image `(channels, i, j, k)` on its own grid.

    Args:
        network: Windows → logits.
        card: Of the ONNX file.
        array: Float32, finite.
        affine: Voxel to mm, 4 × 4.
    """
    crops = card["preprocessing"].get("crop") is not None
    box = content(array) if crops else [slice(n) for n in array.shape[1:]]
    found = _segmented(network, card, array[(slice(None), *box)], affine)
    labels = np.zeros(array.shape[1:], found.dtype)
    labels[tuple(box)] = found
    return labels


def content(array: np.ndarray) -> list[slice]:
    """The smallest box that holds all that is not 0 in some channel; all of it if all is 0."""
    box = [slice(n) for n in array.shape[1:]]
    for axis in range(3):
        planes = np.moveaxis(array[(slice(None), *box)], axis + 1, 0)
        filled = [n for n, plane in enumerate(planes) if plane.any()]
        if filled:
            box[axis] = slice(filled[0], filled[-1] + 1)
    return box


def _segmented(
    network: Network, card: dict[str, Any], array: np.ndarray, affine: np.ndarray
) -> np.ndarray:
    """The label map of an image that is cut out; of `affine`, only where axes run counts."""
    preprocessing = card["preprocessing"]
    flat = preprocessing["spatial_dims"] == 2
    axis = preprocessing["slice_axis"]
    thin = np.equal(array.shape[1:], 1)  # an axis of one voxel is not turned

    def turned(a: np.ndarray, orientation: np.ndarray) -> np.ndarray:
        return np.moveaxis(apply_orientation(np.moveaxis(a, 0, -1), orientation), -1, 0)

    own = io_orientation(affine)
    onto = np.column_stack([own[:, 0], np.where(thin, 1, own[:, 1])])
    ras = turned(array, onto)
    spacing = np.linalg.norm((affine @ inv_ornt_aff(own, array.shape[1:]))[:3, :3], axis=0)
    order = [a for a in range(3) if a != axis] + [axis] if flat else [0, 1, 2]
    ras = np.moveaxis(ras, axis - 3, -1) if flat else ras
    wanted = preprocessing["spacing"] or [None] * 3
    before = [spacing[a] for a in order]
    after = [spacing[a] if wanted[a] is None else wanted[a] for a in order]
    size = [max(1, round(n * b / a)) for n, b, a in zip(ras.shape[1:], before, after, strict=True)]
    onto_grid = cubic if preprocessing.get("interpolation") == "cubic" else resample
    grid = np.stack([onto_grid(channel, size) for channel in ras])
    scores = slide(network, card, normalise(grid, preprocessing["intensity"]))
    order = card.get("regions_class_order") or []
    scores = probabilities(scores, overlap=bool(order))
    labels = strongest(scores, ras.shape[1:], order)
    labels = np.moveaxis(labels, -1, axis - 3) if flat else labels
    back = ornt_transform(_RAS, own)
    is_thin = np.equal(labels.shape, 1)
    back = np.column_stack([back[:, 0], np.where(is_thin, 1, back[:, 1])])
    return np.ascontiguousarray(apply_orientation(labels, back))


def probabilities(logits: np.ndarray, *, overlap: bool) -> np.ndarray:
    """Of classes a softmax, of regions that overlap each a sigmoid; `logits` are overwritten.

    They are interpolated rather than logits, as their scale has a bound.
    """
    if overlap:
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
    logits -= logits.max(0)
    np.exp(logits, out=logits)
    logits /= logits.sum(0)
    return logits


def resample(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Linear interpolation of `(i, j, k)` to `size`, voxel edges aligned, border repeated."""
    for axis, length in enumerate(size):
        volume = _along(volume, axis, length, 0, length)
    return volume


def cubic(volume: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Cubic convolution (Keys 1981, eq. 15) of `(i, j, k)` to `size`, as `resample` otherwise."""
    for axis in sorted(range(len(size)), key=lambda a: size[a] / volume.shape[a]):
        old, new = volume.shape[axis], size[axis]
        if old == new:
            continue
        places = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5
        taps = np.floor(places) + np.arange(-1, 3)
        x = np.abs(places - taps)
        near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
        weights = np.zeros((new, old))
        places_of_taps = np.arange(new)[:, None], np.clip(taps, 0, old - 1).astype(int)
        np.add.at(weights, places_of_taps, np.where(x <= 1, near, far))
        moved = np.moveaxis(volume, axis, -1) @ weights.T.astype(np.float32)
        volume = np.moveaxis(moved, -1, axis)
    return np.ascontiguousarray(volume)


def _along(volume: np.ndarray, axis: int, length: int, start: int, stop: int) -> np.ndarray:
    """Voxels `start` to `stop` of an axis that is interpolated to `length`."""
    old = volume.shape[axis]
    if old == length:
        return volume.take(range(start, stop), axis) if (start, stop) != (0, old) else volume
    place = np.clip((np.arange(start, stop) + 0.5) * (old / length) - 0.5, 0, None)
    low = np.minimum(place.astype(int), old - 1)
    share = np.expand_dims(
        (place - low).astype(np.float32), [a for a in range(volume.ndim) if a != axis]
    )
    high = volume.take(np.minimum(low + 1, old - 1), axis)
    return (1 - share) * volume.take(low, axis) + share * high


def strongest(scores: np.ndarray, size: Sequence[int], order: Sequence[int] = ()) -> np.ndarray:
    """The label value of every voxel of `size`, given probabilities `(outputs, *grid)`.

    It is the class with the largest, or what `order` gives the last region above one half.
    """
    classes = max([len(scores), *(value + 1 for value in order)])
    labels = np.zeros(tuple(size), np.uint8 if classes <= 256 else np.uint16)
    rows = max(1, _CHUNK_BYTES // (4 * classes * size[1] * size[2]))
    for start in range(0, size[0], rows):
        stop = min(start + rows, size[0])
        best = np.full((stop - start, *size[1:]), -np.inf, np.float32)
        for index, score in enumerate(scores):
            part = _along(score, 0, size[0], start, stop)
            part = _along(_along(part, 1, size[1], 0, size[1]), 2, size[2], 0, size[2])
            wins = part > (_HALF if order else best)
            labels[start:stop][wins] = order[index] if order else index
            best[wins] = part[wins]
    return labels


def normalise(image: np.ndarray, intensity: dict[str, Any]) -> np.ndarray:
    """Image `(channels, *grid)` on the scale that the network was trained on."""
    name = intensity["name"]
    if name == "PerChannel":
        pairs = zip(image, intensity["channels"], strict=True)
        return np.concatenate([normalise(channel[None], own) for channel, own in pairs])
    if name not in _INTENSITIES:
        raise UnusableError(f"the network's intensities are mapped by {name!r}, unknown here")
    return np.stack([_INTENSITIES[name](channel, intensity) for channel in image])


def _z_score(channel: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    counted = channel[channel != 0] if options["nonzero"] else channel
    if not counted.size:
        return channel
    mean, deviation = counted.mean(dtype=np.float64), counted.std(dtype=np.float64)
    deviation = 0 if counted.min() == counted.max() else deviation
    scaled = ((channel - np.float32(mean)) / np.float32(deviation or 1)).astype(np.float32)
    return np.where(channel != 0, scaled, np.float32(0)) if options["nonzero"] else scaled


def _window(channel: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    low, high = options["low"], options["high"]
    return np.clip((channel - np.float32(low)) / np.float32(high - low) * 2 - 1, -1, 1)


def _min_max(channel: np.ndarray, _options: dict[str, Any]) -> np.ndarray:
    raised = channel - channel.min()
    return raised / (raised.max() or np.float32(1))


_INTENSITIES = {
    "ZScore": _z_score,
    "Window": _window,
    "MinMax": _min_max,
    "Unchanged": lambda channel, _options: channel,
}


def slide(network: Network, card: dict[str, Any], image: np.ndarray) -> np.ndarray:
    """Logits `(classes, *grid)` of an image `(channels, *grid)`, windows blended by a Gaussian."""
    patch = [*card["patch_size"], 1][:3]
    flat = len(card["patch_size"]) == 2
    before = [max(0, w - n) // 2 for n, w in zip(image.shape[1:], patch, strict=True)]
    sides = [(b, max(0, w - n) - b) for n, w, b in zip(image.shape[1:], patch, before, strict=True)]
    padded = np.pad(image, [(0, 0), *sides])
    weights = _gaussian(patch)
    sums, total = None, np.zeros(padded.shape[1:], np.float32)
    for place in _windows(padded.shape[1:], patch, card["overlap"]):
        window = padded[(slice(None), *place)]
        seen = window[..., 0] if flat else window
        logits = _any_size(network, seen[None], card["multiple"])[0]
        logits = logits[..., None] if flat else logits
        if sums is None:
            sums = np.zeros((len(logits), *padded.shape[1:]), np.float32)
        sums[(slice(None), *place)] += logits * weights
        total[place] += weights
    assert sums is not None
    sums /= total
    own = tuple(slice(b, b + n) for b, n in zip(before, image.shape[1:], strict=True))
    return np.ascontiguousarray(sums[(slice(None), *own)])


def _any_size(network: Network, windows: np.ndarray, multiple: Sequence[int]) -> np.ndarray:
    """Logits of windows that are padded with zeros at the far end to what the network takes."""
    size = windows.shape[2:]
    lacks = [(0, -n % step) for n, step in zip(size, multiple, strict=True)]
    logits = network(np.ascontiguousarray(np.pad(windows, [(0, 0), (0, 0), *lacks])))
    return logits[(..., *(slice(n) for n in size))]


def _gaussian(patch: Sequence[int]) -> np.ndarray:
    weights = np.ones((), np.float32)
    for length in patch:
        place = np.arange(length, dtype=np.float32) - (length - 1) / 2
        weights = weights[..., None] * np.exp(place**2 / np.float32(-2 * (_SIGMA * length) ** 2))
    return np.maximum(weights, max(float(weights.min()), _LEAST_WEIGHT)).astype(np.float32)


def _windows(
    size: Sequence[int], patch: Sequence[int], overlap: float
) -> Iterator[tuple[slice, ...]]:
    """Where windows lie: at equal steps, the last one at the far end."""
    starts = []
    for length, window in zip(size, patch, strict=True):
        step = max(1, int(window * (1 - overlap)))
        count = 1 + max(0, math.ceil((length - window) / step))
        starts.append([min(n * step, length - window) for n in range(count)])
    for corner in product(*starts):
        yield tuple(slice(c, c + w) for c, w in zip(corner, patch, strict=True))


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".nii").removesuffix(".hdr")


if __name__ == "__main__":
    sys.exit(main())
