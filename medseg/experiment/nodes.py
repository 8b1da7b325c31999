"""The nodes of a SLURM job, over which the processes of one run are spread."""

import os
import shutil
import socket
import subprocess

from medseg.errors import ResourceError


def node_names(count: int) -> list[str]:
    """As many nodes of the job that this process is part of, its own first.

    Raises:
        ResourceError: there is no job, or it has fewer.
    """
    if count == 1:
        return [_own_name()]
    listed = os.environ.get("SLURM_JOB_NODELIST")
    if not listed or not shutil.which("srun"):
        raise ResourceError(
            f"trainer.nodes={count} needs a job of SLURM with as many nodes, and this process is "
            f"not in one; write the command into a script and give it to sbatch --nodes={count}"
        )
    asked = ["scontrol", "show", "hostnames", listed]
    answer = subprocess.run(asked, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ResourceError(f"SLURM does not tell the nodes of this job: {answer.stderr.strip()}")
    names = answer.stdout.split()
    if len(names) < count:
        raise ResourceError(
            f"trainer.nodes={count}: this job has {len(names)} ({', '.join(names)}); "
            f"ask for more with sbatch --nodes={count}"
        )
    own = _own_name()
    others = [name for name in names if name != own]
    return [own, *others][:count]


def on_node(name: str) -> list[str]:
    """The words before a command that start it on a node of the job, beside what runs there.

    It reads what this process writes to its stdin, and ends with it.
    """
    cores = os.environ.get("SLURM_CPUS_PER_TASK")  # which srun itself does not take over
    own = [f"--cpus-per-task={cores}"] if cores else []
    return [
        "srun",
        "--overlap",
        "--unbuffered",
        "--nodes=1",
        "--ntasks=1",
        *own,
        f"--nodelist={name}",
    ]


def _own_name() -> str:
    return os.environ.get("SLURMD_NODENAME", socket.gethostname())
