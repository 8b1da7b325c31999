"""An ablation on a cluster of two nodes: arms fail, nodes and jobs are lost, time is up."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests_support import arguments

from medseg.cli.plan import main as make_plan
from medseg.record import RunRecord

from .cluster import Cluster, available, wait_until

MISSING = available()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=MISSING)]

GRID = "runs/grid"
SECONDS = 230.0  # that a command may take
ON_SLURM = [
    "hydra/launcher=slurm",
    "hydra.launcher.cpus_per_task=1",
    "hydra.launcher.mem_gb=2",
    "hydra.launcher.timeout_min=30",
]
LONG = ["trainer.epochs=150", "trainer.validate_every=50", "artifacts.follow=false"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster() as cluster:
        yield cluster


def ablate(cluster: Cluster, folder: Path, *overrides: str) -> subprocess.Popen:
    """Starts `medseg ablate` on the cluster's machine."""
    words = arguments(folder, "name=grid", *overrides)
    return subprocess.Popen(
        cluster.command(sys.executable, "-m", "medseg", "ablate", *words),
        env=cluster.environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end_of(process: subprocess.Popen) -> tuple[int, str]:
    """Its exit code and what it printed; a command that hangs is killed."""
    try:
        shown, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, shown


def records(folder: Path) -> dict[str, RunRecord]:
    return {p.parent.name: RunRecord.read(p) for p in sorted(folder.glob(f"{GRID}/*/record.json"))}


def the_run(folder: Path) -> tuple[Path, RunRecord]:
    ((name, record),) = records(folder).items()
    return folder / GRID / name, record


def jobs(folder: Path) -> set[str]:
    """The jobs that were submitted; submitit keeps what each was asked to do."""
    asked = (folder / GRID / ".submitit").glob("*/*_submitted.pkl")
    return {path.name.removesuffix("_submitted.pkl") for path in asked}


def trained_from_the_beginning(run: Path) -> int:
    """How often: a run that is continued says its first epoch once."""
    return len(re.findall(r" epoch 1/", (run / "train.log").read_text(encoding="utf-8")))


def timeless(record: RunRecord) -> list[dict[str, float | None]]:
    return [
        {key: value for key, value in row.items() if key not in ("seconds", "waiting")}
        for row in record.history
    ]


def same_weights(one: Path, other: Path) -> bool:
    states = [
        torch.load(run / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for run in (one, other)
    ]
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0] | states[1])


def test_a_failing_arm_is_named_and_what_is_completed_is_not_queued_again(
    cluster: Cluster, phantom: Path, tmp_path: Path
) -> None:
    tmp_path /= "größe 1, [zwei]=#3"
    tmp_path.mkdir()
    file = tmp_path / "plan, 1.yaml"
    assert make_plan([str(phantom), "--nnunet", "-o", str(file), f"data.cache={tmp_path}"]) == 0
    grid = [
        f"plan={file}",
        "conv@model.encoder.conv=grouped",
        "model.encoder.conv.groups=3,2",
        "seed=0,1",
    ]
    code, shown = end_of(ablate(cluster, tmp_path, *ON_SLURM, *grid))
    assert code == 2, shown
    found = records(tmp_path)
    completed = {name for name, record in found.items() if record.status == "completed"}
    failed = {name for name, record in found.items() if record.status == "failed"}
    assert [len(completed), len(failed)] == [2, 2]
    assert {found[name].exit_code for name in failed} == {2}
    assert {record.config["planned"]["text"] for record in found.values()} == {file.read_text()}
    for name in failed:
        assert f"failed: {name}: " in shown
    assert "groups=3 must divide" in shown
    assert "2 of 4 runs" in shown
    first = jobs(tmp_path)
    assert len(first) == 4
    assert end_of(ablate(cluster, tmp_path, *ON_SLURM, *grid))[0] == 2
    assert len(jobs(tmp_path) - first) == len(failed)
    again = records(tmp_path)
    assert {name: again[name] for name in completed} == {name: found[name] for name in completed}
    assert {again[name].restarts for name in failed} == {1}


def test_a_lost_job_is_tried_again_when_all_others_have_ended(
    cluster: Cluster, tmp_path: Path
) -> None:
    process = ablate(cluster, tmp_path, *ON_SLURM, *LONG, "ablation.seeds=[0,1,2,3,4]")
    wait_until(lambda: list(tmp_path.rglob("seed0-*/checkpoints/last.ckpt")), "a checkpoint", 120.0)
    (first,) = (tmp_path / GRID).glob("seed0-*")
    status = json.loads((first / "status.json").read_text(encoding="utf-8"))
    cluster.says("kill", "-9", str(status["process"]))
    code, shown = end_of(process)
    assert code == 0, shown
    found = records(tmp_path).values()
    assert {record.status for record in found} == {"completed"}
    assert [record.restarts for record in found] == [1, 0, 0, 0, 0]
    assert trained_from_the_beginning(first) == 1
    assert len(jobs(tmp_path)) == 6  # none of those that still waited for a node was queued twice


def test_a_run_survives_the_loss_of_its_node_and_ends_as_if_nothing_had_been(
    cluster: Cluster, tmp_path: Path
) -> None:
    lost, whole = tmp_path / "lost", tmp_path / "whole"
    process = ablate(cluster, lost, *ON_SLURM, *LONG)
    wait_until(lambda: list(lost.rglob("last.ckpt")), "the first checkpoint", 120.0)
    node = cluster.node_of_the_only_job()
    cluster.lose(node)
    run, record = the_run(lost)
    assert record.status == "running"
    undisturbed = ablate(cluster, whole, *LONG)
    wait_until(lambda: cluster.node_state(node).startswith("down"), f"{node} is down")
    cluster.start(node)
    code, shown = end_of(process)
    assert code == 0, shown
    code, shown = end_of(undisturbed)
    assert code == 0, shown
    assert len(jobs(lost)) == 1
    ((run, record), (other, expected)) = the_run(lost), the_run(whole)
    assert [record.status, record.restarts] == ["completed", 1]
    assert [expected.status, expected.restarts] == ["completed", 0]
    assert trained_from_the_beginning(run) == 1
    assert [row["epoch"] for row in record.history] == list(range(1, 151))
    assert timeless(record) == timeless(expected)
    assert [case.metrics for case in record.cases] == [case.metrics for case in expected.cases]
    assert same_weights(run, other)


def test_a_run_longer_than_its_job_is_queued_again_until_it_is_completed(
    cluster: Cluster, tmp_path: Path
) -> None:
    # more seconds of training than a job has; SLURM looks at its clocks twice a minute
    budget = ["trainer.max_seconds=57", "trainer.epochs=1000", "trainer.validate_every=100"]
    minute = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=1"]
    words = [*ON_SLURM[:-1], *minute, *budget, "artifacts.follow=false"]
    code, shown = end_of(ablate(cluster, tmp_path, *words))
    assert code == 0, shown
    (job,) = jobs(tmp_path)  # the same one each time
    run, record = the_run(tmp_path)
    assert record.status == "completed"
    assert record.restarts >= 1
    assert (job, "REQUEUED") in cluster.job_states()
    assert trained_from_the_beginning(run) == 1
    assert [row["epoch"] for row in record.history] == list(range(1, len(record.history) + 1))
    assert sum(row["seconds"] or 0.0 for row in record.history) >= 57
    assert json.loads((run / "status.json").read_text(encoding="utf-8"))["share"] == 1.0
