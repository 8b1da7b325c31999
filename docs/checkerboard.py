"""The pictures of docs/checkerboard.md, each drawn from calls of medseg.checkerboard.

`python docs/checkerboard.py` writes docs/checkerboard/<name>.png for every method of `Pictures`,
from made-up images with fixed seeds, in half a minute.
"""

import io
import math
from pathlib import Path

import torch
from matplotlib import rc_context
from PIL import Image
from scipy import stats
from torch import nn
from torch.nn import functional

from medseg import checkerboard as cb
from medseg.metrics import dice
from medseg.report.artifacts import figures
from medseg.report.artifacts.figures.style import AMOUNT, SERIES, STYLE, array, page

FOLDER = Path(__file__).with_suffix("")
LINEAR = torch.tensor([0.25, 0.75, 0.75, 0.25])
EVEN = {"nearest": torch.ones(2), "½, 1, ½": torch.tensor([0.5, 1.0, 0.5]), "linear": LINEAR}
KERNELS = {"bed of nails": torch.ones(1), "ones of 3": torch.ones(3), **EVEN}


def maps(heading, images):
    figure = page(1.8, heading)
    for axes, (title, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        axes.imshow(array(image), cmap=AMOUNT, interpolation="none", vmin=0)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=7.5)
    return figure


def plot(heading, across, up, curves):
    figure = page(2.9, heading)
    axes = figure.add_subplot()
    for (colour, dash, marker), (name, (x, y)) in zip(SERIES, curves.items(), strict=False):
        look = {"color": colour, "ls": dash, "marker": marker, "ms": 3.5}
        axes.plot(x, y, label=name, markevery=max(1, len(x) // 12), **look)
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, columnspacing=0.9)
    tidied(axes).set(xlabel=across, ylabel=up)
    return figure


def tidied(axes):
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def smooth(*size, sigma=6.0):
    waves = torch.meshgrid(*(2 * math.pi * torch.fft.fftfreq(n) for n in size), indexing="ij")
    passed = torch.exp(-(sigma**2) * sum(w.square() for w in waves) / 2)
    field = torch.fft.ifftn(torch.fft.fftn(torch.randn(size)) * passed).real
    return (field - field.mean()) / field.std()


def upsampled(signal, taps):
    return functional.conv_transpose1d(signal[None, None], taps[None, None], stride=2)[0, 0]


def printing(*kernels):
    ups = [nn.ConvTranspose2d(1, 1, k, 2, k // 2, output_padding=1, bias=False) for k in kernels]
    for layer, k in zip(ups, kernels, strict=True):
        nn.init.constant_(layer.weight, 4 / k**2)
    return nn.Sequential(nn.AvgPool2d(2 ** len(ups)), *ups)


def disc(radius):
    away = torch.arange(64) - 32
    return torch.sigmoid((radius - (away[:, None].square() + 2 * away.square()).sqrt()) / 3)


def cycle_spun(network, image, step):
    shifts = ((0, 0), (0, step), (step, 0), (step, step))
    return sum(network(image.roll(d, (2, 3))).roll((-d[0], -d[1]), (2, 3)) for d in shifts) / 4


class Pictures:
    """Each method draws the picture of its name."""

    def overlap(self):
        images = {}
        for k in (2, 3, 4, 5):
            title = f"kernel {k}\nA = {cb.overlap_imbalance((k, k), (2, 2)):.3g}"
            images[title] = cb.tap_counts((k, k), (2, 2)).reshape(2, 2).tile(4, 4)
        return maps("How many taps meet in each voxel, stride 2 × 2", images)

    def dc_gain(self):
        linear, random = torch.outer(LINEAR, LINEAR)[None, None], torch.randn(16, 16, 4, 4)
        layers = {"ones of 3": torch.ones(1, 1, 3, 3), "random of 4": random, "linear": linear}
        rows = ((n, k, cb.dc_gain_imbalance(cb.kernel_gains(k, (2, 2)))) for n, k in layers.items())
        return figures.kernel_sheet([(f"{n}: A = {a:.2g}", k, (2, 2)) for n, k, a in rows])

    def noise_gain(self):
        curves = {}
        for name, taps in EVEN.items():
            noise = torch.stack([upsampled(x, taps) for x in torch.randn(4000, 16)])
            imbalance = cb.noise_gain_imbalance(taps[None, None], (2,))
            curves[f"{name}: A = {imbalance:.2g}"] = (torch.arange(12), noise.std(dim=0)[8:20])
        return plot("White noise after upsampling", "voxel", "standard deviation", curves)

    def imaging(self):
        waves = torch.linspace(0, math.pi, 61, dtype=torch.float64)[:-1, None]
        shares = {n: cb.imaging_spectrum(k[None, None], (2,), waves) for n, k in KERNELS.items()}
        return figures.two_tone(waves[:, 0], {name: s / (1 - s) for name, s in shares.items()})

    def sum_rules(self):
        figure = page(4.3, "Residual y − T y of upsampled polynomials, stride 2")
        grid = figure.subplots(len(KERNELS), 3, sharex=True)
        for row, (name, taps) in zip(grid, KERNELS.items(), strict=True):
            order = cb.sum_rule_order(taps[None, None], (2,))
            row[0].set_ylabel(f"{name}\nL = {order}", fontsize=7)
            for degree, axes in enumerate(row):
                fine = upsampled((torch.arange(16.0) - 7.5) ** degree, taps)[4:-4]
                rest = fine[1:-1] - cb.trapezoid(fine, (2,))
                tidied(axes).plot(rest, color=SERIES[0][0], marker="o", ms=2, lw=0.8)
                top = 1.1 * max(0.5, float(rest.abs().max()))
                axes.set(ylim=(-top, top), xticks=[])
                axes.tick_params(labelsize=6)
        for axes, title in zip(grid[0], ("constant", "ramp", "parabola"), strict=True):
            axes.set_title(title)
        return figure

    def backward(self):
        images = {}
        for kernel in (1, 2, 3, 4):
            layer, image = nn.Conv2d(1, 1, kernel, 2), torch.zeros(1, 1, 16, 16, requires_grad=True)
            nn.init.ones_(layer.weight)
            (gradient,) = torch.autograd.grad(layer(image).sum(), image)
            title = f"kernel {kernel}\nA = {cb.gradient_imbalance(layer):.3g}"
            images[title] = gradient[0, 0, 4:-4, 4:-4]
        return maps("Gradient of the sum of a strided convolution's outputs", images)

    def gridding(self):
        images = {}
        for rates in ((1, 2, 5), (1, 2, 9), (2, 2, 2), (2, 4, 8)):
            seen = cb.composed_kernel([torch.ones(3, 3)] * 3, [(rate, rate) for rate in rates])
            title = f"dilations {rates}\ncoverage {cb.coverage(seen):.2f}\n"
            images[title + f"A = {cb.gridding_imbalance(seen, (2, 2)):.2g}"] = seen**0.25
        return maps("What one output sees, fourth root of its taps", images)

    def constant(self):
        network, image = printing(3, 3), 1 + 0.5 * smooth(1, 1, 64, 64)
        return figures.constant_response(cb.response_to_constant(network, image)[0], (4, 4))

    def cycle_spin(self):
        image, network = disc(20) + 0.1 * smooth(64, 64, sigma=1.5), printing(5)
        found = cb.cycle_spin_residual(network, image[None, None])
        logits = network(image[None, None])[0, 0].detach()
        return figures.residual_overlay(image, found.deviation[0], disc(20) > 0.5, logits > 0.5)

    def input_gradient(self):
        layers = nn.Conv2d(1, 8, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, 2, padding=1)
        images = [smooth(1, 1, 64, 64, sigma=2) for _ in range(4)]
        found = cb.input_gradient_phases(nn.Sequential(*layers), images, period=(4, 4))
        return figures.gradient_table(found.mean[0], found.energy[0], (4, 4))

    def waves(self):
        network, image = nn.Sequential(*printing(3), nn.ReLU()), 0.7 + smooth(1, 1, 64, 64)
        tones = functional.pad(torch.linspace(0.15, 1.5, 28)[:, None], (0, 1))
        found = cb.tone_response(network, image, tones)
        shares = ("content", "imaging", "printed", "harmonics", "mixed")
        curves = {name: (found.frequencies[:, 0], getattr(found, name)) for name in shares}
        return plot("A wave, ones of 3, a rectifier", "radians per voxel", "share", curves)

    def operator(self):
        pool, unpool = nn.MaxPool2d(2, return_indices=True), nn.MaxUnpool2d(2)
        corners = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        alternating = (-1.0) ** torch.arange(16)[:, None].expand(1, 1, 16, 16)
        images = {
            "max-unpool\nof a constant": unpool(*pool(torch.ones(1, 1, 16, 16)))[0, 0],
            "max-unpool\nof noise": unpool(*pool(torch.rand(1, 1, 16, 16)))[0, 0],
            "aligned corners:\n|answer| to ±1 by rows": corners(alternating).abs()[0, 0],
        }
        return maps("Three answers of operators without a kernel", images)

    def trapezoid(self):
        impulse, turns = torch.zeros(264), torch.linspace(0, 0.5, 129)
        impulse[132] = 1
        answers = {s: torch.fft.rfft(cb.trapezoid(impulse, (s,))[:256]).abs() for s in (2, 3, 4)}
        responses = {f"s = {s}": (turns, response) for s, response in answers.items()}
        return plot("Response of the trapezoid", "cycles per voxel", "gain", responses)

    def additive(self):
        texture = torch.randn(128, 128)
        texture = texture / (texture[1:-1, 1:-1] - cb.trapezoid(texture, (2, 2))).std()
        sign = (-1.0) ** (torch.arange(128)[:, None] + torch.arange(128))
        rs = torch.linspace(0, 1.5, 16)
        found = [cb.additive(cb.phase_moments(texture + r * sign, (2, 2))).eta_squared for r in rs]
        curves = {"r² / (1 + r²)": (rs, rs**2 / (1 + rs**2)), "measured": (rs, found)}
        return plot("Share of an injected pattern", "RMS of pattern / RMS of texture", "η²", curves)

    def gain(self):
        field = functional.conv_transpose2d(smooth(1, 1, 96, 96), torch.ones(1, 1, 3, 3), stride=2)
        found = cb.gain(cb.phase_moments(field[0, 0], (2, 2)))
        return figures.phase_heat_map(found.alpha, found.beta, (2, 2))

    def staircase(self):
        fine = smooth(200, sigma=10).repeat_interleave(4)
        mean, curves = cb.trapezoid(fine, (4,)), {}
        slope, rest = (mean[2:] - mean[:-2]) / 2, fine[3:-3] - mean[1:-1]
        for phase in range(4):
            own = slice((phase - 3) % 4, None, 4)
            order = slope[own].argsort()
            curves[f"phase {phase}"] = (slope[own][order], rest[own][order])
        (late,) = cb.staircase(cb.phase_moments(fine, (4,)))
        heading = f"Nearest, stride 4: residual against slope, κ = {late:.3f}"
        return plot(heading, "slope of T z, logit per voxel", "residual, logit", curves)

    def lattice_line(self):
        contents = [smooth(1, 1, 132, 132, sigma=1) for _ in range(8)]
        logits = torch.cat([printing(3, 3)(1 + 0.2 * content)[0] for content in contents]).detach()
        logits = logits + 0.1 * torch.randn(logits.shape)
        return figures.spectrum(cb.residual_spectrum(logits, (4, 4)), (4, 4))

    def coherence(self):
        counts, pattern = torch.arange(2, 33, 2), torch.tensor([1.0, -1, -1, 1]).reshape(2, 2)
        curves = {"1 / n": (counts, 1 / counts)}
        for name, r in (("noise alone", 0.0), ("+ pattern, RMS ½", 0.5), ("RMS 2", 2.0)):
            cases = (torch.randn(99, n, 2, 2) + r * pattern for n in counts)
            draws = torch.tensor([[cb.coherence(draw) for draw in each] for each in cases])
            curves[name] = (counts, draws.mean(dim=1))
        return plot("How far n cases agree", "cases", "coherence", curves)

    def cracks(self):
        truth = torch.stack([smooth(64, 64, sigma=8) > 0.3 for _ in range(6)])
        blocky = truth[:, ::4, ::4].repeat_interleave(4, 1).repeat_interleave(4, 2)
        counts = [sum(cb.crack_histograms(m, (4, 4))[0] for m in maps) for maps in (blocky, truth)]
        return figures.crack_histogram(counts[:1], counts[1:], ["axis 0"])

    def errors(self):
        images, truth = {}, torch.stack([smooth(512, 512, sigma=10) for _ in range(2)])
        ups = {"nearest": nn.Upsample(scale_factor=4), "ones of 3, twice": printing(3, 3)[1:],
               "linear": nn.Upsample(scale_factor=4, mode="bilinear")}  # fmt: skip
        for name, up in ups.items():
            found = up(functional.avg_pool2d(truth, 4)[:, None])[:, 0] > 0.5
            rates = cb.error_rates(found, truth > 0.5, (1, 4, 4))[0]
            images[f"{name}\n{100 * rates.mean():.1f} % wrong"] = rates
        return maps("Share of wrong voxels by phase, each on its own scale", images)

    def decision(self):
        rows, network = [], printing(5)
        for radius in range(10, 28, 2):
            image = disc(radius)[None, None]
            logits = (cycle_spun(network, image, step) for step in (0, 1, 2))
            rows.append([dice(logit > 0.5, image > 0.5) for logit in logits])
        single, *others = torch.tensor(rows).T
        names = ("cycle-spun", "control, whole periods")
        curves = {n: (range(10, 28, 2), z - single) for n, z in zip(names, others, strict=True)}
        return plot("Dice minus that of one prediction", "radius, voxels", "difference", curves)

    def permutation(self):
        found = []
        for _ in range(80):
            phases = torch.randint(2, (10,))
            stripes = [0.3 * (-1.0) ** (torch.arange(48) + p)[:, None] for p in phases]
            cases = [cb.phase_moments(smooth(48, 48, sigma=1) + s, (2, 2)) for s in stripes]
            pooled = sum(cases[1:], start=cases[0])
            share, voxels = cb.additive(pooled).eta_squared, float(pooled.gram[:, 0, 0].sum())
            naive = stats.f.sf(share / 3 / ((1 - share) / (voxels - 4)), 3, voxels - 4)
            found.append([naive, cb.phase_lock_test(cases, permutations=199).p_value])
        ranks = torch.arange(1, 81) / 80
        voxel, case = torch.tensor(found).sort(dim=0).values.T
        curves = {"voxels as units": (voxel, ranks), "cases as units": (case, ranks)}
        curves["p as promised"] = (ranks, ranks)
        return plot("80 studies without an artifact", "p", "share with p or less", curves)

    def intervals(self):
        values = 0.03 + 0.01 * torch.randn(20) + 0.004 * (torch.randn(3, 1) + torch.randn(3, 20))
        rows = {f"seed {i}": (v.mean(), cb.confidence_interval(v)) for i, v in enumerate(values)}
        rows["seeds and cases"] = (values.mean(), cb.hierarchical_interval(values))
        figure = page(1.9, "One arm, 20 cases: mean and 95 % interval")
        axes = tidied(figure.add_subplot())
        for place, (mean, (low, high)) in enumerate(rows.values()):
            axes.plot((low, mean, high), [place] * 3, color=SERIES[0][0], marker="o", markevery=[1])
        axes.set_yticks(range(len(rows)), list(rows))
        axes.set(xlabel="gain κ", ylim=(len(rows) - 0.5, -0.5))
        return figure


NAMES = tuple(name for name in vars(Pictures) if not name.startswith("_"))


def drawn(name):
    with torch.random.fork_rng([]), rc_context(STYLE):
        torch.manual_seed(0)
        return getattr(Pictures(), name)()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        image = Image.open(io.BytesIO(figures.png(drawn(name)))).convert("RGB")
        image.quantize(255, kmeans=3).save(FOLDER / f"{name}.png", optimize=True)
