"""From cases to claims: the case is the unit, never the voxel.

Neighbouring voxels repeat each other, and texture may happen to have the period of the grid; what
separates the weights from both is that they leave the same phase pattern in every case.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from scipy import optimize, special
from torch import Tensor

from medseg.checkerboard.moments import ONE, RESIDUAL, SMOOTH, PhaseMoments
from medseg.checkerboard.seasonal import gain, is_regular, partial_r_squared
from medseg.record import Estimate, PhaseLocked, PhaseMap
from medseg.statistics import bca, holm

_RESAMPLES = 9999
LEAST_CASES = 8
_TABLES_AT_ONCE = 2**16


def phase_lock_test(
    cases: Sequence[PhaseMoments], permutations: int = 999, seed: int = 0
) -> PhaseLocked:
    """`p = (1 + #{R²_π ≥ R²}) / (1 + M)` over M random cyclic shifts of the phases of each case.

    H0: no phase is locked to the grid, so every case might as well have begun at another phase.
    Exact where that holds, whatever the texture, stripes of period s with random phase included.
    It holds for voxels of a part of each map that begins at a random phase and is as long in every
    case (`windows.Region`); of parts that begin at one phase, their border passes for a grid, and
    the more cases the surer. A grid that the images themselves bring along is locked as well: test
    the input, too. Cases weigh the same, whatever their size; unchanged by `z → a z`, a > 0.

    Args:
        cases: Moments of at least 8 cases that vary (`seasonal.is_regular`), of one period.
        permutations: M; the smallest p is `1 / (1 + M)`.
        seed: Of the shifts.

    Reference: Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39 (p is never 0).

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(400)
    >>> case = phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])
    >>> lock = phase_lock_test([case] * 20)
    >>> round(lock.r_squared, 3), lock.p_value
    (1.0, 0.001)
    """
    tables = torch.stack([equally_weighted(case.gram.cpu()) for case in cases])
    r_squared, p_value = against_shifts(tables[None], cases[0].period, permutations, seed)
    return PhaseLocked(cases=len(cases), p_value=float(p_value), r_squared=float(r_squared))


def against_shifts(
    tables: Float[Tensor, "studies cases phases 3 3"],
    period: tuple[int, ...],
    permutations: int,
    seed: int,
) -> tuple[Float[Tensor, " studies"], Float[Tensor, " studies"]]:
    """R² and p of `phase_lock_test`, for several studies that share the shifts drawn."""
    observed = partial_r_squared(tables.sum(dim=1))
    after, phases = _after_every_shift(period), math.prod(period)
    generator = torch.Generator().manual_seed(seed)
    shifts = torch.randint(phases, (permutations, tables.shape[1]), generator=generator)
    as_large = torch.zeros(len(tables), dtype=torch.double)
    for some in shifts.split(max(1, _TABLES_AT_ONCE // phases // len(tables))):
        pooled = sum(tables[:, case][:, after[own]] for case, own in enumerate(some.T))
        # a shift common to all cases gives the same R², but for rounding
        chance = partial_r_squared(torch.as_tensor(pooled)) >= observed[:, None] - 1e-12
        as_large += chance.sum(dim=1)
    return observed, (1 + as_large) / (1 + permutations)


def coherence(patterns: Float[Tensor, " cases *period"]) -> float | None:
    """`C = ‖Σᵢ pᵢ‖² / (n Σᵢ ‖pᵢ‖²)` in [0, 1], each pattern less its own mean.

    1 iff all patterns are the same; `1/n` on average for patterns of independent random phase.
    Unchanged by one scale, one shift of phases and by a constant on any of the patterns.

    Args:
        patterns: Phase pattern of each case: of a residual, or `alpha` or `beta` of its gains.

    Returns:
        The coherence; None if no pattern varies.

    >>> coherence(torch.tensor([[1.0, -1.0], [1.0, -1.0]]))
    1.0
    >>> coherence(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    0.0
    """
    flat = patterns.double().flatten(1)
    centred = flat - flat.mean(dim=1, keepdim=True)
    energy = centred.square().sum()
    if energy <= 1e-24 * flat.square().sum():
        return None
    return float(centred.sum(dim=0).square().sum() / (len(patterns) * energy))


def shared(patterns: Float[Tensor, " cases *dims"], *, squared: bool = False) -> Estimate | None:
    """Size of the pattern that cases share, `κ² = max(0, (‖Σx‖² − Σ‖x‖²) / (n (n − 1) D))`.

    The products of different cases alone: noise of a case's own, which every case's size holds,
    is in none of them, so without a common pattern κ² is 0 on average before it is cut off at 0.
    D numbers to a pattern; the same for all makes κ its RMS.

    The interval, from 8 cases on, holds all κ for which `n ‖x̄‖² / tr S`, S the covariance of the
    cases, is no farther out than 2.5 % at either side of a noncentral F with ν and ν (n − 1)
    degrees of freedom, `ν = (tr S)² / tr S²`; its lower end is 0 where the cases agree no more than
    by chance.

    Args:
        patterns: Of each case; all with one meaning, such as `Gain.beta` of the same classes.
        squared: Whether to give κ² and its interval.

    Returns:
        The estimate; None for fewer than two cases.

    Reference: Chen & Qin 2010, Ann. Stat. 38:808 (the products, and tr S² without bias);
    Satterthwaite 1946, Biometrics Bull. 2:110 (ν).

    >>> shared(torch.tensor([[1.0, -1.0], [1.0, -1.0], [3.0, -3.0]])).mean ** 2  # 1·1, 1·3, 1·3
    2.3333333333333335
    """
    count = len(patterns)
    if count < 2:
        return None
    x = patterns.double().flatten(1)
    products = float(x.sum(dim=0).square().sum() - x.square().sum()) / (count * (count - 1))
    ends = [max(0.0, products)]
    if count >= LEAST_CASES:
        ends += _energy_interval(x)
    sizes = [each / x.shape[1] if squared else math.sqrt(each / x.shape[1]) for each in ends]
    low, high = sizes[1:] or (None, None)
    return Estimate(mean=sizes[0], cases=count, low=low, high=high, shared=True)


def _energy_interval(x: Tensor) -> list[float]:
    """Lower and upper end of `‖E x‖²`."""
    count, most = x.shape
    rest = x - x.mean(dim=0)
    trace = float(rest.square().sum()) / (count - 1)
    mean_energy = float(x.mean(dim=0).square().sum())
    if trace <= 1e-24 * mean_energy or trace == 0:
        return [mean_energy, mean_energy]
    squares = float((rest @ rest.T).square().sum()) / (count - 1) ** 2
    unbiased = (count - 1) ** 2 / ((count + 1) * (count - 2)) * (squares - trace**2 / (count - 1))
    degrees = min(max(trace**2 / unbiased, 1.0), most) if unbiased > 0 else most
    ratio = count * mean_energy / trace

    def beyond(noncentrality: float, share: float) -> float:
        below = special.ncfdtr(degrees, degrees * (count - 1), noncentrality, ratio)
        return float(below) - share

    ends = []
    for share in (0.975, 0.025):
        top = 4 * degrees * ratio + 100
        while beyond(top, share) > 0:
            top *= 2
        found = 0.0
        if beyond(0, share) > 0:
            found = optimize.root_scalar(beyond, args=(share,), bracket=(0, top)).root
        ends.append(found * trace / (degrees * count))
    return ends


def estimate(values: Sequence[float]) -> Estimate:
    """Mean over cases with its BCa interval; no interval for fewer than 8 cases.

    >>> estimate([0.25, 0.75]).mean
    0.5
    """
    low, high = bca(values, resamples=_RESAMPLES) or (None, None)
    return Estimate(mean=sum(values) / len(values), cases=len(values), low=low, high=high)


def phase_locked(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseLocked:
    """The test over cases, class by class or channel by channel.

    Args:
        cases: Moments of each class of each case.
    """
    classes = [[case for case in each if is_regular(case)] for each in zip(*cases, strict=True)]
    betas = [[fit.beta for case in each if (fit := gain(case))] for each in classes]
    agreements = (coherence(torch.stack(each)) for each in betas if len(each) > 1)
    tests = [phase_lock_test(each) for each in classes if len(each) >= LEAST_CASES]
    fits = [[gain(moments) for moments in case] for case in cases]
    whole = [torch.stack([f.beta for f in each if f]) for each in fits if each and all(each)]
    return PhaseLocked(
        cases=max(map(len, classes), default=0),
        p_value=min((p for p in holm([t.p_value for t in tests]) if p is not None), default=None),
        r_squared=max((t.r_squared for t in tests if t.r_squared is not None), default=None),
        coherence=max((c for c in agreements if c is not None), default=None),
        gain=shared(torch.stack(whole)) if whole else None,
    )


def phase_map(cases: Sequence[Sequence[PhaseMoments]]) -> PhaseMap | None:
    """`1 + β_φ − mean β`, the mean over classes and then over cases.

    Args:
        cases: Moments of each class of each case, of one period.

    Returns:
        The map, to 5 decimals; None where no case has a gain.

    >>> from medseg.checkerboard.moments import phase_moments
    >>> n = torch.arange(100)
    >>> phase_map([[phase_moments(n * (1 + 0.1 * (-1.0) ** n), [2])]]).values
    [1.1, 0.9]
    """
    fits = [[fit for moments in case if (fit := gain(moments)) is not None] for case in cases]
    betas = [torch.stack([fit.beta for fit in case]).mean(dim=0) for case in fits if case]
    if not betas:
        return None
    beta = torch.stack(betas)
    noise = None
    if len(beta) > 1:  # standard error of the mean over cases, RMS over phases
        noise = round(float((beta.var(dim=0).mean() / len(beta)).sqrt()), 5)
    return PhaseMap(
        period=list(beta.shape[1:]),
        values=[round(v, 5) for v in (1 + beta.mean(dim=0)).flatten().tolist()],
        cases=len(beta),
        noise=noise,
    )


def equally_weighted(
    gram: Float[Tensor, "phases terms terms"],
) -> Float[Tensor, "phases 3 3"]:
    """Moments of a case as if it had one voxel and a residual of unit energy."""
    used = gram[:, : SMOOTH + 1, : SMOOTH + 1]
    total = used.sum(dim=0)
    scale = torch.ones(SMOOTH + 1, dtype=gram.dtype)
    scale[RESIDUAL:] = (total[ONE, ONE] / total[RESIDUAL, RESIDUAL]).sqrt()
    return used * scale[:, None] * scale / total[ONE, ONE]


def _after_every_shift(period: tuple[int, ...]) -> Int[Tensor, "shifts phases"]:
    """Entry δ, φ is the phase φ + δ, in array order."""
    phases = torch.arange(math.prod(period)).reshape(period)
    axes = list(range(len(period)))
    shifts = itertools.product(*map(range, period))
    return torch.stack([phases.roll([-d for d in shift], axes).flatten() for shift in shifts])
