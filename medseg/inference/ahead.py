"""Items one after another: the next is read and the last is written while this one is worked on."""

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Generic, TypeVar

from medseg.resources import promised_memory

Item = TypeVar("Item")
Value = TypeVar("Value")


class Beside(Generic[Item, Value]):
    """What goes on in other threads beside the work on one item.

    Args:
        reader: The thread that reads.
        read: Reads an item.
        following: The next item, if there is one.
        last: The last item's writing, if there is one.
    """

    def __init__(
        self,
        reader: ThreadPoolExecutor,
        read: Callable[[Item], Value],
        following: Sequence[Item],
        last: Future | None,
    ):
        self._reader, self._read = reader, read
        self._following, self._last = following, last
        self.ahead: Future[Value] | None = None

    def make_room(self) -> None:
        """Waits until what the last item holds is written and given back."""
        if self._last:
            wait([self._last])

    @contextmanager
    def reading(self, taken: int) -> Iterator[None]:
        """Reads the next item while the block runs, within the memory that the block leaves.

        Args:
            taken: Bytes that the block takes.
        """
        with promised_memory(taken):
            for item in self._following:
                self.ahead = self._reader.submit(self._read, item)
            yield


def in_turn(
    items: Sequence[Item],
    *,
    read: Callable[[Item], Value],
    work: Callable[[Item, Value, Beside], Callable[[], str]],
) -> Generator[Future[str], None, None]:
    """Works on items in their order; at most one is read ahead, and one is still being written.

    Args:
        items: What is worked on.
        read: Item → what is worked on, in a thread; once more, and then alone, where that failed:
            memory may have been short beside the network.
        work: Returns what writes the result, in a thread, and returns a line about it.

    Yields:
        The outcome of each item, in their order.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        ahead: Future[Value] | None = None
        last: Future[str] | None = None
        for number, item in enumerate(items, start=1):
            beside = Beside(reader, read, items[number : number + 1], last)
            outcome: Future[str] = Future()
            write = None
            try:
                value = read(item) if ahead is None or ahead.exception() else ahead.result()
                ahead = None
                write = work(item, value, beside)
            except Exception as error:
                outcome.set_exception(error)
            ahead, value = beside.ahead, None  # whoever writes is the last to hold it
            if last:
                wait([last])
                yield last
            last = writer.submit(write) if write else outcome
            write = None
        if last:
            wait([last])
            yield last
