"""What a network makes of one wave: content, replicas, a printed pattern, harmonics.

A second tone would add nothing: on a torus whose cells are a prime number, the orders of a single
one already fall on different frequencies.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.network.probing import evaluating, period_of, require_logits
from medseg.checkerboard.phases import require_finite
from medseg.checkerboard.torus import fixed_statistics, reach, torus

_LEAST_CELLS = 31  # orders up to ±15 are told apart


@dataclass(frozen=True, eq=False)
class ToneResponse:
    """Shares of the energy of a response to waves of frequency ω₀; the five add up to 1.

    Args:
        frequencies: `ω₀` as measured, on the grid of the torus, in radians per voxel.
        content: At ±ω₀, what moves with the image.
        imaging: At ±ω₀ + ω_k, k ≠ 0: replicas of content, among them those of the encoder.
        printed: At ω_k, k ≠ 0: a pattern that is locked to the grid, of constants or of what a
            network that is not linear makes of the wave.
        harmonics: At hω₀, |h| ≥ 2: a network that is not linear, and no artifact.
        mixed: At hω₀ + ω_k, |h| ≥ 2, k ≠ 0: replicas of harmonics; and harmonics of an order
            above 15, which a rectifier has some 1e-4 of.
        replicas: At ω₀ + ω_k relative to all k together; `[…, 0, 0]` is the content.
    """

    frequencies: Float[Tensor, "points axes"]
    content: Float[Tensor, " points"]
    imaging: Float[Tensor, " points"]
    printed: Float[Tensor, " points"]
    harmonics: Float[Tensor, " points"]
    mixed: Float[Tensor, " points"]
    replicas: Float[Tensor, " points *period"]

    @property
    def leakage(self) -> Float[Tensor, " points"]:
        """`L(ω) = Σ_{k≠0} E(ω₀ + ω_k) / Σ_k E(ω₀ + ω_k)`, the `imaging_spectrum` of a network."""
        return self.imaging / (self.imaging + self.content)


@torch.no_grad()
def tone_response(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    frequencies: Float[Tensor, "points axes"],
    period: Sequence[int] | None = None,
    amplitude: float | None = None,
) -> ToneResponse | None:
    """`f(mean + a·cos(ω₀·n))` by frequency: `hω₀ + ω_k` for order h and lattice frequency ω_k.

    A network of period S answers a wave at these frequencies only. Linear ones have |h| ≤ 1; an
    upsampling after a subsampling by its stride s has the leakage `imaging_spectrum(s·ω₀)`. What
    is neither content nor harmonics is the cycle-spin residual of the wave, and `printed` what is
    locked of it: this is that residual by frequency. On the torus, with instance and group norms
    as they are on `reference`. Independent of an affine map of the logits that scales all classes
    alike.

    Args:
        network: Image → logits on the same grid; left as it was.
        reference: A patch of a real case, whose mean the waves are added to.
        frequencies: `ω₀`, in radians per voxel; moved to the closest of the torus.
        period: Voxels per axis after which a pattern repeats; None: `lattice_period`.
        amplitude: `a` in units of each channel's standard deviation; None: `√2`, waves with the
            energy of the reference.

    Returns:
        Shares by frequency; NaN where the response does not vary; None for a period of one voxel.

    Raises:
        ValueError: frequencies with another number of axes, not finite or on the lattice, where
            content and pattern are the same, or a reference or logits that are not finite.

    Reference: Vaidyanathan 1993, "Multirate Systems and Filter Banks", section 4.1 (images of a
    wave after an expander).

    >>> nails = nn.Conv1d(1, 1, 1, stride=2, bias=False), nn.ConvTranspose1d(
    ...     1, 1, 1, stride=2, output_padding=1, bias=False
    ... )
    >>> noise = torch.tensor([[[1.0, -1.0]]])
    >>> round(float(tone_response(nn.Sequential(*nails), noise, torch.tensor([[0.4]])).leakage), 6)
    0.5
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
    _require_off_lattice(turns, waves, cells)
    with evaluating(network), torus(network), fixed_statistics(network, reference):
        powers = [_power(network, wave) for wave in _waves(reference, turns, grid, amplitude)]
    parts = [
        _shares(p, t.long().tolist(), cells, steps) for p, t in zip(powers, turns, strict=True)
    ]
    columns = [torch.stack(column) for column in zip(*parts, strict=True)]
    return ToneResponse(2 * math.pi * turns / grid, *columns)


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


def _require_off_lattice(turns: Tensor, waves: Tensor, cells: Sequence[int]) -> None:
    on_lattice = (turns % torch.tensor(cells) == 0).all(dim=1)
    if on_lattice.any():
        where = [round(w, 6) for w in waves[int(on_lattice.nonzero()[0, 0])].tolist()]
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
) -> tuple[Tensor, ...]:
    """Shares of content, imaging, print, harmonics and mixtures; replicas by k."""
    highest = min(c // 2 for t, c in zip(turns, cells, strict=True) if t % c)
    orders = [h for h in range(-highest, highest + 1) if abs(h) > 1]
    content = 2 * _at(power, turns)
    around = power[_replicas_of(turns, cells, period)]
    imaging = 2 * around.sum() - content
    printed = power[_replicas_of([0] * len(cells), cells, period)].sum()
    harmonics = sum((_at(power, [h * t for t in turns]) for h in orders), power.new_zeros(()))
    mixed = power.sum() - content - imaging - printed - harmonics
    parts = torch.stack([content, imaging, printed, harmonics, mixed]) / power.sum()
    return *parts.clamp(0, 1), around / around.sum()


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
