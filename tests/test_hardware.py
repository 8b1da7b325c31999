"""Devices by one vocabulary, threads and memory within the limits of the process."""

import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medseg import hardware
from medseg.errors import ConfigError, ResourceError

FAULTS = textwrap.dedent(
    """
    import resource, sys, torch
    from medseg.hardware import keep_freed_memory
    if sys.argv[1] == "keep":
        assert keep_freed_memory()
    def step():
        torch.empty(8 << 20).fill_(1.0)  # 32 MiB
    step()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        step()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_a_block_of_the_same_size_costs_page_faults_once() -> None:
    faults = {
        mode: int(subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True,
                                 text=True, check=True).stdout)
        for mode in ("keep", "return")
    }  # fmt: skip
    assert faults["keep"] < faults["return"] / 2


def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.sys, "platform", "darwin")
    assert hardware.keep_freed_memory() is False


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware.ctypes, "CDLL", lambda name: object())
    assert hardware.keep_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_what_is_kept_is_given_back_on_request() -> None:
    code = textwrap.dedent(
        """
        import psutil, torch
        from medseg.hardware import keep_freed_memory, return_freed_memory
        keep_freed_memory()
        held = [torch.ones(8 << 20) for _ in range(8)]  # 256 MiB
        del held
        before = psutil.Process().memory_info().rss
        return_freed_memory()
        print(before - psutil.Process().memory_info().rss)
        """
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(shown.stdout) > 200 << 20


class TestDevice:
    @pytest.fixture
    def gpus(self, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
        return request.param

    @pytest.mark.parametrize("device", ["meta", "mps", "cuda:", "cuda:x", "", "cpu:0", None])
    def test_an_unknown_name_is_refused(self, device: str) -> None:
        with pytest.raises(ConfigError, match=f"trainer.device={device!r} must be one of auto"):
            hardware.choose_device(device, key="trainer.device")

    @pytest.mark.parametrize(
        ("gpus", "device"),
        [(0, "cuda"), (0, "gpu"), (0, "cuda:0"), (2, "cuda:2")],
        indirect=["gpus"],
    )
    def test_a_gpu_that_is_not_there_is_refused(self, gpus: int, device: str) -> None:
        with pytest.raises(ResourceError, match=f"device={device}, but torch sees {gpus} GPUs"):
            hardware.choose_device(device)

    @pytest.mark.parametrize(
        ("gpus", "device", "chosen"),
        [(0, "auto", "cpu"), (1, "auto", "cuda"), (1, "cpu", "cpu"), (2, "cuda:1", "cuda:1")],
        indirect=["gpus"],
    )
    def test_a_device_is_found_by_its_name(self, gpus: int, device: str, chosen: str) -> None:
        assert hardware.choose_device(device) == torch.device(chosen)

    @pytest.mark.parametrize("gpus", [1], indirect=True)
    def test_the_old_word_works_and_the_new_one_is_named(
        self, gpus: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert hardware.choose_device("gpu") == torch.device("cuda")
        assert "device=cuda" in caplog.text


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


VERSION_2 = {"proc/self/cgroup": "0::/job/step\n", "sys/fs/cgroup/job/step/x": ""}
VERSION_1 = {"proc/self/cgroup": "5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n"}
GIB = 2**30


class TestControlGroups:
    @pytest.fixture(autouse=True)
    def machine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Eight CPUs and 64 GiB, without SLURM."""
        monkeypatch.setattr(hardware.os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        free = SimpleNamespace(available=64 * GIB)
        monkeypatch.setattr(hardware.psutil, "virtual_memory", lambda: free)

    @pytest.mark.parametrize(
        ("files", "cpus"),
        [
            ({}, 8),
            (VERSION_2, 8),
            (VERSION_2 | {"sys/fs/cgroup/job/step/cpu.max": "max 100000"}, 8),
            (VERSION_2 | {"sys/fs/cgroup/job/step/cpu.max": "350000 100000"}, 3),
            (VERSION_2 | {"sys/fs/cgroup/job/cpu.max": "50000 100000"}, 1),
            (VERSION_2 | {"sys/fs/cgroup/cpu.max": "1600000 100000"}, 8),
            (
                VERSION_1
                | {
                    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "200000",
                    "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000",
                },
                2,
            ),
            (
                VERSION_1
                | {
                    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
                },
                8,
            ),
        ],
    )
    def test_cpus(self, tmp_path: Path, files: dict[str, str], cpus: int) -> None:
        assert hardware.usable_cpus(write(tmp_path, files)) == cpus

    def test_slurm_counts_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
        assert hardware.usable_cpus(tmp_path) == 3

    @pytest.mark.parametrize(
        ("files", "gib"),
        [
            ({}, 64),
            (
                VERSION_2
                | {
                    "sys/fs/cgroup/job/memory.max": f"{8 * GIB}",
                    "sys/fs/cgroup/job/memory.current": f"{5 * GIB}",
                    "sys/fs/cgroup/job/memory.stat": f"anon 5\ninactive_file {GIB}\n",
                },
                4,
            ),
            (
                VERSION_2
                | {
                    "sys/fs/cgroup/job/step/memory.max": "max",
                    "sys/fs/cgroup/job/step/memory.current": f"{5 * GIB}",
                },
                64,
            ),
            (
                VERSION_1
                | {
                    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GIB}",
                    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{3 * GIB}",
                },
                0,
            ),
        ],
    )
    def test_memory(self, tmp_path: Path, files: dict[str, str], gib: int) -> None:
        assert hardware.available_memory_bytes(write(tmp_path, files)) == gib * GIB


class TestThreads:
    @pytest.mark.parametrize(("cpus", "wanted"), [(1, 1), (10**6, 0)])
    def test_torch_takes_no_more_than_there_are(
        self, monkeypatch: pytest.MonkeyPatch, cpus: int, wanted: int
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(hardware, "usable_cpus", lambda: cpus)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            hardware.limit_threads()
            assert torch.get_num_threads() == (wanted or 2)
        finally:
            torch.set_num_threads(before)
