"""The further processes of a run: started by the first, fed by it, and ended with it.

`python -m medseg.experiment.processes` reads on stdin what to train, says when its data are ready,
and trains its share. It ends when stdin does, so none outlives the first process. Only the first
writes, answers signals, and says what went wrong. On other nodes of a SLURM job, `srun` hands both
streams on.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist

from medseg.data.splits import Split
from medseg.errors import MedsegError, ResourceError
from medseg.experiment.fit import fit, module_of
from medseg.experiment.nodes import node_names, on_node
from medseg.experiment.plan import Plan, make_plan
from medseg.training.callbacks import History
from medseg.training.ranks import Rank
from medseg.training.trainer import LAST

_READY = "ready"
_GRACE = 20.0  # seconds in which a process notices that another is gone, or ends after training
_REMEDY = "go on by repeating the command, or with resume="


@contextmanager
def processes(plan: Plan, folder: Path, way: str) -> Iterator[Rank]:
    """Starts the further processes of a run, if it has any; yields what the first one is.

    Args:
        plan: Of the run, its data set up.
        folder: Of the run, in which a checkpoint may lie.
        way: In which a step is carried out.

    Raises:
        ResourceError: one of them ended before its time.
    """
    count, per_node = plan.training.processes, plan.training.devices
    if count == 1:
        yield Rank()
        return
    nodes, threads = node_names(plan.training.nodes), torch.get_num_threads()
    host = "127.0.0.1" if len(nodes) == 1 else socket.gethostname()
    rank = Rank(count=count, per_node=per_node, address=host, port=_free_port(host))
    with ExitStack() as stack:
        started = [
            stack.enter_context(_started(rank, number, nodes, plan, folder, way))
            for number in range(1, count)
        ]
        for number, process in enumerate(started, start=1):
            if (answer := _line(process)) != _READY:
                raise _ended(number, process, answer)
        over = threading.Event()
        stack.callback(over.set)
        threading.Thread(target=_watch, args=(started, over), daemon=True).start()
        torch.set_num_threads(max(1, threads // per_node))
        stack.callback(torch.set_num_threads, threads)
        stack.callback(_leave_group)
        try:
            yield rank
        except RuntimeError as error:
            if isinstance(error, MedsegError) or (lost := _first_ended(started)) is None:
                raise
            raise _ended(*lost) from error
        for process in started:
            process.wait(_GRACE)


@contextmanager
def _started(
    rank: Rank, number: int, nodes: Sequence[str], plan: Plan, folder: Path, way: str
) -> Iterator[subprocess.Popen[str]]:
    node = nodes[number // rank.per_node]
    split = plan.data.split
    assert split is not None
    task = {
        "config": plan.config,
        "split": asdict(split),
        "folder": str(folder.absolute()),
        "way": way,
        "rank": asdict(rank) | {"number": number},
        "threads": max(1, torch.get_num_threads() // rank.per_node),
    }
    process = subprocess.Popen(
        [*(on_node(node) if node != nodes[0] else ()), sys.executable, "-m", __name__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a terminal's signal is for the first process
    )
    try:
        with suppress(BrokenPipeError):
            cast(Any, process.stdin).write(json.dumps(task) + "\n")
            cast(Any, process.stdin).flush()
        yield process
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout):
            with suppress(BrokenPipeError):
                cast(Any, stream).close()


def _line(process: subprocess.Popen[str]) -> str:
    return cast(Any, process.stdout).readline().strip()


def _watch(started: list[subprocess.Popen[str]], over: threading.Event) -> None:
    """Ends a run that waits for a process which is gone: what waits cannot be interrupted."""
    while not over.wait(1.0):
        if (lost := _first_ended(started, wait=0.0)) is not None and not over.wait(_GRACE):
            print(f"error: {_ended(*lost)}", file=sys.stderr, flush=True)
            os._exit(ResourceError.exit_code)


def _first_ended(
    started: list[subprocess.Popen[str]], wait: float = 2.0
) -> tuple[int, subprocess.Popen[str]] | None:
    """The process that ended before its time: a killed one rather than one that noticed it."""
    for process in started:
        with suppress(subprocess.TimeoutExpired):
            process.wait(wait)
    ended = [(number, own) for number, own in enumerate(started, start=1) if own.returncode]
    return min(ended, key=lambda pair: cast(int, pair[1].returncode), default=None)


def _ended(number: int, process: subprocess.Popen[str], answer: str = "") -> ResourceError:
    code = process.wait()
    answer = answer or _line(process)
    how = f"was killed by signal {-code}" if code < 0 else answer or f"ended with code {code}"
    return ResourceError(f"process {number + 1} of the run {how}; {_REMEDY}")


def _leave_group() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def main() -> None:
    """Trains the share of one further process."""
    logging.disable()
    warnings.filterwarnings("ignore")
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)
    task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    torch.set_num_threads(task["threads"])
    try:
        folder, split = Path(task["folder"]), Split(**task["split"])
        plan = make_plan(task["config"], split=split if (folder / LAST).is_file() else None)
        plan.data.setup()
        print(_READY, flush=True)
        module = module_of(plan, way=task["way"])
        fit(plan, folder, module, rank=Rank(**task["rank"]), history=History())
    except Exception as error:
        print(f"failed: {' '.join(str(error).split())[:300]}", flush=True)
        os._exit(1)  # others may wait for it
    _leave_group()


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    main()
