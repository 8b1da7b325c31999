"""Freed memory stays with the process."""

import subprocess
import sys
import textwrap

import pytest

from medseg import allocator

FAULTS = textwrap.dedent(
    """
    import resource, sys, torch
    from medseg.allocator import keep_freed_memory
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
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert allocator.keep_freed_memory() is False


def test_a_c_library_without_the_setting_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's setting")
def test_what_is_kept_is_given_back_on_request() -> None:
    code = textwrap.dedent(
        """
        import psutil, torch
        from medseg.allocator import keep_freed_memory, return_freed_memory
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
