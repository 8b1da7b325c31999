"""A trained network under study: its weights, probes of it, and real cases."""

import logging
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from medseg.checkerboard.cohort import estimate, phase_locked, phase_map, shared
from medseg.checkerboard.figure_data import axis_spectra, figure_data
from medseg.checkerboard.layers import input_moments, stride_grid_of
from medseg.checkerboard.moments import PhaseMoments
from medseg.checkerboard.probes import CycleSpin, cycle_spin_residual
from medseg.checkerboard.registry import (
    MEASURES,
    descriptions,
    gradient_rows,
    gridding_rows,
    measure,
    upsampling_rows,
)
from medseg.checkerboard.seasonal import CaseMaps
from medseg.checkerboard.windows import CaseSums, Exemplar, analysed_levels
from medseg.models.weights import ModelCard
from medseg.progress import bar
from medseg.record import ArtifactRecord, AxisSpectrum, CaseRow, Estimate
from medseg.record.checkerboard import FigureData, Values

T = TypeVar("T")
_SAME = 1e-6  # share of energy that rounding stays far below
log = logging.getLogger(__name__)


class Study:
    """Collects the measures of one case after the other.

    Args:
        network: The trained network, on the device that predicts.
        card: Its card.
        shifts: Windows per case that the cycle-spin residual is taken over.
        cycle_spun: Cases of which it is taken, from the first; None: all.
        kept: Cases that are kept for figures and for the features of the layers, from the first.

    Raises:
        ConfigError: a network without upsampling.

    `exemplars` holds a window of each kept case, `seconds` what prediction and its windows took.
    """

    def __init__(
        self,
        network: nn.Module,
        card: ModelCard,
        *,
        shifts: int = 8,
        cycle_spun: int | None = None,
        kept: int = 8,
    ):
        self.network = network
        self.card = card
        levels = stride_grid_of(network, len(card.patch_size))
        self.period = levels[-1]
        self.levels = analysed_levels(levels, card.patch_size)
        self.shifts = shifts
        self.cycle_spun = cycle_spun
        self.kept = kept
        self.exemplars: list[Exemplar] = []
        self.seconds = {"prediction": 0.0, "windows": 0.0}
        self._cases: list[CaseRow] = []
        self._moments: dict[str, list[list[PhaseMoments]]] = {"prediction": [], "image": []}
        self._patterns: dict[str, list[Tensor]] = defaultdict(list)
        self._notes: list[str] = []
        if self.levels[-1] != self.period:
            self._notes.append(
                f"period {self.period}: windows of {tuple(card.patch_size)} have no room for "
                f"it, so cases are measured at {self.levels[-1]}"
            )
        self._watched = 0
        self._middle: Tensor | None = None

    def watch(self, truth: Tensor | None = None) -> CaseSums:
        """Observer of the windows of the next case, as `observe=windows.start` of a predictor.

        Args:
            truth: Its labels on the network's grid.
        """
        self._watched += 1
        return CaseSums(
            period=self.levels[-1],
            patch_size=self.card.patch_size,
            labelling=self.card.labelling,
            truth=truth,
            seed=self._watched,
        )

    def add(self, name: str, sums: CaseSums) -> CaseRow:
        """Scores a case whose windows were watched.

        What a case has no numbers of, since it is too small or its logits are NaN, is noted.
        """
        self.seconds["windows"] += sums.seconds
        if sums.fault:
            self._notes.append(f"{name}: {sums.fault}, so it has no numbers")
            self._cases.append(CaseRow(case=name))
            return self._cases[-1]
        exemplar = sums.exemplar
        if exemplar and (self.cycle_spun is None or len(self._cases) < self.cycle_spun):
            exemplar = replace(exemplar, cycle_spin=self._cycle_spin(name, exemplar))
        if self._middle is None:
            self._middle = sums.middle
        if exemplar and len(self.exemplars) < self.kept:
            self.exemplars.append(exemplar)
        subjects: dict[str, Any] = {}
        if sums.region is None:
            self._notes.append(
                f"{name}: smaller than two periods {sums.period}, a margin, and the room to begin "
                "at any phase, so its maps and labels have no numbers"
            )
        else:
            for group, cases in self._moments.items():
                cases.append(sums.moments(group))
            maps = [*self._moments, *(["truth"] if sums.truth is not None else [])]
            subjects = {group: CaseMaps(sums.moments(group), self.levels) for group in maps}
            subjects["labels"] = sums
        if exemplar and exemplar.cycle_spin:
            subjects["cycle_spin"] = exemplar.cycle_spin
        values = {group: measure(group, subject)[0] for group, subject in subjects.items()}
        for entry in MEASURES:
            subject = subjects.get(entry.of[0])
            if entry.pattern and subject and (pattern := entry.pattern(subject)) is not None:
                self._patterns[entry.name].append(pattern)
        self._cases.append(CaseRow(case=name, values=values))
        return self._cases[-1]

    def amend(self, case: CaseRow) -> None:
        """Puts a case in the place of the one of the same name."""
        self._cases = [case if old.case == case.case else old for old in self._cases]

    def record(self) -> ArtifactRecord:
        """All numbers so far, with the claims over cases."""
        with bar(5, "artifacts: layers") as step:
            moments = input_moments(self.network, self.images) if self.images else None
            layers = upsampling_rows(self.network, moments)
            step(what="artifacts: gradients")
            gradients, dilated = gradient_rows(self.network), gridding_rows(self.network)
            step(what="artifacts: network")
            values = self._of_network()
            step(what="artifacts: cases")
            maps = phase_map(self._moments["prediction"])
            locked = {group: phase_locked(cases) for group, cases in self._moments.items() if cases}
            step(what="artifacts: spectra")
            spectra = self._spectra()
            step()
        groups = [row.values for row in (*layers, *gradients, *dilated)] + [values]
        groups += [group for case in self._cases for group in case.values.values()]
        return ArtifactRecord(
            period=list(self.period),
            tested_period=list(self.levels[-1]),
            measures=descriptions(name for group in groups for name in group),
            layers=layers,
            gradients=gradients,
            dilated=dilated,
            values=values,
            cases=self._cases,
            means=self._means(),
            phase_map=maps,
            **locked,
            spectra=spectra,
            notes=self._notes,
        )

    def figure_data(self) -> FigureData:
        """What its figures are drawn from besides the record."""
        return figure_data(self.network, self.middle, self.period, self.exemplars)

    @property
    def images(self) -> list[Tensor]:
        """A window `(1, channels, *window)` of each kept case, on the network's device."""
        return [exemplar.image[None].to(self._device) for exemplar in self.exemplars]

    @property
    def middle(self) -> Tensor | None:
        """Middle of the first image, `(1, channels, *window)`, which probes take."""
        return None if self._middle is None else self._middle[None].to(self._device)

    def _cycle_spin(self, name: str, exemplar: Exemplar) -> CycleSpin | None:
        image = exemplar.image[None].to(self._device)
        spun = self._attempt(
            f"{name}: no cycle-spin residual",
            lambda: cycle_spin_residual(
                self.network, image, self.period, shifts=self.shifts, seed=len(self._cases)
            ),
        )
        if spun is not None and spun.self_test > _SAME:
            self._notes.append(
                f"{name}: a shift by a whole period changes {100 * spun.self_test:.2g} % of the "
                "logits' energy, so the network does not repeat with it; the residual holds that"
            )
        return spun

    def _means(self) -> dict[str, Estimate]:
        """Sizes of the patterns that the cases share, and means over cases of what is pooled."""
        found: dict[str, Estimate | None] = {}
        for entry in MEASURES:
            if patterns := self._patterns.get(entry.name):
                found[entry.name] = shared(torch.stack(patterns), squared=entry.squared)
            elif entry.pooled:
                known = (case.get(entry.of[0], entry.name) for case in self._cases)
                values = [value for value in known if value is not None]
                found[entry.name] = estimate(values) if values else None
        return {name: one for name, one in found.items() if one is not None}

    def _of_network(self) -> Values:
        if (window := self.middle) is None:
            return {}
        values, reasons = measure("network", (self.network, window, self.period))
        for name, reason in reasons.items():
            self._note(f"no {name.replace('_', ' ')}", reason)
        return values

    def _spectra(self) -> list[AxisSpectrum]:
        contrasts = (c for exemplar in self.exemplars for c in exemplar.contrasts)
        found = self._attempt("no spectra", lambda: axis_spectra(contrasts, self.levels[-1]))
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
