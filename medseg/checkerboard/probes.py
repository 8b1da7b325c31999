"""Probes of a whole network: the response to a constant, and what does not move with the image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medseg.checkerboard.layers import upsampling_period
from medseg.checkerboard.phases import phase_means, require_finite
from medseg.checkerboard.torus import evaluating, fixed_statistics, reach, torus

_ROUNDING = 1e-9
_Shift = tuple[int, ...]


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
    steps = _period(network, reference, period)
    found = response_to_constant(network, reference, steps)
    if found is None or steps is None:
        return None
    response, logits = found
    phases = phase_means(response, steps)[:, 0]
    spread = logits.double().std()
    return float(phases.std(dim=0, correction=0).max() / spread) if spread > 0 else None


@torch.no_grad()
def response_to_constant(
    network: nn.Module,
    reference: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
) -> tuple[Float[Tensor, "1 classes *torus"], Float[Tensor, "1 classes *space"]] | None:
    """Logits of a constant on a torus of some periods, and those of the reference.

    Arguments are those of `constant_response`. None for a network without upsampling.

    >>> nearest = nn.Upsample(scale_factor=2)
    >>> response_to_constant(nearest, torch.tensor([[[1.0, 3.0]]]), (2,))[0].unique().tolist()
    [2.0]
    """
    steps = _period(network, reference, period)
    if steps is None:
        return None
    with evaluating(network), fixed_statistics(network, reference) as logits, torus(network):
        # the coarsest grid is as long as the longest way around that a layer takes
        cells = max([4, *(reach(m) for m in network.modules())])
        size = [p * math.ceil(cells * max(steps) / p) for p in steps]
        constant = reference.mean(dim=tuple(range(2, reference.ndim)), keepdim=True)
        return network(constant.expand(-1, -1, *size).contiguous()).double(), logits


@dataclass(frozen=True, eq=False)
class CycleSpin:
    """How logits change while their image moves over the network's grid.

    Args:
        residual: `PLF`, the share of the logits' energy that does not move with the image.
        locked: The share of `pattern`, the same for every image that has the same features.
            Content leaves a little in it, the less the more cells and shifts there are.
        self_test: The residual of a shift by one whole period along every axis: 0 up to
            rounding for a network whose period this is and that the torus leaves no border.
        pattern: Mean residual by phase of the network's grid, in logits; `[c, 0, …]` is what
            stands at its first voxel. Its mean is 0.
        relative_pattern: The same, scaled so that its mean square is `locked`.
        deviation: Root mean square over all shifts of the residual at each voxel, in logits.
    """

    residual: float
    locked: float
    self_test: float
    pattern: Float[Tensor, " classes *period"]
    relative_pattern: Float[Tensor, " classes *period"]
    deviation: Float[Tensor, " classes *space"]


@torch.no_grad()
def cycle_spin_residual(
    network: nn.Module,
    image: Float[Tensor, "1 channels *space"],
    period: Sequence[int] | None = None,
    shifts: int = 8,
    seed: int = 0,
) -> CycleSpin | None:
    """`PLF = E_δ ‖y_δ − ȳ‖² / (E_δ ‖y_δ − ȳ‖² + Var ȳ)`, `y_δ = T_{−δ} f(T_δ x)`, in [0, 1].

    Anatomy and texture move with the image, what is locked to the grid does not, so only that is
    left: 0 iff f commutes with all shifts. The grid is closed to a torus: over a border, new
    content would enter with every shift and change the statistics of norms. ȳ is the mean over
    the P shifts δ of one period, Var the variance over voxels, energies are summed over classes.

    Of K < P shifts, drawn without replacement, numerator and denominator are unbiased:
    `(1 − 1/P) Σ‖y_i − ȳ‖² / (K − 1)` over the variance of all `y_i` about their common mean, or
    over itself if that is less. Draw for each case anew: their error is then in the interval. The
    pattern L is the least-squares one of `y_δ[n] = c[n] + L[(n + δ) mod S]`; frequencies that the
    shifts drawn cannot tell from content count as 0 in it.

    Of a linear network, PLF is the share of replicas in the energy of its response; where the
    features vary slowly about 0 it is the DC-gain imbalance of the last upsampling. Independent
    of an affine map of the logits that scales all classes alike. Aliasing of the encoder counts.

    Args:
        network: Image → logits on the same grid; left as it was.
        image: A case in the network's intensities, cropped to whole periods at the far end.
        period: Voxels per axis after which a pattern repeats; None: `upsampling_period`.
        shifts: K, at least 2; all P if there are no more.
        seed: Of the draw; torch's own generator is left alone.

    Returns:
        What was measured, in double precision on the CPU; None for a period of one voxel or
        logits that do not vary.

    Raises:
        ValueError: fewer than 2 shifts, an image smaller than one period or not finite, or logits
            on another grid or not finite.

    Reference: Coifman & Donoho 1995, "Translation-Invariant De-Noising" (cycle spinning); Karras
    et al. 2021, "Alias-Free Generative Adversarial Networks", appendix E (EQ-T).

    >>> nails = nn.Conv1d(1, 1, 1, stride=2, bias=False), nn.ConvTranspose1d(
    ...     1, 1, 1, stride=2, output_padding=1, bias=False
    ... )
    >>> wave = torch.tensor([[[3.0, 1, -3, -1]]])
    >>> round(cycle_spin_residual(nn.Sequential(*nails), wave).residual, 6)
    0.5
    """
    steps = _period(network, image, period)
    if shifts < 2:
        raise ValueError(f"shifts={shifts} leaves nothing to compare; take 2 or more")
    if steps is None:
        return None
    if any(n < step for n, step in zip(image.shape[2:], steps, strict=True)):
        raise ValueError(
            f"image of {tuple(image.shape[2:])} voxels is smaller than one period {steps}, so that "
            "it lacks phases; take a larger one"
        )
    whole = (slice(n - n % step) for n, step in zip(image.shape[2:], steps, strict=True))
    image = image[(..., *whole)]
    require_finite(image, "voxels of the image")
    drawn = _drawn(steps, shifts, seed)
    count, phases = len(drawn), math.prod(steps)
    with evaluating(network), torus(network):
        first = _cycle_spun(network, image, drawn[0])
        again = _cycle_spun(
            network, image, tuple(d + s for d, s in zip(drawn[0], steps, strict=True))
        )
        mean, scatter = first, torch.zeros_like(first)
        tables = [_table(first, drawn[0], steps)]
        for seen, shift in enumerate(drawn[1:], start=2):
            spun = _cycle_spun(network, image, shift)
            off = spun - mean
            mean = mean + off / seen
            scatter += off * (spun - mean)
            tables.append(_table(spun, shift, steps))
    variance = _energy(mean - mean.flatten(1).mean(dim=1).reshape(-1, *[1] * len(steps)))
    total = variance + float(scatter.flatten(1).mean(dim=1).sum()) / count
    if total <= 0:
        return None
    spread = scatter * ((1 - 1 / phases) / (count - 1))
    moving = float(spread.flatten(1).mean(dim=1).sum())
    total = max(total, moving)
    pattern = _locked_pattern(torch.stack(tables), drawn, steps)
    return CycleSpin(
        residual=moving / total,
        locked=_energy(pattern) / total,
        self_test=_energy(again - first) / 2 / total,
        pattern=pattern,
        relative_pattern=pattern * math.sqrt(len(pattern) / total),
        deviation=spread.sqrt(),
    )


def _drawn(period: Sequence[int], shifts: int, seed: int) -> tuple[_Shift, ...]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(math.prod(period), generator=generator)[:shifts]
    columns = torch.unravel_index(order, tuple(period))
    return tuple(tuple(row) for row in torch.stack(columns, dim=1).tolist())


def _cycle_spun(network: nn.Module, image: Tensor, shift: _Shift) -> Tensor:
    """`T_{−δ} f(T_δ x)`, `(classes, *space)`."""
    axes = tuple(range(1, 1 + len(shift)))
    logits = network(image.roll(shift, dims=tuple(a + 1 for a in axes)))
    if logits.shape[2:] != image.shape[2:]:
        raise ValueError(
            f"logits of {tuple(logits.shape[2:])} voxels must lie on the image's grid of "
            f"{tuple(image.shape[2:])}; measure a network that keeps the grid"
        )
    require_finite(logits, "logits")
    return logits[0].cpu().double().roll([-s for s in shift], dims=axes)


def _table(spun: Tensor, shift: _Shift, period: Sequence[int]) -> Tensor:
    """Means by phase of the network's grid, `(classes, *period)`."""
    means = phase_means(spun[None], period)[:, 0].T.unflatten(-1, tuple(period))
    return means.roll(shift, dims=tuple(range(1, means.ndim)))


def _locked_pattern(tables: Tensor, shifts: Sequence[_Shift], period: Sequence[int]) -> Tensor:
    """`L` of the least-squares fit `table_i[φ] = c[φ − δ_i] + L[φ]`, whose mean is 0.

    It falls apart into one fit of two numbers for each frequency of the stride grid: the shift
    turns c by `exp(−iω·δ)`, and leaves L.
    """
    axes = tuple(range(-len(period), 0))
    impulses = torch.zeros(len(shifts), 1, *period, dtype=torch.float64)
    for impulse, shift in zip(impulses, shifts, strict=True):
        impulse[(0, *shift)] = 1
    turns, spectra = torch.fft.fftn(impulses, dim=axes), torch.fft.fftn(tables, dim=axes)
    common = turns.mean(dim=0)
    told_apart = 1 - common.abs().square()
    moving = common * (turns.conj() * spectra).mean(dim=0)
    pattern = (spectra.mean(dim=0) - moving) / told_apart
    known = (told_apart > _ROUNDING).expand_as(pattern)
    return torch.fft.ifftn(torch.where(known, pattern, 0), dim=axes).real


def _energy(signal: Tensor) -> float:
    """Mean square over voxels, summed over classes."""
    return float(signal.square().flatten(1).mean(dim=1).sum())


def _period(
    network: nn.Module, image: Tensor, period: Sequence[int] | None
) -> tuple[int, ...] | None:
    """Voxels per axis after which a pattern repeats; None if there is one phase only."""
    steps = upsampling_period(network, image.ndim - 2) if period is None else tuple(period)
    return None if math.prod(steps) == 1 else steps
