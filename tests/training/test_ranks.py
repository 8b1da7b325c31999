"""Several processes do what one does, and end together."""

import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from tests_support import QUICK, resume, the_run, train, when

from medseg.data.datamodule import SegmentationDataModule
from medseg.data.patches import EpochSampler
from medseg.errors import ConfigError
from medseg.record import RunRecord
from medseg.training.ranks import require_shares

TWO = "trainer.devices=2"
_OWN = "this"
SHORT = [*QUICK, "data.batch_size=4", "data.source.cases=6", "data.validation_fraction=0.5"]
SHORT += ["optimizer.lr=0.01"]  # three held-out cases are no multiple of two processes


def weights(run: Path) -> dict[str, Any]:
    return load_file(run / "model" / "weights.safetensors")


@given(batches=st.integers(1, 5), own=st.integers(1, 4), ranks=st.integers(1, 4))
def test_the_shares_of_all_processes_are_the_batches_of_one(batches, own, ranks) -> None:
    size = own * ranks
    whole = list(EpochSampler(batches, size, range(size), lambda: 3))
    parts = [
        list(EpochSampler(batches, size, range(own * rank, own * (rank + 1)), lambda: 3))
        for rank in range(ranks)
    ]
    for batch in range(batches):
        shared = [index for part in parts for index in part[batch * own : (batch + 1) * own]]
        assert shared == whole[batch * size : (batch + 1) * size]


@given(cases=st.integers(1, 9), ranks=st.integers(1, 4))
def test_each_validation_case_counts_once_and_processes_have_equally_many(cases, ranks) -> None:
    prepared = [SimpleNamespace(image=n, label=n, case_id=f"c{n}") for n in range(cases)]
    parts = []
    for rank in range(ranks):
        data = SegmentationDataModule.__new__(SegmentationDataModule)
        data.__dict__ |= {"_validation": prepared, "_log_hyperparams": False}
        data.trainer = SimpleNamespace(global_rank=rank, world_size=ranks)  # type: ignore[assignment]
        parts.append(list(data.val_dataloader()))
    assert len({len(part) for part in parts}) == 1
    counted = [batch["case"][0] for part in parts for batch in part if batch["counts"]]
    assert sorted(counted) == [f"c{n}" for n in range(cases)]


@given(size=st.integers(1, 40), ranks=st.integers(1, 8))
def test_a_batch_that_cannot_be_shared_is_refused_with_one_that_can(size, ranks) -> None:
    if size % ranks == 0:
        require_shares(size, ranks)
        return
    with pytest.raises(ConfigError, match=f"={size} cannot") as refused:
        require_shares(size, ranks)
    offered = int(str(refused.value).partition("choose ")[2].partition(",")[0])
    require_shares(offered, ranks)


@pytest.mark.parametrize(
    "words", [["data.batch_size=3"], ["trainer.max_seconds=5"], ["trainer.devices=0"]]
)
def test_what_processes_cannot_share_is_refused_before_anything_is_written(
    tmp_path: Path, words: list[str]
) -> None:
    assert train(tmp_path, *QUICK, TWO, *words) == 2
    assert not (tmp_path / "runs").exists()


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    assert train(tmp_path / "one", *SHORT) == 0
    assert train(tmp_path / "two", *SHORT, TWO) == 0
    one, two = the_run(tmp_path / "one"), the_run(tmp_path / "two")
    for name, value in weights(one).items():
        assert weights(two)[name].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-4), name
    records = [RunRecord.read(run / "record.json") for run in (one, two)]
    for key in ("train_loss", "val_dice"):
        curves = [[row[key] for row in record.history] for record in records]
        assert curves[1] == pytest.approx(curves[0], rel=1e-3, abs=1e-3)
    assert [case.case for case in records[1].cases] == [case.case for case in records[0].cases]
    assert [record.machine["processes"] for record in records] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("of_first", [False, True], ids=["killed", "told to stop"])
def test_a_run_whose_process_ends_ends_and_goes_on_bit_for_bit(
    tmp_path: Path, of_first: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*SHORT, TWO, "trainer.epochs=6", "data.batches_per_epoch=6"]
    assert train(tmp_path / "whole", *words) == 0
    last = "checkpoints/last.ckpt"

    def end() -> None:
        this = psutil.Process()
        others = [p for p in this.children() if "medseg.experiment.processes" in p.cmdline()]
        this.send_signal(signal.SIGTERM) if of_first else others[0].kill()

    watch = when(lambda: list((tmp_path / "cut").rglob(last)), end)
    code = train(tmp_path / "cut", *words)
    watch.join()
    assert code == (143 if of_first else 4)
    said = capsys.readouterr().err.splitlines()
    assert sum(line.startswith("error:") for line in said) <= 1
    assert not [p for p in psutil.Process().children() if "processes" in " ".join(p.cmdline())]
    run = the_run(tmp_path / "cut")
    assert resume(run) == 0
    whole = weights(the_run(tmp_path / "whole"))
    assert all(value.equal(whole[name]) for name, value in weights(run).items())


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for a SLURM job of two nodes: `srun` starts its command here, and says where."""
    said = tmp_path / "started.txt"
    commands = {
        "scontrol": f"[ \"$1 $2 $3\" = 'show hostnames n[1-2]' ] && printf '{_OWN}\\nother\\n'",
        "srun": f'echo "$@" >> "{said}"; while [ "${{1#--}}" != "$1" ]; do shift; done; exec "$@"',
    }
    for name, body in commands.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    monkeypatch.setenv("SLURMD_NODENAME", _OWN)
    return said


def test_two_nodes_train_as_two_processes_of_one(tmp_path: Path, cluster: Path) -> None:
    assert train(tmp_path / "one", *SHORT, TWO) == 0
    assert not cluster.exists()
    assert train(tmp_path / "two", *SHORT, "trainer.nodes=2") == 0
    assert "--nodelist=other" in cluster.read_text()
    one, two = (weights(the_run(tmp_path / name)) for name in ("one", "two"))
    for name, value in one.items():
        assert two[name].numpy() == pytest.approx(value.numpy(), rel=1e-3, abs=1e-4), name


@pytest.mark.parametrize("nodes", [2, 3])
def test_nodes_that_are_not_there_are_refused_before_anything_is_written(
    tmp_path: Path, nodes: int, request: pytest.FixtureRequest
) -> None:
    if nodes == 3:
        request.getfixturevalue("cluster")
    assert train(tmp_path, *QUICK, "data.batch_size=6", f"trainer.nodes={nodes}") == 4
    assert not (tmp_path / "runs").exists()
