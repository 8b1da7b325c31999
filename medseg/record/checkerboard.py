"""Checkerboard measures of one network as plain data: every result type, defined once.

Values stand by the name of their measure, and the record describes its own measures, so that a
table needs neither torch nor a second list. `medseg.checkerboard.registry` fills it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Level = Literal["weights", "network", "cases"]
Values = dict[str, float | None]
"""Value by measure; None where the measure is undefined."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Describes the values of one name.

    Args:
        title: Head of a column.
        unit: Empty for a ratio.
        meaning: One line.
        level: What the measure needs: the weights alone, the network, or real cases.
        of: Where its values stand: `layers`, `gradients`, `dilated` (rows of layers), `network`,
            or the groups of a case: `prediction`, `image`, `truth`, `labels`, `cycle_spin`,
            `decision`.
        headline: Whether it stands in front; the order of `ArtifactRecord.measures` is that of
            the tables.
    """

    title: str
    unit: str
    meaning: str
    level: Level
    of: list[str]
    headline: bool = False


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """Values of one layer, or of a row of layers that are measured together.

    Args:
        layer: Path in the network; several are separated by commas.
        operator: Class and options.
        stride: Per axis; empty where it is no whole number.
        values: By measure.
        note: Under what condition a value holds, or why one is missing.
    """

    layer: str
    operator: str
    stride: list[int] = field(default_factory=list)
    values: Values = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """Values of one case, means over its classes.

    Args:
        case: The case's id.
        values: `{group: {measure: value}}`. Groups are `prediction` (the logits), `image` and
            `truth` (the same measures on the input and on the true foreground), `labels`,
            `cycle_spin` and `decision`; a group that was not measured is missing.
    """

    case: str
    values: dict[str, Values] = field(default_factory=dict)

    def get(self, group: str, measure: str) -> float | None:
        """The value, None where it is undefined or was not measured.

        >>> CaseRow(case="a", values={"image": {"gain": 0.1}}).get("image", "gain")
        0.1
        """
        return self.values.get(group, {}).get(measure)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number over cases with its 95 % interval; no interval for fewer than 8 cases.

    Args:
        mean: Mean of the cases' values, or the size of the pattern that they share.
        cases: How many.
        low: Lower end.
        high: Upper end.
        shared: Whether it is that of the shared pattern, which is 0 on average without one.
    """

    mean: float
    cases: int
    low: float | None = None
    high: float | None = None
    shared: bool = False


@dataclass(frozen=True, kw_only=True)
class PhaseLocked:
    """Whether the cases share one pattern: the test over cases, and how far they agree.

    Args:
        cases: Cases with logits that vary.
        p_value: Smallest over classes, corrected for their number; None for fewer than 8 cases.
        r_squared: Share of the residual that phases explain, pooled over cases.
        coherence: Of the patterns of gain, in [0, 1]; `1 / cases` by chance.
        gain: Gain κ that the cases share; None of one case, and of records before it was taken.
    """

    cases: int
    p_value: float | None = None
    r_squared: float | None = None
    coherence: float | None = None
    gain: Estimate | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseMap:
    """How unequally the phases of the stride grid amplify the logits, pooled over cases.

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
    """Artifacts of a trained network that are locked to its strides.

    Args:
        period: Voxels per axis after which a pattern of the network repeats.
        tested_period: The same for what is measured on cases: the longest period of a stage with at
            most 512 phases that windows have room for.
        measures: What the values below mean, by name, in the order of tables; empty in a record
            older than schema 3.
        layers: Every upsampling layer.
        gradients: Every strided layer, measured on the gradient before it.
        dilated: Every row of dilated convolutions.
        values: Of the whole network.
        cases: Every case.
        means: Means over cases.
        prediction: Whether the logits of all cases share a pattern.
        image: Whether the inputs do, which is then not the network's.
        phase_map: Gain by phase of `tested_period`; None where no case has a gain.
        spectra: Power of the logits by frequency, for each axis with a stride.
        notes: What could not be measured, and why.
    """

    period: list[int]
    tested_period: list[int] = field(default_factory=list)
    measures: dict[str, Measure] = field(default_factory=dict)
    layers: list[LayerRow] = field(default_factory=list)
    gradients: list[LayerRow] = field(default_factory=list)
    dilated: list[LayerRow] = field(default_factory=list)
    values: Values = field(default_factory=dict)
    cases: list[CaseRow] = field(default_factory=list)
    means: dict[str, Estimate] = field(default_factory=dict)
    prediction: PhaseLocked | None = None
    image: PhaseLocked | None = None
    phase_map: PhaseMap | None = None
    spectra: list[AxisSpectrum] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def constant_response(self) -> float | None:
        """Periodic part of the response to a constant, over the logits' spread."""
        return self.values.get("constant_response")

    def largest(self, measure: str) -> float | None:
        """Largest value over upsampling layers; None where no layer has one.

        >>> rows = [LayerRow(layer=str(a), operator="", values={"dc_gain": a}) for a in (0.1, 0.2)]
        >>> ArtifactRecord(period=[2], layers=rows).largest("dc_gain")
        0.2
        """
        found = (row.values.get(measure) for row in self.layers)
        return max((value for value in found if value is not None), default=None)

    def describe(self, measure: str) -> Measure:
        """The measure's description; of a name that the record does not describe, its name.

        A title that several measures bear has the name behind it.
        """
        title = measure.replace("_", " ")
        unknown = Measure(title=title, unit="", meaning="", level="cases", of=[])
        found = self.measures.get(measure, unknown)
        same = sum(other.title == found.title for other in self.measures.values()) > 1
        return replace(found, title=f"{found.title} ({measure})") if same else found

    @classmethod
    def upgraded(cls, content: dict[str, Any]) -> dict[str, Any]:
        """Up to schema 2 each measure was a field, and before that there was no map.

        Means of sizes were those of the cases, which have a floor of noise: they keep that name.
        """
        if "headline" in content:
            content = _from_schema_2(content)
        found = content.get("means", {})
        old = {name for name in _SIZES if name in found and "shared" not in found[name]}
        means = {f"{n}_of_cases" if n in old else n: value for n, value in found.items()}
        measures = dict(content.get("measures", {}))
        for name in old & measures.keys():
            described = measures[name]
            title, meaning = f"{described['title']} of cases", f"{described['meaning']} {_FLOOR}"
            measures[f"{name}_of_cases"] = described | {"title": title, "meaning": meaning}
        return content | {"means": means, "measures": measures}


@dataclass(frozen=True, kw_only=True, eq=False)
class FigureData:
    """Slices of single cases; None where the network or the cases do not allow one.

    Args:
        constant: Response to a constant image `(rows, columns)`, in logits.
        image: Intensities of a slice `(rows, columns)`; the others have its shape.
        deviation: How far its logits depart from their mean over shifts of the image, in logits.
        prediction: Its predicted labels.
        truth: Its true labels.
    """

    constant: NDArray[np.float64] | None = None
    image: NDArray[np.float64] | None = None
    deviation: NDArray[np.float64] | None = None
    prediction: NDArray[np.float64] | None = None
    truth: NDArray[np.float64] | None = None


_GROUPS = ("prediction", "image", "truth", "labels", "cycle_spin", "decision")
_RENAMED = {
    "residual": "cycle_spin",
    "locked": "cycle_spin_locked",
    "self_test": "cycle_spin_self_test",
    "crack_distance": "boundary_distance",
}
_SIZES = ("gain", "staircase", "cycle_spin_locked")
_FLOOR = "Mean over cases, each with its noise, as medseg reckoned it before."
_BANDS = ((0.005, "clean"), (0.02, "detectable"), (0.10, "visible"))


def band(kappa: float) -> str:
    """κ in words: clean below 0.5 %, detectable below 2 %, visible below 10 %, else severe.

    Conventions for the gain that cases share and for the constant response, in parts of the
    logits' own spread.

    >>> band(0.004), band(0.005), band(0.05), band(0.1)
    ('clean', 'detectable', 'visible', 'severe')
    """
    return next((word for limit, word in _BANDS if kappa < limit), "severe")


def dilations_text(dilations: Sequence[Sequence[int]]) -> str:
    """Dilations of a row of convolutions as its `operator`.

    >>> dilations_text([[1, 1], [2, 2]])
    'dilations 1×1, 2×2'
    """
    return "dilations " + ", ".join("×".join(map(str, rates)) for rates in dilations)


def _from_schema_2(content: dict[str, Any]) -> dict[str, Any]:
    """A record with one field for each measure; before schema 2 it had no map and no spectra."""
    kept = {"tested_period": [], "phase_map": None, "spectra": [], **content}
    means, response = kept.pop("headline"), kept.pop("constant_response")
    return kept | {
        "measures": {},
        "layers": [_old_layer(**row) for row in kept["layers"]],
        "gradients": [
            _old_layer(gradient_imbalance=row.pop("imbalance"), **row)
            for row in map(dict, kept["gradients"])
        ],
        "dilated": [_old_dilated(**row) for row in kept["dilated"]],
        "values": {"constant_response": response},
        "cases": [_old_case(case) for case in kept["cases"]],
        "means": {_RENAMED.get(k, k): v for k, v in means.items()},
    }


def _old_layer(
    layer: str, operator: str, stride: list[int], unmeasured: str = "", note: str = "", **values
) -> dict[str, Any]:
    row = {"layer": layer, "operator": operator, "stride": stride}
    return row | {"values": values, "note": unmeasured or note}


def _old_dilated(
    layers: list[str],
    dilations: list[list[int]],
    common_factor: list[int],
    largest_gap: list[int],
    period: list[int],
    coverage: float | None,
    imbalance: float | None,
) -> dict[str, Any]:
    values = {
        "common_factor": max(common_factor),
        "largest_gap": max(largest_gap),
        "coverage": coverage,
        "gridding_imbalance": imbalance,
    }
    row = {"layer": ", ".join(layers), "operator": dilations_text(dilations)}
    return row | {"stride": period, "values": values}


def _old_case(case: dict[str, Any]) -> dict[str, Any]:
    groups = {group: case[group] for group in _GROUPS if case.get(group)}
    renamed = {g: {_RENAMED.get(k, k): v for k, v in old.items()} for g, old in groups.items()}
    return {"case": case["case"], "values": renamed}
