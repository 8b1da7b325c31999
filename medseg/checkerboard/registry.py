"""Every checkerboard measure, once: its name, its meaning and the function that computes it.

To add a measure, write the function and one line in `MEASURES`. The record, the tables of report
and artifacts page, and the table in docs/checkerboard.md follow.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from medseg.checkerboard.boundaries import (
    boundary_distance,
    boundary_snapping,
    error_spread,
    mean_of,
)
from medseg.checkerboard.convolutions import (
    coverage,
    dilated_rows,
    gridding_imbalance,
    largest_gap,
    strided_layers,
)
from medseg.checkerboard.imbalance import (
    dc_gain_imbalance,
    imaging_leakage,
    noise_gain_imbalance,
    overlap_imbalance,
    sum_rule_order,
    worst_dc_gain_imbalance,
)
from medseg.checkerboard.layers import (
    InputMoments,
    UpsamplingLayer,
    refining_layers,
    spatial_dims_of,
)
from medseg.checkerboard.probes import constant_response
from medseg.checkerboard.seasonal import staircase
from medseg.record import LayerRow, Measure
from medseg.record.checkerboard import Level, Values

Function = Callable[[Any], float | Sequence[float | None] | None]
Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]
_LEVELS: dict[str, Level] = {
    "layers": "weights",
    "gradients": "weights",
    "dilated": "weights",
    "network": "network",
}


@dataclass(frozen=True)
class Entry:
    """A measure.

    Args:
        name: Key in records.
        function: Subject → value; a sequence of n values is stored as `name_0` to `name_{n-1}`.
        of: What it is measured on: `layers` (`UpsamplingLayer`), `gradients` (`StridedLayer`),
            `dilated` (`DilatedRow`), `network` (the arguments of `constant_response`),
            `prediction`, `image`, `truth` (`CaseMaps`), `labels` (`CaseSums`), `cycle_spin`
            (`CycleSpin`), `decision` (`{"" | "_spun" | "_control": {class: {metric: value}}}`).
        title: Head of its column.
        meaning: One line.
        unit: Empty for a ratio.
        headline: Whether it stands in front.
        pooled: Whether its mean over cases is estimated, on the first of `of`.
        pattern: Subject → the pattern by phase whose size it is, or None. Where there is one, the
            estimate over cases is the size of the pattern that they share, `cohort.shared`.
        squared: Whether it is the square of that size.
    """

    name: str
    of: tuple[str, ...]
    function: Function
    title: str
    meaning: str
    unit: str = ""
    headline: bool = False
    pooled: bool = False
    pattern: Callable[[Any], Tensor | None] | None = None
    squared: bool = False

    @property
    def described(self) -> Measure:
        """Its description in a record."""
        return Measure(
            title=self.title,
            unit=self.unit,
            meaning=self.meaning,
            level=_LEVELS.get(self.of[0], "cases"),
            of=list(self.of),
            headline=self.headline,
        )


def _score(scores: Scores, metric: str, suffix: str = "") -> float | None:
    """Mean over the classes where the metric is defined."""
    return mean_of(by_metric[metric] for by_metric in scores.get(suffix, {}).values())


def _change(scores: Scores, metric: str) -> float | None:
    """Cycle-spun prediction less control: what the phases cost."""
    spun, control = (_score(scores, metric, suffix) for suffix in ("_spun", "_control"))
    return None if spun is None or control is None else spun - control


_MAPS = ("prediction", "image", "truth")

# fmt: off
MEASURES: list[Entry] = [
    # headlines
    Entry("dc_gain", ("layers",), lambda u: dc_gain_imbalance(u.gains),
          "DC gain",
          "Share of a constant's energy that an upsampling turns into a checkerboard; 0 is "
          "clean, 1 − 1/P is one live phase.", headline=True),
    Entry("cycle_spin_locked", ("cycle_spin",), lambda s: s.locked,
          "Cycle-spin, locked",
          "Share of the logits' energy in one pattern that stays with the stride grid while the"
          " image moves, the same in every case.", headline=True,
          pattern=lambda s: s.relative_pattern, squared=True),
    Entry("gain", _MAPS, lambda m: mean_of(fit.kappa for fit in m.gains),
          "Gain κ",
          "Relative spread of the amplification over phases that real cases share: below 0.005 "
          "clean, above 0.1 severe. Of one case alone it holds that case's noise, too.",
          headline=True, pattern=lambda m: m.stacked([fit.beta for fit in m.gains])),
    # their effect on Dice
    Entry("dice_change", ("decision",), lambda s: _change(s, "dice"),
          "Dice change",
          "Dice of the cycle-spun prediction less its control: what the pattern costs.",
          pooled=True),
    # weights of upsampling layers
    Entry("overlap", ("layers", "gradients"), lambda u: u.window and overlap_imbalance(*u.window),
          "Overlap", "Unevenness of the number of taps per phase, from kernel and stride alone."),
    Entry("dc_gain_mean", ("layers",), lambda u: u.imbalance_on_data(mean_only=True),
          "DC gain of mean features",
          "DC gain weighed by the mean features of real cases: the pattern on flat regions."),
    Entry("dc_gain_data", ("layers",), lambda u: u.imbalance_on_data(mean_only=False),
          "DC gain of features",
          "DC gain weighed by the second moments of the features of real cases."),
    Entry("dc_gain_worst", ("layers",), lambda u: worst_dc_gain_imbalance(u.gains),
          "DC gain, worst features", "DC gain for the features that show it most."),
    Entry("noise_gain", ("layers",), lambda u: noise_gain_imbalance(u.kernel, u.stride),
          "Noise gain", "Unevenness over phases of the variance that white noise keeps."),
    Entry("imaging", ("layers",), lambda u: imaging_leakage(u.kernel, u.stride),
          "Imaging", "Share of white noise that passes as spectral replicas."),
    Entry("sum_rule_order", ("layers",), lambda u: sum_rule_order(u.kernel, u.stride),
          "Sum rules",
          "Polynomials below this degree are reproduced without a pattern: 0 checkerboard, 1 "
          "staircase on ramps."),
    # weights of strided and dilated layers
    Entry("gradient_imbalance", ("gradients",), lambda g: g.imbalance(),
          "Gradient imbalance",
          "DC gain of the gradient that a strided layer passes to its input."),
    Entry("common_factor", ("dilated",), lambda r: max(r.common_factor),
          "Common factor",
          "Greatest common divisor of the dilations, largest of any axis; above 1 sub-grids "
          "decouple."),
    Entry("largest_gap", ("dilated",), lambda r: max(map(largest_gap, r.rates)),
          "Largest gap",
          "HDC's M₂: distance of two voxels that are used with none between, largest of any "
          "axis.", unit="voxels"),
    Entry("coverage", ("dilated",), lambda r: coverage(r.seen),
          "Coverage", "Share of the receptive field that an output depends on."),
    Entry("gridding_imbalance", ("dilated",), lambda r: gridding_imbalance(r.seen, r.period),
          "Gridding", "Unevenness of the weight of the sub-grids."),
    # network
    Entry("constant_response", ("network",),
          lambda n: constant_response(*n),
          "Constant response",
          "Spread over phases of the response to a constant, over the spread of the logits, "
          "both on the middle of the first image."),
    # real cases
    Entry("gain_r_squared", _MAPS, lambda m: mean_of(fit.r_squared_partial for fit in m.gains),
          "Gain R²",
          "Share of the residual that a line per phase explains beyond one line for all."),
    Entry("additive", _MAPS, lambda m: mean_of(fit.kappa for fit in m.patterns),
          "Additive κ", "RMS of the fixed pattern over the spread of the map.",
          pattern=lambda m: m.stacked([fit.pattern / fit.spread for fit in m.patterns])),
    Entry("eta_squared", _MAPS, lambda m: mean_of(fit.eta_squared for fit in m.patterns),
          "η²", "Share of the residual that one fixed pattern explains."),
    Entry("epsilon_squared", _MAPS, lambda m: mean_of(fit.epsilon_squared for fit in m.patterns),
          "ε²", "η² less what independent voxels show by chance."),
    Entry("eta_squared_level", _MAPS, lambda m: m.eta_squared_by_level(),
          "η² of level", "Part of η² that this level of the decoder adds, 0 is the finest."),
    Entry("staircase", ("prediction",), lambda m: mean_of(map(staircase, m.lags)),
          "Staircase κ",
          "RMS lag of the phases on a slope: blocks of nearest-neighbour upsampling, no "
          "checkerboard.", unit="voxels", pattern=lambda m: m.stacked(m.lags)),
    Entry("boundary_snapping", ("labels",), lambda c: boundary_snapping(c.boundaries["prediction"]),
          "Boundary snapping",
          "1 if every boundary face lies on the stride grid, 0 if they ignore it.", pooled=True),
    Entry("true_boundary_snapping", ("labels",), lambda c: boundary_snapping(c.boundaries["truth"]),
          "Boundary snapping, truth", "Boundary snapping of the true labels."),
    Entry("boundary_distance", ("labels",),
          lambda c: boundary_distance(c.boundaries["prediction"], c.boundaries["truth"]),
          "Boundary distance",
          "Total variation between the phases of predicted and true boundary faces.", pooled=True),
    Entry("error_spread", ("labels",), lambda c: error_spread(c.errors),
          "Error spread", "Spread over phases of the share of wrong voxels, over its mean."),
    Entry("cycle_spin", ("cycle_spin",), lambda s: s.residual,
          "Cycle-spin residual",
          "Share of the logits' energy that does not move with the image.", pooled=True),
    Entry("cycle_spin_self_test", ("cycle_spin",), lambda s: s.self_test,
          "Self-test", "The same residual for a shift by a whole period: 0 up to rounding."),
    Entry("dice", ("decision",), lambda s: _score(s, "dice"),
          "Dice", "Of the plain prediction."),
    Entry("dice_spun", ("decision",), lambda s: _score(s, "dice", "_spun"),
          "Dice, cycle-spun", "Of the prediction averaged over shifts below one period."),
    Entry("dice_control", ("decision",), lambda s: _score(s, "dice", "_control"),
          "Dice, control", "Of the prediction averaged over shifts by whole periods."),
    Entry("surface_dice", ("decision",), lambda s: _score(s, "surface_dice"),
          "Surface Dice", "Of the plain prediction."),
    Entry("surface_dice_spun", ("decision",), lambda s: _score(s, "surface_dice", "_spun"),
          "Surface Dice, cycle-spun", "Of the prediction averaged over shifts below one period."),
    Entry("surface_dice_control", ("decision",), lambda s: _score(s, "surface_dice", "_control"),
          "Surface Dice, control", "Of the prediction averaged over shifts by whole periods."),
    Entry("surface_dice_change", ("decision",), lambda s: _change(s, "surface_dice"),
          "Surface Dice change",
          "Surface Dice of the cycle-spun prediction less its control.", pooled=True),
]
# fmt: on


def measure(
    of: str, subject: Any, only: Collection[str] | None = None
) -> tuple[Values, dict[str, str]]:
    """Values of all measures of one subject.

    Args:
        of: What the subject is, see `Entry.of`.
        subject: It.
        only: Names of the measures; None: all.

    Returns:
        Values by name, None for a measure that the subject does not allow; and why, by name.
    """
    values: Values = {}
    reasons: dict[str, str] = {}
    for entry in MEASURES:
        if of not in entry.of or (only is not None and entry.name not in only):
            continue
        found: float | Sequence[float | None] | None = None
        try:
            found = entry.function(subject)
        except (RuntimeError, TypeError, ValueError) as error:
            reasons[entry.name] = str(error)
        if isinstance(found, Sequence):
            values |= {f"{entry.name}_{place}": value for place, value in enumerate(found)}
        else:
            values[entry.name] = found
    return values, reasons


def descriptions(names: Iterable[str]) -> dict[str, Measure]:
    """What the values of these names mean, in the order of the registry.

    >>> list(descriptions(["eta_squared_level_1", "gain"]))
    ['gain', 'eta_squared_level_1']
    """
    present = sorted(set(names))
    return {
        name: entry.described
        for entry in MEASURES
        for name in present
        if name == entry.name or re.fullmatch(rf"{entry.name}_\d+", name)
    }


def upsampling_rows(
    network: nn.Module,
    moments: Mapping[str, InputMoments] | None = None,
    only: Collection[str] | None = None,
) -> list[LayerRow]:
    """Every upsampling layer of a network, in its own order.

    Layers that data steers, that are not linear, that repeat with no stride, or whose weights are
    not finite, are listed with the reason; layers that keep the grid are left out.

    Args:
        network: Any module, those of MONAI and nnU-Net too.
        moments: Features before the layers on real images, see `input_moments`.
        only: Names of the measures; None: all.

    >>> layer = nn.ConvTranspose2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> (row,) = upsampling_rows(layer)
    >>> row.values["dc_gain"], row.values["noise_gain"], row.values["sum_rule_order"]
    (0.19, 0.19, 0)
    """
    dims, known = spatial_dims_of(network), moments or {}
    layers = (UpsamplingLayer(m, dims, n, known.get(n)) for n, m in refining_layers(network))
    strides = ((each, _stride(each)) for each in layers)
    return [_row("layers", each, s, only) for each, s in strides if max(s, default=2) > 1]


def gradient_rows(network: nn.Module) -> list[LayerRow]:
    """Every convolution and pooling with a stride, by the gradient that it passes on.

    >>> layer = nn.Conv2d(1, 1, kernel_size=3, stride=2)
    >>> _ = nn.init.ones_(layer.weight)
    >>> [row.values["gradient_imbalance"] for row in gradient_rows(layer)]
    [0.19]
    """
    layers = strided_layers(network)
    return [_row("gradients", each, each.stride, note=each.condition) for each in layers]


def gridding_rows(network: nn.Module) -> list[LayerRow]:
    """Every row of dilated convolutions.

    >>> network = nn.Sequential(*(nn.Conv1d(4, 4, 3, dilation=2) for _ in range(3)))
    >>> (row,) = gridding_rows(network)
    >>> row.operator, row.values["gridding_imbalance"]
    ('dilations 2, 2, 2', 0.5)
    """
    return [_row("dilated", each, each.period) for each in dilated_rows(network)]


def _row(
    of: str,
    layer: Any,
    stride: Sequence[int],
    only: Collection[str] | None = None,
    note: str = "",
) -> LayerRow:
    values, reasons = measure(of, layer, only)
    return LayerRow(
        layer=layer.name,
        operator=layer.operator,
        stride=list(stride),
        values=values,
        note=next(iter(reasons.values()), note),
    )


def _stride(layer: UpsamplingLayer) -> tuple[int, ...]:
    """Empty where it is no whole number, or unknown."""
    try:
        return layer.stride
    except (TypeError, ValueError):
        return ()
