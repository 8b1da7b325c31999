"""Levels, bias, cover and power of what docs/checkerboard-details.md claims over cases.

    python docs/checkerboard_levels.py [FOLDER of Task04_Hippocampus]

Prints its tables as Markdown; all seeds are fixed. Without the folder, rows of real images are left
out. "before" is the rule that medseg had: a part that begins at the same phase in every case.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from medseg.checkerboard.cohort import against_shifts, equally_weighted, shared
from medseg.checkerboard.moments import halo, window_moments
from medseg.checkerboard.windows import Region

CASES = (8, 30, 52)
Maps = np.ndarray
random = np.random.default_rng(16)


@dataclass(frozen=True)
class Null:
    """Maps without a grid: `make(count)` gives so many, which begin anywhere."""

    name: str
    period: tuple[int, ...]
    make: Callable[[int], Maps]
    count: int = 1000


def field(size: int, sigma: float, mode: str, dims: int = 2) -> Callable[[int], Maps]:
    """White noise behind a Gaussian filter; what it does at the border stands at voxel 0."""

    def make(count: int) -> Maps:
        noise = random.standard_normal((count, *[size] * dims), dtype=np.float32)
        return ndimage.gaussian_filter(noise, [0] + [sigma] * dims, mode=mode) if sigma else noise

    return make


def ellipses(count: int, size: int) -> Maps:
    """Masks of ellipses about the middle."""
    rows, columns = np.mgrid[:size, :size].astype(np.float32)
    y, x = random.uniform(0.35, 0.65, (2, count, 1, 1)) * size
    a, b = random.uniform(0.15, 0.3, (2, count, 1, 1)) * size
    return (((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1).astype(np.float32)


def phantom(count: int, size: int = 64) -> Maps:
    """Rician magnitudes of a smooth disc, zeros outside, cropped at 0 … 3."""
    signal = ndimage.gaussian_filter(ellipses(count, size + 3), [0, 1.5, 1.5])
    noise = random.normal(0, 0.05, (2, *signal.shape))
    seen = np.hypot(signal + noise[0], noise[1]) * (signal > 0.02)
    return np.stack([crop(one, (4, 4), (size, size)) for one in seen])


def crop(image: Maps, period: tuple[int, ...], size: tuple[int, ...]) -> Maps:
    start = [int(random.integers(step)) for step in period]
    return image[tuple(slice(a, a + n) for a, n in zip(start, size, strict=True))]


def logits(padding: str, trained: bool) -> Callable[[int], Maps]:
    """Of 8 convolutions of 3 with stride 1, so that there is no grid, on noisy ellipses."""

    def make(count: int) -> Maps:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for inputs in (1, *[8] * 7):
            conv = nn.Conv2d(inputs, 8, 3, padding=1, padding_mode=padding)
            layers += [conv, nn.BatchNorm2d(8), nn.ReLU()]
        network = nn.Sequential(*layers, nn.Conv2d(8, 1, 1))
        masks = torch.as_tensor(ellipses(count, 64))[:, None]
        images = masks + 0.5 * torch.randn(masks.shape)
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for _ in range(60 if trained else 0):
            some = torch.as_tensor(random.integers(0, 100, 8))
            loss = functional.binary_cross_entropy_with_logits(network(images[some]), masks[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            if not trained:
                network(images[:50])  # statistics of the norms
            network.eval()
            return torch.cat([network(some) for some in images.split(50)])[:, 0].numpy()

    return make


def hippocampus(folder: Path) -> Callable[[int], Maps]:
    """Crops of real MR at 0 … 3, as many of each image."""
    paths = sorted(folder.glob("imagesTr/[!.]*.nii.gz"))
    volumes = [np.asarray(nibabel.load(path).dataobj, dtype=np.float32) for path in paths]
    least = tuple(np.min([volume.shape for volume in volumes], axis=0))
    size = tuple(max(24, n) - 3 for n in least)
    volumes = [v for v in volumes if min(np.subtract(v.shape, size)) >= 3]

    def make(count: int) -> Maps:
        return np.stack([crop(volumes[i % len(volumes)], (4, 4, 4), size) for i in range(count)])

    make.images = len(volumes)  # type: ignore[attr-defined]
    return make


def grams(maps: Maps, period: tuple[int, ...], rule: str) -> Tensor:
    """Moments of each map: of the region that is drawn for it, or of all but the margin."""
    sizes = maps.shape[1:]
    found = []
    for seed, one in enumerate(torch.as_tensor(maps)):
        region = Region.drawn(period, sizes, sizes, seed)
        assert region is not None
        margin = halo(period)
        place = region.within(margin, margin) if rule == "now" else (slice(None),) * len(sizes)
        origin = [part.start or 0 for part in place]
        found.append(window_moments(one[place][None], period, origin, slopes=False)[0])
    return torch.stack(found)


def samples(count: int, cases: int, studies: int, images: int | None) -> Tensor:
    """Which maps a study has; no image twice."""
    distinct = images or count
    generator = np.random.default_rng(0)
    rows = [generator.permutation(distinct)[:cases] for _ in range(studies)]
    again = generator.integers(0, count // distinct, (studies, cases)) * distinct
    return torch.as_tensor(np.stack(rows) + again)


def rejected(tables: Tensor, period: tuple[int, ...], chosen: Tensor) -> float:
    """Share of studies with p ≤ 0.05; of 39 permutations that is 2 of 40 by chance, exactly."""
    parts = [against_shifts(tables[some], period, 39, seed=7)[1] for some in chosen.split(50)]
    return float((torch.cat(parts) <= 0.05).double().mean())


def betas(gram: Tensor) -> Tensor:
    """Slopes by phase of each map, less their mean, as `seasonal.gain` has them."""
    count, e, smooth, both, square = (gram[..., i, j] for i, j in _PLACES)
    slope = (both - e * smooth / count) / (square - smooth.square() / count)
    return slope - slope.mean(dim=-1, keepdim=True)


_PLACES = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2))


def nulls(folder: Path | None) -> Iterator[Null]:
    yield Null("white noise", (4, 4), field(64, 0, "wrap"))
    yield Null("σ 1, zeros beyond the border", (4, 4), field(64, 1, "constant"))
    yield Null("σ 2, reflected border", (4, 4), field(64, 2, "reflect"))
    yield Null("σ 2, reflected border", (2, 2), field(64, 2, "reflect"))
    yield Null("σ 4, zeros beyond the border", (4, 4), field(64, 4, "constant"))
    yield Null("σ 4, reflected border", (4, 4), field(64, 4, "reflect"))
    yield Null("σ 4, reflected border, 128²", (4, 4), field(128, 4, "reflect"), 500)
    yield Null("σ 2, reflected border", (4, 2), field(64, 2, "reflect"))
    yield Null("σ 2, reflected border, 3-D", (2, 2, 2), field(24, 2, "reflect", dims=3), 500)
    yield Null("Rician phantom", (4, 4), phantom)
    for padding in ("zeros", "circular"):
        for trained in (False, True):
            name = f"logits, {'trained' if trained else 'untrained'}, padding {padding}"
            for step in (2, 4) if padding == "zeros" else (2,):
                yield Null(name, (step, step), logits(padding, trained))
    if folder:
        for period in ((2, 2, 2), (4, 4, 4), (4, 2, 1)):
            yield Null("hippocampus MR", period, hippocampus(folder), 780)


def levels(folder: Path | None, studies: int) -> Iterator[str]:
    """Share of studies with p ≤ 0.05; gains without a grid, by case and as cases share them."""
    heads = ["maps without a grid", "s", "before, 52 cases", *map(str, CASES)]
    heads += ["κ by case", "κ shared, 52", "0 in interval"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + " --- |" * len(heads)
    for null in nulls(folder):
        maps = null.make(null.count)
        images = getattr(null.make, "images", None)
        found = []
        for rule, numbers in (("before", CASES[-1:]), ("now", CASES)):
            gram = grams(maps, null.period, rule)
            tables = torch.stack([equally_weighted(one) for one in gram])
            for cases in numbers:
                chosen = samples(len(maps) // (images or 1) * (images or 1), cases, studies, images)
                few = chosen[:200] if rule == "before" else chosen
                found.append(f"{rejected(tables, null.period, few):.3f}")
        slopes = betas(gram)
        by_case = float(slopes.square().mean(dim=1).sqrt().mean())
        estimates = [shared(slopes[some]) for some in chosen[:200]]
        mean = np.mean([one.mean for one in estimates if one])
        inside = np.mean([one.low == 0 for one in estimates if one])
        stride = "×".join(map(str, null.period))
        found += [f"{by_case:.3f}", f"{mean:.4f}", f"{inside:.3f}"]
        yield f"| {null.name} | {stride} | {' | '.join(found)} |"


def planted(studies: int) -> Iterator[str]:
    """A gain of known size on maps of 64² at stride 4, 30 cases."""
    yield "| maps | planted κ | by case | shared | in interval | p ≤ 0.05 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    pattern = random.standard_normal((4, 4))
    pattern = (pattern - pattern.mean()) / (pattern - pattern.mean()).std()
    tiled = np.tile(pattern, (16, 16))
    smooth_maps, rough = field(64, 4, "reflect")(600), field(64, 0, "wrap")(600)
    for name, maps in (("smooth, σ 4", smooth_maps), ("white noise", rough)):
        for size in (0, 0.005, 0.02, 0.1):
            gram = grams(maps * (1 + size * tiled), (4, 4), "now")
            tables = torch.stack([equally_weighted(one) for one in gram])
            chosen = samples(len(maps), 30, studies, None)
            slopes = betas(gram)
            found = [shared(slopes[some]) for some in chosen]
            mean = np.mean([one.mean for one in found if one])
            ends = [(one.low or 0, one.high or 0) for one in found if one]
            inside = np.mean([low <= size <= high for low, high in ends])
            p = rejected(tables, (4, 4), chosen)
            by_case = float(slopes.square().mean(dim=1).sqrt().mean())
            yield f"| {name} | {size} | {by_case:.3f} | {mean:.4f} | {inside:.2f} | {p:.2f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    for line in itertools.chain(levels(given, studies=1000), [""], planted(studies=200)):
        print(line, flush=True)
