"""A synthetic ablation on disk: a plan, and records whose values are planted."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from medseg.record import (
    AblationPlan,
    ArtifactRecord,
    CaseRecord,
    CaseRow,
    Cell,
    Estimate,
    LayerRow,
    PhaseLocked,
    RunRecord,
    digest,
)
from medseg.record.checkerboard import AxisSpectrum, PhaseMap

FACTORS = {
    "convolution": ["standard", "dilated", "depthwise"],
    "upsampling": ["transposed", "trilinear", "nearest", "pixel_shuffle"],
}


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is planted.

    Args:
        factors: Factor → levels; the first levels make the reference.
        seeds: Of every arm.
        folds: None for a single split.
        cases: Of validation; a fold has its share of them.
        effects: Level → what it adds to Dice.
        interaction: What the last levels of the first two factors add together.
        case_sd: Between cases.
        run_sd: Between trainings of an arm.
        noise_sd: Of training × case.
    """

    factors: Mapping[str, Sequence[str]] = field(default_factory=lambda: FACTORS)
    seeds: int = 3
    folds: int | None = None
    cases: int = 20
    effects: Mapping[str, float] = field(default_factory=dict)
    interaction: float = 0.0
    case_sd: float = 0.04
    run_sd: float = 0.002
    noise_sd: float = 0.006
    epochs: int = 30

    def arms(self) -> list[dict[str, str]]:
        """Levels of every arm."""
        levels = itertools.product(*self.factors.values())
        return [dict(zip(self.factors, chosen, strict=True)) for chosen in levels]

    def planted(self, levels: Mapping[str, str]) -> float:
        """Expected Dice of an arm."""
        both = [levels[f] == names[-1] for f, names in list(self.factors.items())[:2]]
        extra = self.interaction if len(both) == 2 and all(both) else 0.0
        return 0.86 + extra + sum(self.effects.get(level, 0.0) for level in levels.values())


def write_ablation(folder: Path, design: Design, *, name: str = "grid", **plan: Any) -> list[Path]:
    """Writes the plan and every record; returns the run folders in the order of the plan.

    Args:
        folder: Of the ablation.
        design: What is planted.
        name: Of the plan and the runs.
        **plan: Fields of the plan that differ from the design's.
    """
    cells, folders = [], []
    repetitions = list(
        itertools.product(
            range(design.seeds), [None] if design.folds is None else range(design.folds)
        )
    )
    for number, levels in enumerate(design.arms()):
        for seed, fold in repetitions:
            made = record(design, levels, number=number, seed=seed, fold=fold, name=name)
            place = "-".join(
                [*levels.values(), f"seed{seed}", *([f"fold{fold}"] * (fold is not None))]
            )
            made.write(folder / place)
            folders.append(folder / place)
            cells.append(
                Cell(
                    folder=place,
                    levels=levels,
                    seed=seed,
                    fold=fold,
                    digest=made.digest,
                    overrides=[f"{factor}={level}" for factor, level in levels.items()],
                )
            )
    fields: dict[str, Any] = {
        "name": name,
        "factors": {factor: list(levels) for factor, levels in design.factors.items()},
        "reference": {factor: levels[0] for factor, levels in design.factors.items()},
        "cells": cells,
        "command": ["medseg", "ablate", name],
    }
    AblationPlan(**fields | plan).write(folder)
    return folders


def record(
    design: Design,
    levels: Mapping[str, str],
    *,
    number: int = 0,
    seed: int = 0,
    fold: int | None = None,
    name: str = "grid",
) -> RunRecord:
    """One completed run of an arm."""
    generator = np.random.default_rng([number, seed, fold or 0])
    ease = np.random.default_rng(7).normal(0, design.case_sd, design.cases)
    held = range(design.cases) if fold is None else range(fold, design.cases, design.folds or 1)
    base = design.planted(levels) + generator.normal(0, design.run_sd)
    values = {c: base + ease[c] + generator.normal(0, design.noise_sd) for c in held}
    config = {
        "seed": seed,
        "data": {"fold": fold or 0, "split_seed": 0},
        "trainer": {"epochs": design.epochs},
        "model": {factor: {"kind": level} for factor, level in levels.items()},
    }
    parameters = 400_000 + 150_000 * (number % 7) + 61_000 * (number % 3)
    macs = 3_000 * parameters
    step = 0.4 * macs / 1.2e9 * (1 + 0.2 * math.sin(number)) + generator.normal(0, 0.002)
    curve = base * (1 - np.exp(-(np.arange(design.epochs) + 1) / (design.epochs / 6)))
    return RunRecord(
        name=name,
        status="completed",
        started=(datetime(2026, 3, 1 + seed) + timedelta(seconds=number)).isoformat() + "+00:00",
        finished="2026-03-09T12:00:00+00:00",
        exit_code=0,
        command=["medseg", "ablate", name],
        choices={f"model.{factor}": level for factor, level in levels.items()},
        blocks={f"model.{factor}": f"{level.title()}()" for factor, level in levels.items()},
        overrides=[
            "data=phantom",
            *(f"{f}={level}" for f, level in levels.items()),
            f"seed={seed}",
        ],
        digest=digest(config),
        levels=dict(levels),
        config=config,
        versions={"medseg": "0.1.0", "torch": "2.13.0"},
        machine={"device": "cpu", "cpu": "EPYC", "threads": 2, "precision": "32-true", "host": "a"},
        seed=seed,
        fold=fold,
        dataset="phantom",
        classes=["core", "rim"],
        split={
            "train": [f"train_{c:03d}" for c in range(40)],
            "validation": [f"case_{c:03d}" for c in held],
        },
        parameters=parameters,
        macs=macs,
        predicted_memory_bytes=400 * parameters,
        memory_before_bytes=300 * 2**20,
        patch_size=[32, 32, 32],
        seconds={"train": 60 * step, "validation": 9.0, "total": 70 * step, "step": step},
        peak_memory_bytes=300 * 2**20 + int(430 * parameters * generator.uniform(0.9, 1.2)),
        history=[
            {"epoch": e + 1, "train_loss": float(1.2 - curve[e]), "val_dice": float(curve[e])}
            for e in range(design.epochs)
        ],
        cases=[_case(c, value) for c, value in values.items()],
        artifacts=_artifacts(number, seed),
    )


def planted_better(design: Design) -> list[dict[str, str]]:
    """Arms that are truly better than the reference by more than a hundredth."""
    arms = design.arms()
    least = design.planted(arms[0]) + 0.01
    return [levels for levels in arms if design.planted(levels) > least]


def _case(place: int, value: float) -> CaseRecord:
    metrics: dict[str, dict[str, float | None]] = {
        name: {
            "dice": round(value + shift, 5),
            "surface_dice": round(value + shift + 0.04, 5),
            "hd95_mm": round(2 + 30 * (0.95 - value - shift), 4),
        }
        for name, shift in (("core", 0.01), ("rim", -0.01))
    }
    return CaseRecord(case=f"case_{place:03d}", metrics=metrics)


def _artifacts(number: int, seed: int) -> ArtifactRecord:
    gain = 0.004 * (number % 9) + 0.001 * (1 + seed)
    phases = 1 + gain * np.cos(np.pi * np.arange(4))
    frequencies = np.arange(17)
    lines = -20 - 0.8 * frequencies + 60 * gain * (frequencies % 16 == 0)
    return ArtifactRecord(
        period=[2, 2],
        tested_period=[2, 2],
        layers=[
            LayerRow(
                layer="up.0",
                operator="Up",
                stride=[2, 2],
                values={"dc_gain": 0.02 * (number % 9), "dc_gain_mean": gain},
            )
        ],
        values={"constant_response": 0.004 * (number % 9)},
        cases=[
            CaseRow(
                case=f"case_{place:03d}",
                values={
                    "prediction": {"gain": gain},
                    "image": {"gain": 0.001},
                    "cycle_spin": {"cycle_spin": gain / 4},
                },
            )
            for place in range(8)
        ],
        means={
            "gain": Estimate(mean=gain, cases=8, low=0.9 * gain, high=1.1 * gain),
            "cycle_spin": Estimate(mean=gain / 4, cases=8, low=0.2 * gain, high=0.3 * gain),
        },
        prediction=PhaseLocked(cases=8, p_value=0.01, r_squared=gain, coherence=0.8),
        phase_map=PhaseMap(period=[2, 2], values=[round(float(p), 5) for p in phases], cases=8),
        spectra=[AxisSpectrum(axis=0, period=2, bins=32, decibel=[float(x) for x in lines])],
    )
