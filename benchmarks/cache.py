"""Preparation of datasets of several sizes, and patches that are read from what was prepared.

    python -m benchmarks.cache [--cases 26 260 2600] [--shape 40 56 40] [--folder FOLDER]

The cases are made up: a smooth body with organs and noise, in whole Hounsfield units. Time of the
processors, because others may use them too; memory is the peak beyond what the program takes.
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage

from medseg.data.cache import PreparedCase, prepare_cases
from medseg.data.dataset import Case
from medseg.data.preprocess import Preprocessing, Window
from medseg.resources import peak_memory_bytes, restart_peak_memory, usable_cpus

CPU = torch.device("cpu")
MIB = 2**20
PATCHES = ((40, 56, 40), (96, 96, 96), (128, 128, 128))


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, nargs="+", default=[26, 260, 2600])
    parser.add_argument("--shape", type=int, nargs=3, default=[40, 56, 40])
    parser.add_argument("--spacing", type=float, help="mm to which 1 mm is resampled")
    parser.add_argument("--folder", type=Path, help="for the files, which are removed again")
    given = parser.parse_args()
    spacing = None if given.spacing is None else (given.spacing,) * 3
    preprocessing = Preprocessing(intensity=Window(low=-160, high=240), spacing=spacing)
    print(
        f"{'×'.join(map(str, given.shape))} voxels, {usable_cpus()} cores\n\n"
        "| cases | prepared: CPU s | s | memory MiB | cache MiB | of float32 | again: CPU s | "
        f"ms of CPU a patch of {', '.join('×'.join(map(str, p)) for p in PATCHES)} |\n"
        f"{'| --- ' * 8}|"
    )
    for count in given.cases:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            cases = _cases(Path(folder), count, given.shape)
            cache = Path(folder) / "cache"
            restart_peak_memory(CPU)
            before = peak_memory_bytes(CPU)
            first, wall, prepared = _prepared(cases, preprocessing, cache)
            memory = (peak_memory_bytes(CPU) - before) / MIB
            size = sum(path.stat().st_size for path in cache.rglob("*")) / MIB
            plain = sum(4 * int(np.prod(case.shape)) for case in prepared) / MIB
            second, _, _ = _prepared(cases, preprocessing, cache)
            patches = ", ".join(_milliseconds(prepared, patch) for patch in PATCHES)
        print(
            f"| {count} | {first:.1f} | {wall:.1f} | {memory:.0f} | {size:.1f} | "
            f"{size / plain:.2f} | {second:.2f} | {patches} |",
            flush=True,
        )


def _prepared(
    cases: list[Case], preprocessing: Preprocessing, cache: Path
) -> tuple[float, float, list[PreparedCase]]:
    cpu, wall = time.process_time(), time.perf_counter()
    prepared = prepare_cases(cases, preprocessing, in_channels=1, num_classes=3, cache=cache)
    return time.process_time() - cpu, time.perf_counter() - wall, prepared


def _milliseconds(prepared: list[PreparedCase], patch: tuple[int, ...], count: int = 20) -> str:
    rng = np.random.default_rng(0)
    spent = 0.0
    for case in rng.choice(np.array(prepared, object), count):
        grid = case.shape[1:]
        if any(n < p for n, p in zip(grid, patch, strict=True)):
            return "–"
        starts = [int(rng.integers(n - p + 1)) for n, p in zip(grid, patch, strict=True)]
        region = [slice(start, start + p) for start, p in zip(starts, patch, strict=True)]
        start = time.process_time()
        case.region(region)
        spent += time.process_time() - start
    return f"{1e3 * spent / count:.1f}"


def _cases(folder: Path, count: int, shape: list[int]) -> list[Case]:
    """Ten volumes, each of them many times under names of their own."""
    cases = []
    for number in range(count):
        paths = [folder / f"case_{number:04d}{kind}.nii.gz" for kind in ("", "_seg")]
        if number < 10:
            image, label = _volume(np.random.default_rng(number), shape)
            for path, array in zip(paths, (image, label), strict=True):
                nib.save(nib.Nifti1Image(array, np.eye(4)), path)
        else:
            for path in paths:
                shutil.copy(str(path).replace(f"_{number:04d}", f"_{number % 10:04d}"), path)
        cases.append(Case(case_id=f"case_{number:04d}", images=(paths[0],), label=paths[1]))
    return cases


def _volume(rng: np.random.Generator, shape: list[int]) -> tuple[np.ndarray, np.ndarray]:
    axes = np.meshgrid(*[np.linspace(-1, 1, n, dtype=np.float32) for n in shape], indexing="ij")
    body = (axes[0] / 0.85) ** 2 + (axes[1] / 0.65) ** 2 < 1
    image, label = np.where(body, 40, -1000).astype(np.float32), np.zeros(shape, np.uint8)
    for number in range(20):
        centre, radii = rng.uniform(-0.6, 0.6, 3), rng.uniform(0.1, 0.4, 3)
        terms = [((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True)]
        organ = body & (sum(terms) < 1)
        image[organ] = rng.choice([-800, -90, 60, 120, 400])
        label[organ] = number % 3
    noise = ndimage.gaussian_filter(rng.normal(0, 60, shape).astype(np.float32), 0.6)
    return np.round(ndimage.gaussian_filter(image, 0.7) + noise).astype(np.int16), label


if __name__ == "__main__":
    main()
