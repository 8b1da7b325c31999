"""A run that takes seconds: phantoms, a network of two stages, a handful of steps."""

from pathlib import Path

import pytest

OVERRIDES = [
    "data=phantom",
    "data.source.shape=[20,22,18]",
    "data.patch_size=[16,16,16]",
    "data.batches_per_epoch=2",
    "model.encoder.channels=[4,8]",
    "model.encoder.strides=[1,2]",
    "model.encoder.depths=1",
    "trainer.epochs=2",
    "trainer.validate_every=1",
    "trainer.device=cpu",
    "trainer.precision=fp32",
    "pictures.cases=1",
]


def arguments(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a tiny run whose data, cache and runs lie in `folder`."""
    own = [f"data.root={folder}/data", f"data.cache={folder}/cache", f"runs={folder}/runs"]
    groups = {"model=": "model.", "data=": "data.source."}
    foreign = [own for group, own in groups.items() if any(o.startswith(group) for o in overrides)]
    common = [o for o in OVERRIDES if not o.startswith(tuple(foreign))]
    return [*common, *own, *overrides]


def train(monkeypatch: pytest.MonkeyPatch, folder: Path, *overrides: str) -> int:
    """Calls `medseg train` in this process; returns its exit code."""
    return resume(monkeypatch, folder, *arguments(folder, *overrides))


def resume(monkeypatch: pytest.MonkeyPatch, folder: Path, *words: str) -> int:
    """Calls `medseg train` with these words alone; prepared cases go below `folder`."""
    from medseg.cli.train import main

    monkeypatch.setenv("MEDSEG_CACHE", f"{folder}/cache")
    return main(words)


def the_run(folder: Path) -> Path:
    """The folder of the only run."""
    (record,) = (folder / "runs").rglob("record.json")
    return record.parent
