"""What lies on disk → how far an ablation has come."""

import os
import platform
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from filelock import FileLock

from medseg.errors import DataError
from medseg.experiment.ledger import Ledger
from medseg.record import AblationPlan, Cell, RunRecord, RunStatus
from medseg.record.lock import this_machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cells = [
        Cell(folder=f"{arm}-seed{seed}", levels={"up": arm}, seed=seed, digest=f"{arm}{seed}")
        for seed in (0, 1)
        for arm in ("a", "b")
    ]
    AblationPlan(name="test", factors={"up": ["a", "b"]}, reference={"up": "a"}, cells=cells).write(
        tmp_path
    )
    return tmp_path


@pytest.fixture
def at_work():
    """Holds the lock of a run's folder, as its process does; last touched some seconds ago."""
    with ExitStack() as stack:

        def hold(place: Path, *, ago: float = 0.0, held: bool = True) -> None:
            place.mkdir(exist_ok=True)
            lock = place / ".lock"
            lock.touch()
            os.utime(lock, (time.time() - ago,) * 2)
            if held:
                stack.enter_context(FileLock(lock))

        yield hold


def tell(folder: Path, name: str, **changes) -> None:
    """A status; in containers all processes have the number of this one."""
    usual = {"status": "running", "host": platform.node(), "process": os.getpid()}
    usual |= {"at": time.time(), "machine": this_machine()}
    RunStatus(**usual | changes).write(folder / name)


def complete(folder: Path, name: str, digest: str, seconds: float = 100.0) -> None:
    record = RunRecord(name="test", status="completed", started="now", digest=digest)
    record.write(folder / name)
    tell(folder, name, status="completed", share=1.0, seconds=seconds, exit_code=0)


def states(folder: Path) -> dict[str, str]:
    return {entry.cell.folder: entry.state for entry in Ledger(folder).entries}


def test_nothing_there_is_waiting(folder: Path) -> None:
    assert set(states(folder).values()) == {"waiting"}
    assert Ledger(folder).seconds_left(1) is None


def test_every_state_is_told_apart(folder: Path, at_work) -> None:
    complete(folder, "a-seed0", "a0")
    tell(folder, "b-seed0", share=0.25, seconds=30)
    at_work(folder / "b-seed0")
    tell(folder, "a-seed1")  # dead: nobody holds its lock, whoever has its number now
    tell(folder, "b-seed1", status="failed", error="disk full", exit_code=4)
    assert list(states(folder).values()) == ["completed", "running", "silent", "failed"]


@pytest.mark.parametrize(
    ("machine", "held", "ago", "state"),
    [
        ("here", True, 0, "running"),
        ("here", True, 9999, "running"),  # its clock stands, its lock does not lie
        ("here", False, 0, "silent"),
        ("elsewhere", True, 9999, "running"),  # a file system that shares locks
        ("elsewhere", False, 60, "running"),  # one that does not: a sign of life
        ("elsewhere", False, 3600, "silent"),
        ("", False, 60, "running"),  # of an older version
        ("", False, 3600, "silent"),
    ],
)
def test_a_lock_or_a_sign_of_life_shows_that_a_run_is_at_work(
    folder: Path, at_work, machine: str, held: bool, ago: float, state: str
) -> None:
    machine = this_machine() if machine == "here" else machine
    tell(folder, "a-seed0", machine=machine, host="another container")
    at_work(folder / "a-seed0", ago=ago, held=held)
    assert states(folder)["a-seed0"] == state


def test_a_run_without_a_lock_is_dead(folder: Path) -> None:
    tell(folder, "a-seed0", machine="elsewhere")
    assert states(folder)["a-seed0"] == "silent"


def test_a_result_of_another_configuration_is_not_the_cell_s(folder: Path) -> None:
    complete(folder, "a-seed0", "a0")
    tell(folder, "a-seed0", status="completed", digest="a0", share=1.0)
    assert states(folder)["a-seed0"] == "completed"
    tell(folder, "a-seed0", status="completed", digest="longer", share=1.0)
    assert states(folder)["a-seed0"] == "failed"


def test_a_status_without_its_record_proves_nothing(folder: Path) -> None:
    tell(folder, "a-seed0", status="completed", share=1.0)
    assert states(folder)["a-seed0"] == "waiting"


def test_a_record_that_was_finished_when_the_process_died_counts(folder: Path) -> None:
    complete(folder, "a-seed0", "a0")
    tell(folder, "a-seed0")
    assert states(folder)["a-seed0"] == "completed"


def test_a_half_written_status_is_as_good_as_none(folder: Path) -> None:
    complete(folder, "a-seed0", "a0")
    (folder / "a-seed0/status.json").write_text('{"status": "comp')
    assert states(folder)["a-seed0"] == "waiting"


@pytest.mark.parametrize(("code", "retryable"), [(1, True), (2, False), (3, False), (4, True)])
def test_configuration_and_data_do_not_mend_themselves(folder: Path, code: int, retryable) -> None:
    tell(folder, "a-seed0", status="failed", error="why", exit_code=code)
    (entry,) = (e for e in Ledger(folder).entries if e.state == "failed")
    assert entry.is_retryable is retryable
    assert entry.is_unfinished


def test_the_time_left_is_that_of_the_same_arm_where_it_is_known(folder: Path, at_work) -> None:
    complete(folder, "a-seed0", "a0", seconds=100)
    complete(folder, "b-seed0", "b0", seconds=300)
    tell(folder, "a-seed1", share=0.25, seconds=25)
    at_work(folder / "a-seed1")
    ledger = Ledger(folder)
    assert ledger.seconds_left(1) == pytest.approx(0.75 * 100 + 300)
    # two side by side cannot be faster than the longest of them
    assert ledger.seconds_left(2) == pytest.approx(300)


def test_the_pace_of_a_running_one_is_all_that_is_known_at_first(folder: Path, at_work) -> None:
    tell(folder, "a-seed0", share=0.5, seconds=50)
    at_work(folder / "a-seed0")
    assert Ledger(folder).seconds_left(1) == pytest.approx(50 + 3 * 100)


def test_a_run_that_cannot_mend_takes_no_time(folder: Path) -> None:
    complete(folder, "a-seed0", "a0", seconds=100)
    for name in ("b-seed0", "b-seed1"):
        tell(folder, name, status="failed", exit_code=2, error="groups=3")
    assert Ledger(folder).seconds_left(1) == pytest.approx(100)


def test_a_folder_without_a_plan_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no ablation\.json is there"):
        Ledger(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"schema": 9}', '{"schema": 1}'])
def test_a_damaged_plan_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "ablation.json").write_text(text)
    with pytest.raises(DataError, match=r"ablation\.json: "):
        Ledger(tmp_path)
