"""A trained network under study: its weights, probes of it, and real cases."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from medseg.checkerboard.cases import CaseMaps
from medseg.checkerboard.cohort import estimate, phase_locked, phase_map
from medseg.checkerboard.cycle_spin import CycleSpin, cycle_spin_residual
from medseg.checkerboard.layers import input_moments, stride_grid_of
from medseg.checkerboard.moments import PhaseMoments, coarser
from medseg.checkerboard.registry import MEASURES, Probed, descriptions, measure
from medseg.checkerboard.rows import gradient_rows, gridding_rows, upsampling_rows
from medseg.checkerboard.spectrum import axis_spectra
from medseg.checkerboard.windows import CaseWindows, Exemplar, MapSums
from medseg.models.weights import ModelCard
from medseg.record import ArtifactRecord, AxisSpectrum, CaseRow, Estimate
from medseg.record.checkerboard import Values

T = TypeVar("T")
_SAME = 1e-6  # share of energy that rounding stays far below
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class StudiedCase:
    """A case with what its figures are drawn from."""

    name: str
    exemplar: Exemplar
    cycle_spin: CycleSpin | None
    windows: CaseWindows


class Study:
    """Collects the measures of one case after the other.

    Args:
        network: The trained network, on the device that predicts.
        card: Its card.
        overlap: Of the windows that predict.
        shifts: Windows per case that the cycle-spin residual is taken over.
        cycle_spun: Cases of which it is taken, from the first; None: all.
        kept: Cases that are kept for figures and for the features of the layers, from the first.

    Raises:
        ConfigError: a network without upsampling.

    `studied` holds the kept cases.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        *,
        overlap: float,
        shifts: int = 8,
        cycle_spun: int | None = None,
        kept: int = 8,
    ):
        self.network = network
        self.card = card
        self.grid = stride_grid_of(network, len(card.patch_size))
        self.overlap = overlap
        self.shifts = shifts
        self.cycle_spun = cycle_spun
        self.kept = kept
        self.studied: list[StudiedCase] = []
        self._cases: list[CaseRow] = []
        self._contrasts: list[list[PhaseMoments]] = []
        self._images: list[list[PhaseMoments]] = []
        self._notes: list[str] = []
        self._middle: Tensor | None = None

    def watch(self, truth: Tensor | None = None) -> CaseWindows:
        """Observer of the windows of the next case, as `observe=windows.start` of a predictor.

        Args:
            truth: Its labels on the network's grid.
        """
        return CaseWindows(
            period=self.grid.period,
            patch_size=self.card.patch_size,
            overlap=self.overlap,
            truth=truth,
        )

    def add(self, name: str, windows: CaseWindows) -> CaseRow:
        """Scores a case whose windows were watched.

        A case without numbers, smaller than a period or with logits that are NaN, is noted.
        """
        if fault := _fault(windows, self.grid.period):
            self._notes.append(f"{name}: {fault}, so it has no numbers")
            found = CaseRow(case=name)
            self._cases.append(found)
            return found
        exemplar = windows.exemplar
        spun = None
        if exemplar is not None and (self.cycle_spun is None or len(self._cases) < self.cycle_spun):
            spun = self._cycle_spin(name, exemplar)
        if self._middle is None:
            self._middle = windows.middle
        found = CaseRow(case=name, values=self._values(windows, spun))
        if exemplar is not None and len(self.studied) < self.kept:
            self.studied.append(
                StudiedCase(name=name, exemplar=exemplar, cycle_spin=spun, windows=windows)
            )
        self._cases.append(found)
        self._contrasts.append(self._tested(windows.contrasts))
        self._images.append(self._tested(windows.images))
        return found

    def amend(self, case: CaseRow) -> None:
        """Puts a case in the place of the one of the same name."""
        self._cases = [case if old.case == case.case else old for old in self._cases]

    def record(self) -> ArtifactRecord:
        """All numbers so far, with the claims over cases."""
        moments = input_moments(self.network, self.images) if self.images else None
        layers = upsampling_rows(self.network, moments)
        gradients, dilated = gradient_rows(self.network), gridding_rows(self.network)
        values = self._of_network()
        groups = [row.values for row in (*layers, *gradients, *dilated)] + [values]
        groups += [group for case in self._cases for group in case.values.values()]
        return ArtifactRecord(
            period=list(self.grid.period),
            tested_period=list(self.grid.tested),
            measures=descriptions(name for group in groups for name in group),
            layers=layers,
            gradients=gradients,
            dilated=dilated,
            values=values,
            cases=self._cases,
            means=means(self._cases),
            prediction=phase_locked(self._contrasts) if self._contrasts else None,
            image=phase_locked(self._images) if self._images else None,
            phase_map=phase_map(self._contrasts),
            spectra=self._spectra(),
            notes=self._notes,
        )

    @property
    def images(self) -> list[Tensor]:
        """A window `(1, channels, *window)` of each kept case, on the network's device."""
        return [case.exemplar.image[None].to(self._device) for case in self.studied]

    @property
    def middle(self) -> Tensor | None:
        """Middle of the first image, `(1, channels, *window)`, which probes take."""
        return None if self._middle is None else self._middle[None].to(self._device)

    def _tested(self, sums: MapSums) -> list[PhaseMoments]:
        return [coarser(moments, self.grid.tested) for moments in sums.moments]

    def _cycle_spin(self, name: str, exemplar: Exemplar) -> CycleSpin | None:
        image = exemplar.image[None].to(self._device)
        spun = self._attempt(
            f"{name}: no cycle-spin residual",
            lambda: cycle_spin_residual(self.network, image, self.grid.period, shifts=self.shifts),
        )
        if spun is not None and spun.self_test > _SAME:
            self._notes.append(
                f"{name}: a shift by a whole period changes {100 * spun.self_test:.2g} % of the "
                "logits' energy, so the network does not repeat with it; the residual holds that"
            )
        return spun

    def _values(self, windows: CaseWindows, spun: CycleSpin | None) -> dict[str, Values]:
        """Every measure of a case, by group."""
        exemplar = windows.exemplar
        logits = [] if exemplar is None else exemplar.contrasts
        channels = [] if exemplar is None else list(exemplar.image)
        image = CaseMaps(windows.images.moments, channels, self.grid)
        subjects: dict[str, Any] = {
            "prediction": CaseMaps(windows.contrasts.moments, logits, self.grid, image),
            "image": image,
            "labels": windows,
        }
        if windows.truth is not None:
            subjects["truth"] = CaseMaps(windows.truths.moments, [], self.grid)
        if spun is not None:
            subjects["cycle_spin"] = spun
        return {group: measure(group, subject)[0] for group, subject in subjects.items()}

    def _of_network(self) -> Values:
        if (window := self.middle) is None:
            return {}
        values, reasons = measure(
            "network", Probed(network=self.network, window=window, period=self.grid.period)
        )
        for name, reason in reasons.items():
            self._note(f"no {name.replace('_', ' ')}", reason)
        return values

    def _spectra(self) -> list[AxisSpectrum]:
        contrasts = (c for case in self.studied for c in case.exemplar.contrasts)
        found = self._attempt("no spectra", lambda: axis_spectra(contrasts, self.grid.tested))
        return found or []

    @property
    def _device(self) -> Any:
        return next(self.network.parameters()).device

    def _attempt(self, what: str, measure: Callable[[], T]) -> T | None:
        """A measure that a foreign network may not allow; the reason is noted."""
        try:
            return measure()
        except (RuntimeError, ValueError) as error:
            self._note(what, str(error) or type(error).__name__)
            return None

    def _note(self, what: str, reason: str) -> None:
        self._notes.append(f"{what}: {next(iter(reason.splitlines()), 'no reason given')}")
        log.warning("%s", self._notes[-1])


def means(cases: Sequence[CaseRow]) -> dict[str, Estimate]:
    """Means over cases with intervals, of the pooled measures that any case has."""
    found: dict[str, list[float]] = {}
    for entry in MEASURES:
        if entry.pooled:
            known = (case.get(entry.of[0], entry.name) for case in cases)
            found[entry.name] = [value for value in known if value is not None]
    return {name: estimate(values) for name, values in found.items() if values}


def _fault(windows: CaseWindows, period: tuple[int, ...]) -> str:
    if windows.fault or windows.contrasts.moments:
        return windows.fault
    return f"its windows are smaller than one period {period} and a margin"
