"""What writing a label map costs: CPU seconds and size of every format but pictures.

python docs/label_formats.py [--shape 512 512 133] [--classes 25]
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from written_dicom import ct_series, save

from medseg.volumes import read_image
from medseg.volumes.writers import FORMATS, LabelMap


def ellipsoids(shape: tuple[int, ...], count: int) -> np.ndarray:
    rng, labels = np.random.default_rng(0), np.zeros(shape, np.uint8)
    for value in range(1, count + 1):
        centre = rng.uniform(0.15, 0.85, 3) * shape
        radii = rng.uniform(0.03, 0.12, 3) * shape
        start = np.maximum(centre - radii, 0).astype(int)
        stop = np.minimum(centre + radii + 2, shape).astype(int)
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        axes = zip(np.ogrid[box], centre, radii, strict=True)
        labels[box][sum(((x - c) / r) ** 2 for x, c, r in axes) < 1] = value
    return labels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", type=int, nargs=3, default=(512, 512, 133))
    parser.add_argument("--classes", type=int, default=25)
    arguments = parser.parse_args()
    shape = tuple(arguments.shape)
    with tempfile.TemporaryDirectory() as scratch:
        pixels = np.random.default_rng(0).integers(0, 2000, shape[::-1], np.uint16)
        save(ct_series(pixels, spacing=(2.5, 0.7, 0.7)), Path(scratch, "series"))
        volume = read_image(Path(scratch, "series"))
        names = [f"class {value}" for value in range(1, arguments.classes + 1)]
        label_map = LabelMap.of(ellipsoids(shape, arguments.classes), names, volume)
        for name, each in FORMATS.items():
            if each.fault(volume.path, names):
                continue
            target, start = Path(scratch, f"{name}{each.suffixes[0]}"), time.process_time()
            each.write(target, label_map)
            seconds, size = time.process_time() - start, target.stat().st_size / 2**20
            print(f"{name}: {seconds:.1f} CPU seconds, {size:.1f} MiB", flush=True)


if __name__ == "__main__":
    main()
