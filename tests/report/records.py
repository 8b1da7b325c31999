"""Synthetic records: plausible numbers, one arm of an ablation, a failed run, a bare one."""

import base64
import io
from typing import Any

import numpy as np
from PIL import Image

from medseg.record import (
    AblationPlan,
    ArtifactRecord,
    CaseRecord,
    CaseRow,
    Cell,
    Estimate,
    LayerRow,
    Measure,
    PhaseLocked,
    Picture,
    RunRecord,
)

UPSAMPLE = "upsample@model.decoder.upsample"
BLOCKS = {
    "transposed": "Transposed(kernel_size=3)",
    "trilinear": "Interpolate(mode='linear')",
    "pixel_shuffle": "PixelShuffle(icnr=True)",
    "nearest": "Interpolate(mode='nearest')",
}
# upsampling: mean Dice, DC-gain imbalance of the two layers, constant response, seconds per step
NUMBERS = {
    "transposed": (0.861, (0.412, 0.684), 0.083, 0.412),
    "trilinear": (0.868, (0.0, 0.0), 3.1e-7, 0.455),
    "pixel_shuffle": (0.857, (0.031, 0.122), 0.019, 0.438),
    "nearest": (0.8645, (0.0, 0.0), 4.4e-7, 0.431),
}


def png(seed: int = 0, size: int = 96, pattern: float = 0.0) -> str:
    """A grey blob with a red outline, in base64."""
    generator = np.random.default_rng(seed)
    i, j = np.mgrid[:size, :size] / size - 0.5
    radius = np.hypot(i * 1.3, j + 0.08 * np.sin(9 * i))
    grey = 60 + 120 * (radius < 0.3) + generator.normal(0, 12, (size, size))
    grey += pattern * 60 * ((np.indices((size, size)).sum(0) % 2) - 0.5)
    colour = np.repeat(np.clip(grey, 0, 255)[..., None], 3, axis=2).astype(np.uint8)
    colour[np.abs(radius - 0.3) < 0.012] = (240, 120, 60)
    stream = io.BytesIO()
    Image.fromarray(colour).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def artifacts(upsample: str = "transposed", seed: int = 0) -> ArtifactRecord:
    """What 12 cases print, in proportion to the response to a constant."""
    _, gains, response, _ = NUMBERS[upsample]
    cases = [
        CaseRow(
            case=f"hippocampus_{index:03d}",
            values={
                "prediction": {"gain": response * (1 + 0.1 * index)},
                "image": {"gain": 0.002},
                "cycle_spin": {
                    "cycle_spin": response**2,
                    "cycle_spin_locked": 0.6 * response**2,
                    "cycle_spin_self_test": 0.0,
                },
            },
        )
        for index in range(12)
    ]
    mean = response * (1.55 + 0.1 * seed)
    return ArtifactRecord(
        period=[8, 8, 8],
        layers=[
            LayerRow(
                layer=f"decoder.upsamples.{place}",
                operator=BLOCKS[upsample],
                stride=[2, 2, 2],
                values={"dc_gain": gain, "dc_gain_mean": gain / 9},
            )
            for place, gain in enumerate(gains)
        ],
        measures={
            name: Measure(title=title, unit="", meaning="", level="cases", of=[], headline=True)
            for name, title in (
                ("dc_gain", "DC-gain imbalance"),
                ("gain", "Gain κ"),
                ("cycle_spin", "Cycle-spin residual"),
            )
        },
        values={"constant_response": response * (1 + 0.1 * seed)},
        cases=cases,
        means={
            "gain": Estimate(mean=mean, cases=12, low=0.9 * mean, high=1.1 * mean),
            "cycle_spin": Estimate(mean=response**2, cases=12, low=0.0, high=response),
        },
        prediction=PhaseLocked(
            cases=12, p_value=0.001 if response > 0.01 else 0.48, r_squared=response, coherence=0.9
        ),
        image=PhaseLocked(
            cases=12,
            p_value=0.61,
            r_squared=1e-4,
            coherence=0.08,
            gain=Estimate(mean=0.0, cases=12, low=0.0, high=0.002, shared=True),
        ),
    )


def finished(upsample: str = "transposed", seed: int = 0, **changes: Any) -> RunRecord:
    """A completed run on 12 cases and two classes."""
    dice, gains, response, step = NUMBERS[upsample]
    generator = np.random.default_rng([seed, list(BLOCKS).index(upsample)])
    ease = np.random.default_rng(7).normal(0, 0.025, 12)

    def case(index: int) -> CaseRecord:
        value = dice + ease[index] + generator.normal(0, 0.006)
        metrics = {
            name: {
                "dice": round(value - shift, 5),
                "surface_dice": round(value + 0.06 - shift, 5),
                "hd95_mm": round(2.1 + 14 * (0.9 - value), 4),
            }
            for name, shift in (("anterior", -0.008), ("posterior", 0.008))
        }
        if index == 11:
            metrics["posterior"] = dict.fromkeys(metrics["posterior"], None)
        return CaseRecord(case=f"hippocampus_{index:03d}", metrics=metrics)

    epochs = np.arange(60)
    curve = dice * (1 - np.exp(-(epochs + 1) / 9)) + generator.normal(0, 0.008, 60)
    loss = 1.6 * np.exp(-epochs / 12) + 0.22 + generator.normal(0, 0.015, 60)
    fields: dict[str, Any] = {
        "name": "ablation_upsample",
        "status": "completed",
        "started": f"2026-03-0{1 + seed}T1{list(BLOCKS).index(upsample)}:00:00+00:00",
        "finished": "2026-03-03T12:00:00+00:00",
        "command": ["medseg", "ablate", "ablation_upsample"],
        "choices": {
            "encoder.conv": "standard",
            "decoder.conv": "standard",
            "decoder.upsample": upsample,
        },
        "blocks": {
            "encoder.conv": "Standard(kernel_size=3)",
            "decoder.conv": "Standard(kernel_size=3)",
            "decoder.upsample": BLOCKS[upsample],
        },
        "overrides": [f"{UPSAMPLE}={upsample}", f"seed={seed}"],
        "config": {
            "seed": seed,
            "optimizer": {"lr": 0.001},
            "model": {"decoder": {"upsample": {"_target_": upsample}}},
            "paths": {"output": f"runs/{upsample}/{seed}"},
        },
        "versions": {"medseg": "0.1.0", "torch": "2.13.0", "monai": "1.6.1"},
        "machine": {"device": "cpu", "cpu": "EPYC", "threads": 2, "precision": "32-true"},
        "seed": seed,
        "dataset": "hippocampus",
        "classes": ["anterior", "posterior"],
        "split": {
            "train": [f"hippocampus_{i:03d}" for i in range(12, 60)],
            "validation": [f"hippocampus_{i:03d}" for i in range(12)],
        },
        "parameters": {"transposed": 1_472_115, "pixel_shuffle": 1_893_459}.get(
            upsample, 1_389_171
        ),
        "macs": {"transposed": 4_502_000_000, "pixel_shuffle": 5_310_000_000}.get(
            upsample, 4_128_000_000
        ),
        "patch_size": [32, 48, 32],
        "seconds": {"train": 60 * 12 * step * 4, "validation": 90, "total": 1300, "step": step},
        "peak_memory_bytes": 1_288_490_188,
        "history": [
            {"epoch": int(e) + 1, "train_loss": float(loss[e]), "val_dice": float(curve[e])}
            for e in epochs
        ],
        "cases": [case(index) for index in range(12)],
        "artifacts": artifacts(upsample, seed),
        "artifact_history": [
            {
                "epoch": epoch,
                "dc_gain_mean": gains[1] / (1 + epoch),
                "constant_response": response * (1 + 9 / (1 + epoch)),
                "cycle_spin": None,
            }
            for epoch in (0, 20, 40, 60)
        ],
        "pictures": [
            Picture(
                case=f"hippocampus_{index:03d}",
                caption=f"axial slice {21 + index}, label and prediction",
                png=png(index, pattern=gains[1]),
            )
            for index in (0, 1)
        ],
    }
    return RunRecord(**fields | changes)


def cell(folder: str, upsample: str, seed: int) -> Cell:
    """The cell of a plan that a finished run fills."""
    return Cell(
        folder=folder, levels={"upsampling": upsample}, seed=seed, digest=f"{upsample}{seed}"
    )


def plan(*cells: Cell, **changes: Any) -> AblationPlan:
    """A plan over the upsampling."""
    fields: dict[str, Any] = {
        "name": "ablation_upsample",
        "factors": {"upsampling": list(BLOCKS)},
        "reference": {"upsampling": "transposed"},
        "cells": list(cells),
        "command": ["medseg", "ablate", "ablation_upsample"],
    }
    return AblationPlan(**fields | changes)


def failed(**changes: Any) -> RunRecord:
    """A run that died before its network was built."""
    fields: dict[str, Any] = {
        "name": "ablation_upsample",
        "status": "failed",
        "started": "2026-03-01T13:00:00+00:00",
        "error": "groups=8 must divide in_channels=6; choose channels that are multiples of 8",
        "choices": finished("nearest").choices,
        "overrides": finished("nearest", 1).overrides,
        "seed": 1,
    }
    return RunRecord(**fields | changes)


def simple(dice: dict[str, float | None], **changes: Any) -> RunRecord:
    """A completed run with one class whose Dice by case is given."""
    cases = [
        CaseRecord(case=name, metrics={"organ": {"dice": value}}) for name, value in dice.items()
    ]
    fields: dict[str, Any] = {
        "name": "plain",
        "status": "completed",
        "started": "2026-01-01T00:00:00+00:00",
        "dataset": "phantom",
        "classes": ["organ"],
        "cases": cases,
    }
    return RunRecord(**fields | changes)
