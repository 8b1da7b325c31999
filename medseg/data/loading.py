"""A loader that knows how long it was waited for, and what ended its processes."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.data import DataLoader

from medseg.errors import MedsegError, ResourceError


class TimedLoader(DataLoader):
    """Knows how long its batches were waited for."""

    waited = 0.0

    def __iter__(self) -> Iterator:
        batches = super().__iter__()
        while True:
            start = time.perf_counter()
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - start
            yield batch


_LOADER_WORDS = ("DataLoader worker (pid", "</torch_")  # the second: files in shared memory


@contextmanager
def loader_faults() -> Iterator[None]:
    """Says what ended the loader processes; torch notices it at any step.

    Raises:
        MedsegError: as it was raised in one.
        ResourceError: one was killed, or shared memory is too small.
    """
    try:
        yield
    except MedsegError as error:
        # torch hands an error on with the loader's trace as its text
        trace, _, said = str(error).rpartition(f"{type(error).__name__}: ")
        raise (type(error)(said.strip()) if "Traceback" in trace else error) from error.__cause__
    except (RuntimeError, ConnectionError, EOFError) as error:
        # the latter two: it died while it handed a batch over
        said = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, RuntimeError) and not any(words in said for words in _LOADER_WORDS):
            raise
        said = said.rpartition("RuntimeError: ")[2]  # without the loader's trace
        raise ResourceError(
            f"a loader process ended ({said[:200]}): memory or shared memory (/dev/shm, docker "
            "--shm-size) is short; go on with resume= and a smaller data.num_workers, 0 for none"
        ) from error
