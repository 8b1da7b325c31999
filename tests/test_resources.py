"""Threads and memory within the limits of the process."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from medseg import resources

# what tensors do, by the C library alone: importing torch would take most of the time
BLOCKS = """
import ctypes, psutil, resource, sys
from medseg.resources import keep_freed_memory, return_freed_memory
c, size = ctypes.CDLL(None), 32 << 20
c.malloc.restype, c.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
c.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
def step():
    block = c.malloc(size)
    c.memset(block, 1, size)
    c.free(block)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
if sys.argv[1] == "keep":
    assert keep_freed_memory()
step()
before = faults()
for _ in range(20):
    step()
print(faults() - before)
held = psutil.Process().memory_info().rss
return_freed_memory()
print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_freed_memory_is_kept_until_it_is_asked_back() -> None:
    def measured(mode: str) -> list[int]:
        command = [sys.executable, "-c", BLOCKS, mode]
        shown = subprocess.run(command, capture_output=True, text=True, check=True)
        return [int(line) for line in shown.stdout.split()]

    (few, given_back), (many, _) = measured("keep"), measured("return")
    assert few < many / 2
    assert given_back > 30 << 20


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sys", SimpleNamespace(platform="darwin")),
        ("ctypes", SimpleNamespace(CDLL=lambda _: object())),
    ],
)
def test_elsewhere_nothing_happens(monkeypatch: pytest.MonkeyPatch, name: str, value) -> None:
    monkeypatch.setattr(resources, name, value)
    assert resources.keep_freed_memory() is False


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
        monkeypatch.setattr(resources.os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
        free = SimpleNamespace(available=64 * GIB)
        monkeypatch.setattr(resources.psutil, "virtual_memory", lambda: free)

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
        assert resources.usable_cpus(write(tmp_path, files)) == cpus

    def test_slurm_counts_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
        assert resources.usable_cpus(tmp_path) == 3

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
        assert resources.available_memory_bytes(write(tmp_path, files)) == gib * GIB


@pytest.mark.parametrize("kind", ["RLIMIT_AS", "RLIMIT_DATA"])
def test_a_limit_of_the_process_itself_counts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted, before = getattr(resources.resource, kind), resources.available_memory_bytes()
    taken = resources.psutil.Process().memory_info().vms

    def limited(of: int) -> tuple[int, int]:
        soft = taken + 64 * 2**20 if of == wanted else resources.resource.RLIM_INFINITY
        return soft, resources.resource.RLIM_INFINITY

    monkeypatch.setattr(resources.resource, "getrlimit", limited)
    assert resources.available_memory_bytes() < before
    if kind == "RLIMIT_AS":
        assert resources.available_memory_bytes() <= 64 * 2**20


class TestThreads:
    @pytest.mark.parametrize(("cpus", "wanted"), [(1, 1), (10**6, 0)])
    def test_torch_takes_no_more_than_there_are(
        self, monkeypatch: pytest.MonkeyPatch, cpus: int, wanted: int
    ) -> None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        monkeypatch.setattr(resources, "usable_cpus", lambda: cpus)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(2)
            resources.limit_threads()
            assert torch.get_num_threads() == (wanted or 2)
        finally:
            torch.set_num_threads(before)
