"""A trained network under study: weights, answers to probes, and what it prints on cases."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from torch import Tensor, nn

from medseg.checkerboard.cases.phase_moments import PhaseMoments, coarser
from medseg.checkerboard.lattice import lattice_of
from medseg.checkerboard.network.constant_response import constant_response
from medseg.checkerboard.network.cycle_spin import CycleSpin, cycle_spin_residual
from medseg.checkerboard.study.case import case_artifacts
from medseg.checkerboard.study.cohort import headline, phase_locked
from medseg.checkerboard.study.layers import (
    dilated_artifacts,
    gradient_artifacts,
    layer_artifacts,
)
from medseg.checkerboard.study.pooled import axis_spectra, phase_map
from medseg.checkerboard.study.sums import MapSums
from medseg.checkerboard.study.windows import CaseWindows, Exemplar
from medseg.models.weights import ModelCard
from medseg.record import ArtifactRecord, AxisSpectrum, CaseRow

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
    """Collects what is printed on one case after the other.

    Args:
        network: The trained network, on the device that predicts.
        card: Its card.
        overlap: Of the windows that predict.
        shifts: Windows per case that the cycle-spin residual is taken over.
        spun: Cases of which it is taken, from the first; None: all.
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
        spun: int | None = None,
        kept: int = 8,
    ):
        self.network = network
        self.card = card
        self.lattice = lattice_of(network, len(card.patch_size))
        self.overlap = overlap
        self.shifts = shifts
        self.spun = spun
        self.kept = kept
        self.studied: list[StudiedCase] = []
        self._cases: list[CaseRow] = []
        self._contrasts: list[list[PhaseMoments]] = []
        self._images: list[list[PhaseMoments]] = []
        self._notes: list[str] = []

    def watch(self, truth: Tensor | None = None) -> CaseWindows:
        """What is shown the windows of the next case, as `observe=windows.start` of a predictor.

        Args:
            truth: Its labels on the network's grid.
        """
        return CaseWindows(
            period=self.lattice.period,
            patch_size=self.card.patch_size,
            overlap=self.overlap,
            truth=truth,
        )

    def add(self, name: str, windows: CaseWindows) -> CaseRow:
        """Scores a case whose windows were watched.

        A case without numbers, smaller than a period or with logits that are NaN, is noted.
        """
        if fault := _fault(windows, self.lattice.period):
            self._notes.append(f"{name}: {fault}, so it has no numbers")
            found = CaseRow(case=name)
            self._cases.append(found)
            return found
        found, exemplar, spun = case_artifacts(name, windows, self.lattice), windows.exemplar, None
        if exemplar is not None and (self.spun is None or len(self._cases) < self.spun):
            spun = self._cycle_spin(name, exemplar)
        if spun is not None:
            shares = {
                "cycle_spin": spun.residual,
                "cycle_spin_locked": spun.locked,
                "cycle_spin_self_test": spun.self_test,
            }
            found = replace(found, values=found.values | {"cycle_spin": shares})
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
        return ArtifactRecord(
            period=list(self.lattice.period),
            tested_period=list(self.lattice.tested),
            layers=layer_artifacts(self.network, self.images),
            gradients=gradient_artifacts(self.network),
            dilated=dilated_artifacts(self.network),
            values={"constant_response": self._constant_response()},
            cases=self._cases,
            means=headline(self._cases),
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

    def _tested(self, sums: MapSums) -> list[PhaseMoments]:
        return [coarser(moments, self.lattice.tested) for moments in sums.moments]

    def _cycle_spin(self, name: str, exemplar: Exemplar) -> CycleSpin | None:
        image = exemplar.image[None].to(self._device)
        spun = self._attempt(
            f"{name}: no cycle-spin residual",
            lambda: cycle_spin_residual(
                self.network, image, self.lattice.period, shifts=self.shifts
            ),
        )
        if spun is not None and spun.self_test > _SAME:
            self._notes.append(
                f"{name}: a shift by a whole period changes {100 * spun.self_test:.2g} % of the "
                "logits' energy, so the network does not repeat with it; the residual holds that"
            )
        return spun

    def _constant_response(self) -> float | None:
        if not self.studied:
            return None
        return self._attempt(
            "no constant response",
            lambda: constant_response(self.network, self.images[0], self.lattice.period),
        )

    def _spectra(self) -> list[AxisSpectrum]:
        contrasts = (c for case in self.studied for c in case.exemplar.contrasts)
        found = self._attempt("no spectra", lambda: axis_spectra(contrasts, self.lattice.tested))
        return found or []

    @property
    def _device(self) -> Any:
        return next(self.network.parameters()).device

    def _attempt(self, what: str, measure: Callable[[], T]) -> T | None:
        """A measure that a foreign network may not allow; the reason is noted."""
        try:
            return measure()
        except (RuntimeError, ValueError) as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            self._notes.append(f"{what}: {reason}")
            log.warning("%s", self._notes[-1])
            return None


def _fault(windows: CaseWindows, period: tuple[int, ...]) -> str:
    if windows.fault or windows.contrasts.moments:
        return windows.fault
    return f"its windows are smaller than one period {period} and a margin"
