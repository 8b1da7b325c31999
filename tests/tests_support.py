"""A run that takes seconds: phantoms, a network of two stages, a handful of steps."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
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
SWAPS = [
    "conv@model.encoder.conv=dilated",
    "model.encoder.conv.dilation=3",
    "conv@model.decoder.conv=grouped",
    "model.decoder.conv.groups=2",
    "upsample@model.decoder.upsample=bilinear",
    "downsample@model.encoder.downsample=max_pool",
    "model.encoder.unit.dropout=0.2",
    "scheduler=constant",
]
"""Blocks of the run of the fixture `finished`; a longer run begins as it does."""

QUICK = ["artifacts.follow=false", "artifacts.cases=0", "pictures.cases=0"]
"""Leaves out what is measured and drawn beside the training."""


def arguments(folder: Path, *overrides: str) -> list[str]:
    """Overrides of a tiny run whose data, cache and runs lie in `folder`."""
    own = [f"data.root={folder}/data", f"data.cache={folder}/cache", f"runs={folder}/runs"]
    groups = {"model=": "model.", "data=": "data.source."}
    foreign = [own for group, own in groups.items() if any(o.startswith(group) for o in overrides)]
    common = [o for o in OVERRIDES if not o.startswith(tuple(foreign))]
    return [*common, *own, *overrides]


def train(folder: Path, *overrides: str) -> int:
    """Calls `medseg train` for a tiny run in this process; returns its exit code."""
    from medseg.cli.train import main

    return main(arguments(folder, *overrides))


def resume(run: Path, *words: str) -> int:
    """Continues a run in this process, its prepared cases where they were; returns the code."""
    from medseg.cli.train import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDSEG_CACHE", str(run.parents[2] / "cache"))
        return main([f"resume={run}", *words])


def when(happened: Callable[[], object], act: Callable[[], object]) -> threading.Thread:
    """Acts beside the main thread as soon as something has happened, within two minutes."""

    def watch() -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = False
            with suppress(FileNotFoundError):  # a folder that went while it was looked through
                found = happened()
            if found:
                act()
                return
            time.sleep(0.02)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def the_run(folder: Path) -> Path:
    """The folder of the only run."""
    (record,) = (folder / "runs").rglob("record.json")
    return record.parent
