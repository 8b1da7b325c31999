"""Peak memory is the highest running sum of what is allocated and freed."""

import pytest
import torch

from medseg.analysis.memory import highest_sum, peak_memory_bytes

MIB = 2**20
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("deltas", "peak"),
    [([], 0), ([5], 5), ([5, -5, 4], 5), ([5, 3, -5, 4, -7], 8), ([-6, 2], 0)],
)
def test_the_highest_running_sum(deltas: list[int], peak: int) -> None:
    assert highest_sum(deltas) == peak


def test_what_was_freed_before_does_not_count() -> None:
    def call() -> None:
        first = torch.empty(4 * MIB, dtype=torch.uint8)
        second = torch.empty(2 * MIB, dtype=torch.uint8)
        del first
        third = torch.empty(3 * MIB, dtype=torch.uint8)
        del second, third

    assert peak_memory_bytes(call, CPU) == 6 * MIB


def test_temporaries_inside_an_operation_count() -> None:
    x = torch.ones(MIB, dtype=torch.float32)

    def call() -> None:
        (x + 1).mul(2).sum()

    assert peak_memory_bytes(call, CPU) == pytest.approx(8 * MIB, rel=0.01)
