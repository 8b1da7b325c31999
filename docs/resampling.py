"""What resampling loses: linear and cubic interpolation of images, and ways to resample labels.

    python docs/resampling.py TASK [--cases N]

TASK is a Decathlon folder. Images go to a grid of other voxels and back; the error is the root mean
square difference to the image that was there, in its standard deviations. Labels go there and back
too; the score is the mean Dice of the classes with the labels that were there. Prints a table:
medians over cases, and CPU time a voxel of the grid there.
"""

import argparse
import json
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional

from medseg.data.resampling import cubic, resample
from medseg.formatting import markdown_table

SCALES = {  # voxels of the other grid in those of the image
    "0.7": (0.7, 0.7, 0.7),
    "1.3": (1.3, 1.3, 1.3),
    "2": (2.0, 2.0, 2.0),
    "1, 1, 3 (thick slices)": (1.0, 1.0, 3.0),
}


def linear(image, size):
    return resample(torch.from_numpy(image)[None], size)[0].numpy()


def keys(image, size):
    return cubic(torch.from_numpy(image)[None], size)[0].numpy()


def spline(image, size):
    """As nnU-Net does: cubic spline, voxel edges aligned."""
    zoom = [new / old for new, old in zip(size, image.shape, strict=True)]
    return ndimage.zoom(image, zoom, order=3, mode="nearest", grid_mode=True)


def nearest(label, size):
    whole = torch.from_numpy(label)[None, None].float()
    return functional.interpolate(whole, size=size, mode="nearest-exact")[0, 0].numpy().astype(int)


def one_hot(label, size):
    """The class with the largest share, by linear interpolation of each class."""
    shares = [linear((label == c).astype(np.float32), size) for c in range(int(label.max()) + 1)]
    return np.argmax(shares, axis=0)


def there_and_back(function, array, size):
    start = time.process_time()
    there = function(array, size)
    seconds = time.process_time() - start
    back = function(there.astype(array.dtype, copy=False), array.shape)
    return back, 1e9 * seconds / there.size


def dice(label, other):
    classes = np.unique(label)[1:]
    return np.mean([
        2 * np.sum((label == c) & (other == c)) / (np.sum(label == c) + np.sum(other == c))
        for c in classes
    ])  # fmt: skip


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", type=Path)
    parser.add_argument("--cases", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cases = json.loads((arguments.task / "dataset.json").read_text())["training"]
    rows = []
    for name, scale in SCALES.items():
        found = {way: [] for way in (linear, keys, spline, nearest, one_hot)}
        for case in cases[: arguments.cases]:
            image, label = (
                np.asanyarray(nib.load(arguments.task / case[key]).dataobj)
                for key in ("image", "label")
            )
            size = tuple(
                max(1, round(n / factor)) for n, factor in zip(image.shape, scale, strict=True)
            )
            image = image.astype(np.float32)
            for way in (linear, keys, spline):
                back, nanoseconds = there_and_back(way, image, size)
                error = np.sqrt(np.mean((back - image) ** 2)) / image.std()
                found[way].append((error, nanoseconds))
            for way in (nearest, one_hot):
                back, nanoseconds = there_and_back(way, label.astype(np.uint8), size)
                found[way].append((dice(label, back), nanoseconds))
        cells = [np.median(values, axis=0) for values in found.values()]
        rows.append(
            (name, *(f"{value:.3f} ({nanoseconds:.0f} ns)" for value, nanoseconds in cells))
        )
    head = (
        "voxels there",
        "error, linear",
        "error, cubic",
        "error, cubic spline",
        "Dice, nearest",
        "Dice, by class",
    )
    print(markdown_table(head, rows))


if __name__ == "__main__":
    main()
