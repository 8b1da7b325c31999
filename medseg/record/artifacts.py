"""Artifacts of a trained network as plain data."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class LayerArtifacts:
    """What one upsampling layer prints, by its weights; None where it has no such measure.

    Args:
        layer: Path in the network.
        operator: Class and options.
        stride: Per axis; empty where it is no whole number.
        overlap: What kernel and stride alone leave uneven, in [0, 1].
        dc_gain: DC-gain imbalance for independent features, in [0, 1].
        dc_gain_mean: The same for the mean features of real cases.
        dc_gain_data: The same for the features of real cases.
        dc_gain_worst: The same for the features that show it most.
        noise_gain: Imbalance of the gain of noise, in [0, 1].
        imaging: Share of white noise that passes as replicas, in [0, 1].
        sum_rule_order: Polynomials below this degree come out without a pattern.
        unmeasured: Why there are no measures, if so.
    """

    layer: str
    operator: str
    stride: list[int]
    overlap: float | None = None
    dc_gain: float | None = None
    dc_gain_mean: float | None = None
    dc_gain_data: float | None = None
    dc_gain_worst: float | None = None
    noise_gain: float | None = None
    imaging: float | None = None
    sum_rule_order: int | None = None
    unmeasured: str = ""


@dataclass(frozen=True, kw_only=True)
class GradientArtifacts:
    """What one strided layer prints on the gradient before it.

    Args:
        layer: Path in the network.
        operator: Class and options.
        stride: Per axis.
        overlap: What kernel and stride alone leave uneven, in [0, 1].
        imbalance: DC-gain imbalance of the gradient, in [0, 1].
        note: Under what condition it holds, or why it is missing.
    """

    layer: str
    operator: str
    stride: list[int]
    overlap: float | None = None
    imbalance: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class DilatedArtifacts:
    """What a row of dilated convolutions sees of its reach.

    Args:
        layers: Paths in the network.
        dilations: Per convolution and axis.
        common_factor: Of the dilations, per axis.
        largest_gap: HDC's `M₂`, per axis.
        period: Sub-grids that are compared, per axis.
        coverage: Share of the reach that is seen, in [0, 1].
        imbalance: Of the sub-grids, in [0, 1].
    """

    layers: list[str]
    dilations: list[list[int]]
    common_factor: list[int]
    largest_gap: list[int]
    period: list[int] = field(default_factory=list)
    coverage: float | None = None
    imbalance: float | None = None


@dataclass(frozen=True, kw_only=True)
class CaseArtifacts:
    """Patterns of the strides on one case; means over classes, None where undefined.

    Args:
        case: The case's id.
        prediction: Of the logits: `gain`, `gain_r_squared`, `additive`, `eta_squared`,
            `epsilon_squared`, `eta_squared_level_<n>` from the finest level on, `staircase`,
            `line_decibel`, `line_p`.
        image: The same of the input, without `staircase`.
        truth: The same of the true foreground, without lines; empty where there are no labels.
        labels: `boundary_snapping`, `saddle_rate`, and with labels `true_boundary_snapping`,
            `true_saddle_rate`, `crack_distance`, `error_spread`.
        cycle_spin: `residual`, `locked`, `self_test`; empty where it was not measured.
        decision: `dice`, `surface_dice` of one prediction, with `_spun` and `_control` those of
            cycle-spun ones; empty where they were not measured.
    """

    case: str
    prediction: dict[str, float | None]
    image: dict[str, float | None]
    truth: dict[str, float | None] = field(default_factory=dict)
    labels: dict[str, float | None] = field(default_factory=dict)
    cycle_spin: dict[str, float | None] = field(default_factory=dict)
    decision: dict[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over cases with its 95 % interval; no interval for fewer than 8 cases."""

    mean: float
    cases: int
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseLocked:
    """Whether the cases print one pattern: the test over cases, and how far they agree.

    Args:
        p_value: Smallest over classes, corrected for their number; None for fewer than 8 cases.
        r_squared: Share of the residual that phases explain, pooled over cases.
        coherence: Of the patterns of gain, in [0, 1]; `1 / cases` by chance.
        cases: Cases with logits that vary.
    """

    cases: int
    p_value: float | None = None
    r_squared: float | None = None
    coherence: float | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseMap:
    """How unequally the phases of the lattice amplify the logits, pooled over cases.

    Args:
        period: Voxels per axis after which the map repeats: at most 512 phases.
        values: Gain of each phase, row by row, its departure from the mean over phases added to 1:
            1 everywhere without a pattern.
        cases: That the map is the mean of.
        noise: Standard error of that mean, RMS over phases: the RMS departure that cases without
            a common pattern would show; None for one case.
    """

    period: list[int]
    values: list[float]
    cases: int = 1
    noise: float | None = None


@dataclass(frozen=True, kw_only=True)
class AxisSpectrum:
    """Power of the logits' residual by frequency along one axis, pooled over cases.

    Args:
        axis: Of the network's grid, from 0.
        period: Voxels along it after which a pattern repeats: its energy is at `k / period`.
        bins: Frequency j is `j / bins` cycles per voxel.
        decibel: At frequencies 0 to at most 1/2, in dB of the logits' squared unit.
    """

    axis: int
    period: int
    bins: int
    decibel: list[float]


@dataclass(frozen=True, kw_only=True)
class ArtifactRecord:
    """Artifacts of a trained network on real cases.

    Args:
        period: Voxels per axis after which a pattern of the network repeats.
        tested_period: The same for gains and the test over cases: at most 512 phases.
        layers: Every upsampling layer.
        gradients: Every strided layer.
        dilated: Every row of dilated convolutions.
        constant_response: Periodic part of the response to a constant, over the logits' spread.
        cases: Every case.
        headline: `gain`, `gain_excess` over the input, `cycle_spin`, `cycle_spin_locked`,
            `staircase`, `crack_distance`, `dice_change`, `surface_dice_change`: means over cases.
        prediction: Whether the logits of all cases share a pattern.
        image: Whether the inputs do, which is then not the network's.
        phase_map: Gain by phase of `tested_period`; None where no case has a gain.
        spectra: Power of the logits by frequency, for each axis with a stride.
        notes: What could not be measured, and why.
    """

    period: list[int]
    tested_period: list[int] = field(default_factory=list)
    layers: list[LayerArtifacts] = field(default_factory=list)
    gradients: list[GradientArtifacts] = field(default_factory=list)
    dilated: list[DilatedArtifacts] = field(default_factory=list)
    constant_response: float | None = None
    cases: list[CaseArtifacts] = field(default_factory=list)
    headline: dict[str, Estimate] = field(default_factory=dict)
    prediction: PhaseLocked | None = None
    image: PhaseLocked | None = None
    phase_map: PhaseMap | None = None
    spectra: list[AxisSpectrum] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
