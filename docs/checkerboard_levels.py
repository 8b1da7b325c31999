"""Levels, bias, cover and power of what docs/checkerboard-details.md claims over cases.

    python docs/checkerboard_levels.py [FOLDER of Task04_Hippocampus]

Prints its tables as Markdown; all seeds are fixed. Without the folder, rows of real images are left
out. "before" is the rule that medseg had: a part that begins at the same phase in every case.
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from medseg.checkerboard.boundaries import boundary_histograms, boundary_snapping
from medseg.checkerboard.cohort import against_shifts, equally_weighted, estimate, shared
from medseg.checkerboard.moments import PhaseMoments, halo, window_moments
from medseg.checkerboard.probes import CycleSpin, cycle_spin_residual
from medseg.checkerboard.seasonal import additive, lags, staircase
from medseg.checkerboard.windows import Region
from medseg.record import Estimate

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


def at_random_phase(count: int, size: int = 64) -> Maps:
    """Logits of untrained strided networks whose grid begins at 0 … 3, another for each case."""
    torch.manual_seed(0)
    down = [nn.Conv2d(1, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU()]
    up = [nn.ConvTranspose2d(8, 8, 3, 2, 1, 1), nn.ReLU(), nn.ConvTranspose2d(8, 1, 3, 2, 1, 1)]
    masks = torch.as_tensor(ellipses(count, size + 4))[:, None]
    with torch.no_grad():
        found = nn.Sequential(*down, *up)(masks + 0.5 * torch.randn(masks.shape))[:, 0]
    return np.stack([crop(one, (4, 4), (size, size)) for one in found.numpy()])


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


def grams(
    maps: Iterable[Maps], period: tuple[int, ...], rule: str, *, slopes: bool = False
) -> Tensor:
    """Moments of each map: of the region that is drawn for it, or of all but the margin."""
    found = []
    for seed, one in enumerate(map(torch.as_tensor, maps)):
        sizes = tuple(one.shape)
        region = Region.drawn(period, sizes, sizes, seed)
        assert region is not None
        margin = halo(period)
        place = region.within(margin, margin) if rule == "now" else (slice(None),) * len(sizes)
        origin = [part.start or 0 for part in place]
        found.append(window_moments(one[place][None], period, origin, slopes=slopes)[0])
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


STRIDED = Null("logits, strides at random phase", (4, 4), at_random_phase)


def reseed() -> None:
    """Begins all draws anew."""
    random.bit_generator.state = np.random.default_rng(16).bit_generator.state
    torch.manual_seed(16)


def levels(kinds: Iterable[Null], studies: int) -> Iterator[str]:
    """Share of studies with p ≤ 0.05; gains without a grid, by case and as cases share them."""
    heads = ["maps without a grid", "s", "before, 52 cases", *map(str, CASES)]
    heads += ["κ by case", "κ shared, 52", "0 in interval"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + " --- |" * len(heads)
    for null in kinds:
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


def unit_pattern(*period: int) -> Maps:
    """Numbers by phase of mean 0 and mean square 1."""
    pattern = random.standard_normal(period)
    return (pattern - pattern.mean()) / pattern.std()


def over_cases(
    values: Tensor, truth: float, studies: int, estimated: Callable[[Tensor], Estimate | None]
) -> tuple[str, str]:
    """Mean estimate of studies of 30 cases, and the share of intervals that hold the truth."""
    found = [estimated(values[some]) for some in samples(len(values), 30, studies, None)]
    known = [one for one in found if one]
    inside = [(one.low or 0) <= truth + 1e-9 and (one.high or 0) >= truth - 1e-9 for one in known]
    return f"{np.mean([one.mean for one in known]):.4f}", f"{np.mean(inside):.2f}"


def planted(studies: int) -> Iterator[str]:
    """A gain of known size on maps of 64² at stride 4, 30 cases."""
    yield "| maps | planted κ | by case | shared | in interval | p ≤ 0.05 |"
    yield "| --- | --- | --- | --- | --- | --- |"
    tiled = np.tile(unit_pattern(4, 4), (16, 16))
    smooth_maps, rough = field(64, 4, "reflect")(600), field(64, 0, "wrap")(600)
    for name, maps in (("smooth, σ 4", smooth_maps), ("white noise", rough)):
        for size in (0, 0.005, 0.02, 0.1):
            gram = grams(maps * (1 + size * tiled), (4, 4), "now")
            tables = torch.stack([equally_weighted(one) for one in gram])
            slopes = betas(gram)
            p = rejected(tables, (4, 4), samples(len(maps), 30, studies, None))
            by_case = float(slopes.square().mean(dim=1).sqrt().mean())
            mean, inside = over_cases(slopes, size, studies, shared)
            yield f"| {name} | {size} | {by_case:.3f} | {mean} | {inside} | {p:.2f} |"


class Amplified(nn.Module):
    """Multiplies what stands at each phase of its grid and adds a pattern: it moves nothing."""

    def __init__(self, gain: Maps, pattern: Maps):
        super().__init__()
        self.gain, self.pattern = (torch.as_tensor(np.tile(p, (16, 16))) for p in (gain, pattern))

    def forward(self, image: Tensor) -> Tensor:
        return image * (1 + self.gain) + self.pattern


def spun(image: Maps, seed: int, gain: Maps, pattern: Maps) -> CycleSpin:
    found = cycle_spin_residual(
        Amplified(gain, pattern), torch.as_tensor(image)[None, None], (4, 4), seed=seed
    )
    assert found is not None
    return found


def sizes(studies: int) -> Iterator[str]:
    """The other measures without a grid, and with patterns of known size; 64², stride 4."""
    heads = ["measure", "maps", "planted", "by case", "over 30 cases", "in interval"]
    yield f"| {' | '.join(heads)} |"
    yield "|" + " --- |" * len(heads)
    pool = {
        "white noise": field(64, 0, "wrap")(200),
        "σ 2, reflected border": field(64, 2, "reflect")(200),
        "σ 4, reflected border": field(64, 4, "reflect")(200),
    }
    for name, maps in pool.items():
        means, spreads = (f(axis=(1, 2), keepdims=True) for f in (maps.mean, maps.std))
        pool[name] = ((maps - means) / spreads).astype(float)
    pattern = unit_pattern(4, 4)

    def row(measure: str, maps: str, truth: float, cases: Tensor, by_case: float, how: Callable):
        mean, inside = over_cases(cases, truth, studies, how)
        return f"| {measure} | {maps} | {truth:.3g} | {by_case:.4f} | {mean} | {inside} |"

    def moments(maps: Maps) -> list[PhaseMoments]:
        return [PhaseMoments((4, 4), one) for one in grams(maps, (4, 4), "now", slopes=True)]

    for name, maps in pool.items():
        seen = float((1 / maps[:, 12:52, 12:52].std(axis=(1, 2))).mean())
        for size in (0, 0.02, 0.1):
            found = [additive(one) for one in moments(maps + size * np.tile(pattern, (16, 16)))]
            each = torch.stack([one.pattern / one.spread for one in found if one])
            by_case = float(np.mean([one.kappa for one in found if one]))
            yield row("additive κ", name, size * seen, each, by_case, shared)
    for name in list(pool)[1:]:
        maps = pool[name]
        coarse = maps.reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4))
        blocks = coarse.repeat(4, axis=1).repeat(4, axis=2)
        for share in (0, 0.1, 1):
            late = [lags(one) for one in moments((1 - share) * maps + share * blocks)]
            each = torch.stack([one for one in late if one is not None])
            by_case = float(np.mean([staircase(one) for one in each]))
            yield row("staircase κ", name, share * (15 / 12) ** 0.5, each, by_case, shared)
    for name in list(pool)[1:]:
        labels = torch.as_tensor(pool[name] > 0.5)
        blocky = labels[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)
        for share in (0, 0.5):
            some = torch.where(torch.rand(len(labels), 1, 1) < share, blocky, labels)
            snapped = torch.tensor([_snapping(one, seed) for seed, one in enumerate(some)])
            truth = float((snapped > 0.99).double().mean())
            by_case = float(snapped.abs().mean())
            yield row("boundary snapping", name, truth, snapped, by_case, _mean_of)
    for name in list(pool)[::2]:
        for gain, size in ((0.3, 0.0), (0.0, 0.1), (0.3, 0.3)):
            other = np.roll(pattern, 1, axis=0)
            found = [spun(m, i, gain * other, size * pattern) for i, m in enumerate(pool[name])]
            energy = 1 + gain**2 + size**2
            locked = torch.stack([one.relative_pattern for one in found])
            moving = torch.tensor([one.residual for one in found])
            what = f"{name}; gain {gain}, pattern {size}"
            by_case = float(np.mean([one.locked for one in found]))
            how = partial(shared, squared=True)
            yield row("locked share", what, size**2 / energy, locked, by_case, how)
            truth = (gain**2 + size**2) / energy
            yield row("cycle-spin", what, truth, moving, float(moving.mean()), _mean_of)


def _mean_of(values: Tensor) -> Estimate:
    return estimate(values.tolist())


def _snapping(labels: Tensor, seed: int) -> float:
    """Of the region that is drawn for the map, with as many faces of each phase."""
    region = Region.drawn((4, 4), labels.shape, labels.shape, seed)
    assert region is not None
    faces = labels[region.within([1, 1], [0, 0])][None]
    found = boundary_snapping(boundary_histograms(faces, (4, 4), [s - 1 for s in region.start]))
    return 0.0 if found is None else found


if __name__ == "__main__":
    torch.set_num_threads(1)
    given = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    reseed()
    for line in itertools.chain(levels(nulls(given), studies=1000), [""], planted(studies=200)):
        print(line, flush=True)
    for table in (levels([STRIDED], studies=1000), sizes(studies=100)):
        reseed()
        print("", *table, sep="\n", flush=True)
