"""Figures and the table of measures of docs/checkerboard.md and docs/checkerboard-details.md.

`python docs/checkerboard.py` writes docs/checkerboard/<name>.png for every method of `Pictures`,
from synthetic images with fixed seeds, and the table of all measures into the page.
"""

import math
import re
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from medseg.checkerboard import MEASURES
from medseg.checkerboard.cohort import phase_lock_test
from medseg.checkerboard.convolutions import composed_kernel, coverage, gridding_imbalance
from medseg.checkerboard.figure_data import axis_spectra
from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    kernel_gains,
    overlap_imbalance,
    tap_counts,
)
from medseg.checkerboard.moments import PhaseMoments, phase_moments
from medseg.checkerboard.phases import trapezoid
from medseg.checkerboard.probes import cycle_spin_residual
from medseg.checkerboard.seasonal import additive, gain, lags, staircase
from medseg.metrics import dice
from medseg.plotting import AMOUNT, line_style, new_figure, save, styled
from medseg.record import PhaseMap
from medseg.record.checkerboard import FigureData
from medseg.report.figures.checkerboard import cycle_spin_overlay, phase_maps, spectra

FOLDER = Path(__file__).with_suffix("")
PAGE = Path(__file__).with_suffix(".md")
TABLE = re.compile(r"(?<=<!-- measures -->\n).*?(?=<!-- end of measures -->)", flags=re.DOTALL)
LINEAR = torch.tensor([0.25, 0.75, 0.75, 0.25])


def maps(heading, images):
    figure = new_figure(1.9)
    figure.suptitle(heading, x=0.02, ha="left")
    for axes, (title, image) in zip(figure.subplots(1, len(images)), images.items(), strict=True):
        axes.imshow(np.asarray(image), cmap=AMOUNT, interpolation="none", vmin=0)
        axes.set(xticks=[], yticks=[])
        axes.set_title(title, fontsize=7.5)
    return figure


def plot(heading, across, up, curves):
    figure = new_figure(2.9)
    figure.suptitle(heading, x=0.02, ha="left")
    axes = figure.add_subplot()
    for place, (name, (x, y)) in enumerate(curves.items()):
        axes.plot(x, y, label=name, **line_style(place))
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 1), ncols=4, columnspacing=0.9)
    axes.set(xlabel=across, ylabel=up)
    return figure


def smooth(*size, sigma=6.0):
    waves = torch.meshgrid(*(2 * math.pi * torch.fft.fftfreq(n) for n in size), indexing="ij")
    passed = torch.exp(-(sigma**2) * sum(w.square() for w in waves) / 2)
    field = torch.fft.ifftn(torch.fft.fftn(torch.randn(size)) * passed).real
    return (field - field.mean()) / field.std()


def decoder(*kernels):
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
            title = f"kernel {k}\nA = {overlap_imbalance((k, k), (2, 2)):.3g}"
            images[title] = tap_counts((k, k), (2, 2)).reshape(2, 2).tile(4, 4)
        return maps("How many taps meet in each voxel, stride 2 × 2", images)

    def dc_gain(self):
        linear, random = torch.outer(LINEAR, LINEAR)[None, None], torch.randn(16, 16, 4, 4)
        layers = {"ones of 3": torch.ones(1, 1, 3, 3), "random of 4": random, "linear": linear}
        images = {}
        for name, kernel in layers.items():
            gains = kernel_gains(kernel, (2, 2))
            title = f"{name}\nA = {dc_gain_imbalance(gains):.2g}"
            images[title] = gains[:, 0, 0].abs().reshape(2, 2).tile(4, 4)
        return maps("DC gain of each phase (of one pair of channels), stride 2 × 2", images)

    def gridding(self):
        images = {}
        for rates in ((1, 2, 5), (1, 2, 9), (2, 2, 2), (2, 4, 8)):
            seen = composed_kernel([torch.ones(3, 3)] * 3, [(rate, rate) for rate in rates])
            title = f"dilations {rates}\ncoverage {coverage(seen):.2f}\n"
            images[title + f"A = {gridding_imbalance(seen, (2, 2)):.2g}"] = seen**0.25
        return maps("What one output sees, fourth root of its taps", images)

    def cycle_spin(self):
        image, network = disc(20) + 0.1 * smooth(64, 64, sigma=1.5), decoder(5)
        found = cycle_spin_residual(network, image[None, None])
        logits = network(image[None, None])[0, 0].detach()
        slices = (image, found.deviation[0], logits > 0.5, disc(20) > 0.5)
        names = ("image", "deviation", "prediction", "truth")
        arrays = (values.double().numpy() for values in slices)
        return cycle_spin_overlay(FigureData(**dict(zip(names, arrays, strict=True))))

    def gain(self):
        field = functional.conv_transpose2d(smooth(1, 1, 96, 96), torch.ones(1, 1, 3, 3), stride=2)
        found = gain(phase_moments(field[0, 0], (2, 2)))
        gains = [1 + float(value) for value in found.beta.flatten()]
        return phase_maps([(1, "ones of 3, stride 2 × 2", PhaseMap(period=[2, 2], values=gains))])

    def staircase(self):
        fine = smooth(200, sigma=10).repeat_interleave(4)
        mean, curves = trapezoid(fine, (4,)), {}
        slope, rest = (mean[2:] - mean[:-2]) / 2, fine[3:-3] - mean[1:-1]
        for phase in range(4):
            own = slice((phase - 3) % 4, None, 4)
            order = slope[own].argsort()
            curves[f"phase {phase}"] = (slope[own][order], rest[own][order])
        late = staircase(lags(phase_moments(fine, (4,))))
        heading = f"Nearest, stride 4: residual against slope, κ = {late:.3f}"
        return plot(heading, "slope of T z, logit per voxel", "residual, logit", curves)

    def spectrum(self):
        contents = [smooth(1, 1, 132, 132, sigma=1) for _ in range(8)]
        logits = torch.cat([decoder(3, 3)(1 + 0.2 * content)[0] for content in contents]).detach()
        logits = logits + 0.1 * torch.randn(logits.shape)
        return spectra([(1, "two kernels of 3, stride 2", axis_spectra(logits, (4, 4)))])

    def decision(self):
        rows, network = [], decoder(5)
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
            cases = [phase_moments(smooth(48, 48, sigma=1) + s, (2, 2)) for s in stripes]
            pooled = PhaseMoments((2, 2), sum(case.gram for case in cases))
            share, voxels = additive(pooled).eta_squared, float(pooled.gram[:, 0, 0].sum())
            naive = stats.f.sf(share / 3 / ((1 - share) / (voxels - 4)), 3, voxels - 4)
            found.append([naive, phase_lock_test(cases, permutations=199).p_value])
        ranks = torch.arange(1, 81) / 80
        voxel, case = torch.tensor(found).sort(dim=0).values.T
        curves = {"voxels as units": (voxel, ranks), "cases as units": (case, ranks)}
        curves["p as it should be"] = (ranks, ranks)
        return plot("80 studies without an artifact", "p", "share with p or less", curves)


NAMES = tuple(name for name in vars(Pictures) if not name.startswith("_"))


@styled()
def drawn(name):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return getattr(Pictures(), name)()


def measure_table():
    lines = ["| measure | of | unit | meaning |", "| --- | --- | --- | --- |"]
    for entry in MEASURES:
        title = f"**{entry.title}**" if entry.headline else entry.title
        of = ", ".join(each.replace("_", "-") for each in entry.of)
        lines.append(f"| {title} | {of} | {entry.unit or '–'} | {entry.meaning} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(TABLE.sub(lambda _: measure_table(), PAGE.read_text("utf-8")), "utf-8")
    FOLDER.mkdir(exist_ok=True)
    for name in NAMES:
        save(drawn(name), FOLDER / f"{name}.png")
