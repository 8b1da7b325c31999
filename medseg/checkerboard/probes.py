"""Probes of a whole network by a few passes: a constant, a gradient, one wave."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.layers import period_of, upsampling_period
from medseg.checkerboard.phases import (
    by_phase,
    phase_means,
    phase_sums,
    require_finite,
    require_logits,
    whole_periods,
)
from medseg.checkerboard.torus import evaluating, fixed_statistics, reach, torus


@torch.no_grad()
def constant_response(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> float | None:
    """Pattern in the response to a constant: `std_φ(mean of phase φ) / std(logits on reference)`.

    The constant is each channel's mean over `reference`. The grid is closed to a torus, so that
    there is no border, and instance and group norms keep the statistics they have on `reference`,
    since a constant has no variance of its own. 0 for every network whose upsamplings have
    imbalance 0.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.

    Returns:
        The largest value over the logits' channels, as a fraction of the logits' spread; None
        for a network without upsampling or with logits that do not vary.

    >>> nails = nn.ConvTranspose1d(1, 1, 2, stride=2, bias=False)
    >>> _ = nails.weight.data.copy_(torch.tensor([[[1.0, 0.0]]]))
    >>> image = torch.tensor([[[1.0, 3.0]]])  # its mean becomes (2, 0), itself (1, 0, 3, 0)
    >>> round(constant_response(nails, image), 6)  # 1 / √2
    0.707107
    """
    period = _period(network, reference, period)
    found = _response(network, reference, period)
    if found is None:
        return None
    response, logits = found
    phases = phase_means(response, period)[:, 0]
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None


@torch.no_grad()
def response_to_constant(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> Float[Tensor, " classes *space"] | None:
    """The logits of a constant, of which `constant_response` is the periodic part, for a picture.

    Args:
        network: Image → logits; left as it was.
        reference: A patch of a real case, in the network's intensities.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.

    Returns:
        Logits on a torus of some periods, on the CPU; None for a network without upsampling.

    >>> nearest = nn.Upsample(scale_factor=2)
    >>> response_to_constant(nearest, torch.tensor([[[1.0, 3.0]]]), (2,)).unique().tolist()
    [2.0]
    """
    found = _response(network, reference, _period(network, reference, period))
    return None if found is None else found[0][0].cpu()


def _period(network: nn.Module, reference: Tensor, period: Sequence[int] | None) -> tuple[int, ...]:
    return upsampling_period(network, reference.ndim - 2) if period is None else tuple(period)


def _response(
    network: nn.Module, reference: Tensor, period: tuple[int, ...]
) -> tuple[Tensor, Tensor] | None:
    """Logits of the constant, and of the reference."""
    if math.prod(period) == 1:
        return None
    with evaluating(network), fixed_statistics(network, reference) as logits, torus(network):
        # the coarsest grid is as long as the longest way around that a layer takes
        cells = max([4, *(reach(m) for m in network.modules())])
        size = [p * math.ceil(cells * max(period) / p) for p in period]
        constant = reference.mean(dim=tuple(range(2, reference.ndim)), keepdim=True)
        return network(constant.expand(-1, -1, *size).contiguous()).double(), logits


def input_gradient_phases(
    network: nn.Module,
    images: Sequence[Float[Tensor, "1 channels *space"]],
    period: Sequence[int] | None = None,
) -> tuple[Float[Tensor, " channels *period"], Float[Tensor, " channels *period"]] | None:
    """`E[g_φ]` and `E[g_φ²]` of `g = ∂ Σ logits / ∂x`: what saliency maps show of the stride grid.

    On the torus, so that no border is seen less often; instance and group norms keep the
    statistics they have on each image, without which the gradient of a sum is 0. Means run over
    all voxels of all images. Of a single strided convolution, `phase_imbalance` of the first is
    `gradient_imbalance`; max pooling leaves no pattern.

    Args:
        network: Image → logits; left as it was.
        images: Cases in the network's intensities, of any sizes, cropped to whole periods.
        period: Voxels per axis after which a pattern repeats, the network's total stride; None:
            `upsampling_period`.

    Returns:
        Both in logits per unit of intensity (the second squared), in double precision on the CPU;
        None for a period of one voxel or logits that do not depend on the images.

    Raises:
        ValueError: no image, one of another shape, smaller than one period or not finite, or a
            gradient that is not finite.

    Reference: Odena, Dumoulin & Olah 2016, Distill, "Deconvolution and Checkerboard Artifacts",
    on artifacts in gradients.

    >>> layer = nn.Conv2d(1, 1, 3, stride=2, padding=1)
    >>> _ = nn.init.ones_(layer.weight)
    >>> mean, _ = input_gradient_phases(layer, [torch.zeros(1, 1, 8, 8)], period=(2, 2))
    >>> mean.tolist()
    [[[1.0, 2.0], [2.0, 4.0]]]
    """
    if not images:
        raise ValueError("no image leaves nothing to look at; give at least one")
    steps = period_of(network, images[0], period)
    if steps is None:
        return None
    cells, first, second = 0, torch.zeros(()), torch.zeros(())
    with evaluating(network), torus(network):
        for image in images:
            period_of(network, image, steps)
            gradient = _gradient(network, whole_periods(image, steps))
            cells += gradient[0].numel() // math.prod(steps)
            first = first + phase_sums(gradient, steps)
            second = second + phase_sums(gradient.square(), steps)
    if not second.any():
        return None
    return by_phase(first / cells, steps), by_phase(second / cells, steps)


def _gradient(network: nn.Module, image: Tensor) -> Tensor:
    """`(channels, *space)`."""
    require_finite(image, "voxels of an image")
    with torch.no_grad(), fixed_statistics(network, image), torch.enable_grad():
        leaf = image.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(network(leaf).sum(), leaf)
    require_finite(gradient, "gradients")
    return gradient[0].cpu().double()


_LEAST_CELLS = 31  # orders up to ±15 are told apart


@dataclass(frozen=True, eq=False)
class ToneResponse:
    """Shares of the energy of a response to waves of frequency ω₀; the five add up to 1.

    Args:
        frequencies: `ω₀` as measured, on the grid of the torus, in radians per voxel.
        content: At ±ω₀, what moves with the image.
        imaging: At ±ω₀ + ω_k, k ≠ 0: replicas of content, among them those of the encoder.
        pattern: At ω_k, k ≠ 0: a pattern that is locked to the grid, of constants or of what a
            network that is not linear makes of the wave.
        harmonics: At hω₀, |h| ≥ 2: a network that is not linear, and no artifact.
        mixed: At hω₀ + ω_k, |h| ≥ 2, k ≠ 0: replicas of harmonics; and harmonics of an order
            above 15, which a rectifier has some 1e-4 of.
    """

    frequencies: Float[Tensor, "points axes"]
    content: Float[Tensor, " points"]
    imaging: Float[Tensor, " points"]
    pattern: Float[Tensor, " points"]
    harmonics: Float[Tensor, " points"]
    mixed: Float[Tensor, " points"]


@torch.no_grad()
def tone_response(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    frequencies: Float[Tensor, "points axes"],
    period: Sequence[int] | None = None,
    amplitude: float | None = None,
) -> ToneResponse | None:
    """`f(mean + a·cos(ω₀·n))` by frequency: `hω₀ + ω_k` for order h and grid frequency ω_k.

    A network of period S responds to a wave at these frequencies only. Linear ones have |h| ≤ 1; an
    upsampling after a subsampling by its stride s has the leakage of its kernel at `s·ω₀`. What
    is neither content nor harmonics is the cycle-spin residual of the wave, and `pattern` what is
    locked of it: this is that residual by frequency. On the torus, with instance and group norms
    as on `reference`. Independent of an affine map of the logits that scales all classes
    alike.

    Args:
        network: Image → logits on the same grid; left as it was.
        reference: A patch of a real case, whose mean the waves are added to.
        frequencies: `ω₀`, in radians per voxel; moved to the closest of the torus.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.
        amplitude: `a` in units of each channel's standard deviation; None: `√2`, waves with the
            energy of the reference.

    Returns:
        Shares by frequency; NaN where the response does not vary; None for a period of one voxel.

    Raises:
        ValueError: frequencies with another number of axes, not finite or on a grid frequency,
            where content and pattern are the same, or a reference or logits that are not finite.

    Reference: Vaidyanathan 1993, "Multirate Systems and Filter Banks", section 4.1 (images of a
    wave after an expander).

    >>> nails = nn.Conv1d(1, 1, 1, stride=2, bias=False), nn.ConvTranspose1d(
    ...     1, 1, 1, stride=2, output_padding=1, bias=False
    ... )
    >>> noise = torch.tensor([[[1.0, -1.0]]])
    >>> found = tone_response(nn.Sequential(*nails), noise, torch.tensor([[0.4]]))
    >>> [round(float(share), 6) for share in (found.content, found.imaging)]
    [0.5, 0.5]
    """
    steps = period_of(network, reference, period)
    if steps is None:
        return None
    require_finite(reference, "voxels of the reference")
    require_finite(frequencies, "frequencies")
    if frequencies.ndim != 2 or frequencies.shape[1] != len(steps):
        raise ValueError(
            f"frequencies of shape {tuple(frequencies.shape)} must be (points, {len(steps)}), "
            "one column per axis; reshape them"
        )
    waves = frequencies.cpu().double()
    cells = _cells(network, waves, steps)
    grid = torch.tensor([c * s for c, s in zip(cells, steps, strict=True)], dtype=torch.float64)
    turns = (waves * grid / (2 * math.pi)).round()
    _require_between_lines(turns, waves, cells)
    with evaluating(network), torus(network), fixed_statistics(network, reference):
        powers = [_power(network, wave) for wave in _waves(reference, turns, grid, amplitude)]
    parts = [
        _shares(p, t.long().tolist(), cells, steps) for p, t in zip(powers, turns, strict=True)
    ]
    return ToneResponse(2 * math.pi * turns / grid, *torch.stack(parts, dim=1))


def _cells(network: nn.Module, waves: Tensor, period: Sequence[int]) -> list[int]:
    """Cells per axis: a prime number, so that a wave and its harmonics are no replicas."""
    around = max([4, *(reach(m) for m in network.modules())]) * max(period)
    return [
        _prime(max(_LEAST_CELLS, -(-around // p))) if wave.any() else -(-around // p)
        for wave, p in zip(waves.T, period, strict=True)
    ]


def _prime(least: int) -> int:
    while any(least % d == 0 for d in range(2, math.isqrt(least) + 1)):
        least += 1
    return least


def _require_between_lines(turns: Tensor, waves: Tensor, cells: Sequence[int]) -> None:
    on_line = (turns % torch.tensor(cells) == 0).all(dim=1)
    if on_line.any():
        where = [round(w, 6) for w in waves[int(on_line.nonzero()[0, 0])].tolist()]
        raise ValueError(
            f"frequency {where} is a multiple of 2π/period on this torus, where content cannot be "
            "told from a pattern; choose one between them"
        )


def _waves(
    reference: Tensor, turns: Tensor, grid: Tensor, amplitude: float | None
) -> Iterator[Tensor]:
    axes = tuple(range(2, reference.ndim))
    std, mean = torch.std_mean(reference, dim=axes, correction=0, keepdim=True)
    size = math.sqrt(2) if amplitude is None else amplitude
    places = torch.meshgrid(*(torch.arange(int(n)).double() for n in grid), indexing="ij")
    for turn in turns:
        angle = sum(2 * math.pi * t / n * at for t, n, at in zip(turn, grid, places, strict=True))
        yield mean + size * std * torch.cos(torch.as_tensor(angle)).to(std)


def _power(network: nn.Module, wave: Tensor) -> Tensor:
    """Energy by frequency, summed over classes; that of the mean is 0."""
    logits = network(wave)
    require_logits(logits, wave)
    require_finite(logits, "logits")
    logits = logits[0].cpu().double()
    axes = tuple(range(1, logits.ndim))
    logits = logits - logits.mean(dim=axes, keepdim=True)
    return torch.fft.fftn(logits, dim=axes).abs().square().sum(dim=0)


def _shares(
    power: Tensor, turns: Sequence[int], cells: Sequence[int], period: Sequence[int]
) -> Tensor:
    """Shares of content, imaging, pattern, harmonics and mixtures."""
    highest = min(c // 2 for t, c in zip(turns, cells, strict=True) if t % c)
    orders = [h for h in range(-highest, highest + 1) if abs(h) > 1]
    content = 2 * _at(power, turns)
    imaging = 2 * power[_replicas_of(turns, cells, period)].sum() - content
    pattern = power[_replicas_of([0] * len(cells), cells, period)].sum()
    harmonics = sum((_at(power, [h * t for t in turns]) for h in orders), power.new_zeros(()))
    mixed = power.sum() - content - imaging - pattern - harmonics
    parts = torch.stack([content, imaging, pattern, harmonics, mixed]) / power.sum()
    return parts.clamp(0, 1)


def _at(power: Tensor, turns: Sequence[int]) -> Tensor:
    return power[tuple(t % n for t, n in zip(turns, power.shape, strict=True))]


def _replicas_of(
    turns: Sequence[int], cells: Sequence[int], period: Sequence[int]
) -> tuple[Tensor, ...]:
    """Indices of `ω₀ + ω_k` for all k, an array of the period's shape."""
    lines = [
        (t + c * torch.arange(s)) % (c * s) for t, c, s in zip(turns, cells, period, strict=True)
    ]
    return torch.meshgrid(*lines, indexing="ij")
