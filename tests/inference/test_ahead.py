"""Items in turn: outcomes in their order, each its own, beside each other and within memory."""

import threading
from collections.abc import Callable
from contextlib import closing
from types import SimpleNamespace

import psutil
import pytest

from medseg.inference.ahead import Beside, in_turn
from medseg.resources import available_memory_bytes

Write = Callable[[], str]
SECONDS = 60.0  # after which a thread that waits for another has waited in vain


def outcomes(items: list[int], **stages: Callable) -> list[str]:
    with closing(in_turn(items, **stages)) as found:
        return [repr(each.exception() or each.result()) for each in found]


def test_the_next_is_read_and_the_last_is_written_while_one_is_worked_on() -> None:
    read, worked = [threading.Event() for _ in range(4)], [threading.Event() for _ in range(4)]

    def reading(item: int) -> int:
        read[item].set()
        return item

    def work(item: int, value: int, beside: Beside) -> Write:
        assert item == value
        with beside.reading(0):
            assert item == 3 or read[item + 1].wait(SECONDS)
        worked[item].set()
        # is written once the next one has been worked on, which therefore does not wait for it
        return lambda: str(item == 3 or worked[item + 1].wait(SECONDS))

    assert outcomes([0, 1, 2, 3], read=reading, work=work) == ["'True'"] * 4


def test_what_fails_is_that_items_own_failure_wherever_it_does() -> None:
    def fails(item: int, at: int) -> int:
        if item == at:
            raise ValueError(item)
        return item

    def work(item: int, value: int, beside: Beside) -> Write:
        with beside.reading(0):
            fails(item, 3)
        return lambda: str(fails(value, 5))

    found = outcomes(list(range(7)), read=lambda item: fails(item, 1), work=work)
    assert found == ["'0'", "ValueError(1)", "'2'", "ValueError(3)", "'4'", "ValueError(5)", "'6'"]


def test_reading_ahead_leaves_what_the_work_takes_and_is_tried_again_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    seen: list[tuple[int, int]] = []
    tried = [threading.Event() for _ in range(3)]

    def read(item: int) -> int:
        seen.append((item, available_memory_bytes()))
        tried[item].set()
        if seen[-1][1] < 500:
            raise MemoryError
        return item

    def work(item: int, value: int, beside: Beside) -> Write:
        with beside.reading(300 if item == 0 else 900):
            assert available_memory_bytes() == 1000  # its own promise is no reason to refuse it
            assert item == 2 or tried[item + 1].wait(SECONDS)
        return lambda: str(value)

    assert outcomes([0, 1, 2], read=read, work=work) == ["'0'", "'1'", "'2'"]
    assert seen == [(0, 1000), (1, 700), (2, 100), (2, 1000)]


def test_room_is_made_by_waiting_for_what_is_written() -> None:
    written: list[int] = []

    def work(item: int, value: int, beside: Beside) -> Write:
        beside.make_room()
        assert written == list(range(item))
        return lambda: str(written.append(item))

    assert outcomes([0, 1, 2], read=int, work=work) == ["'None'"] * 3


def test_an_interruption_leaves_what_is_being_written_whole() -> None:
    written: list[int] = []

    def work(item: int, value: int, beside: Beside) -> Write:
        if item == 1:
            raise KeyboardInterrupt
        return lambda: str(written.append(item))

    with pytest.raises(KeyboardInterrupt):
        outcomes([0, 1, 2], read=int, work=work)
    assert written == [0]
    assert not [t for t in threading.enumerate() if t.name.startswith(("read", "write"))]
