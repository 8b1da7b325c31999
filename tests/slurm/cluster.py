"""A SLURM cluster of two nodes on this machine, for as long as a `with` block lasts.

Its daemons live in name spaces of their own (`unshare`): their network is a loopback device that
nobody else sees, so no port can be taken; and when the first process in there ends, because the
block was left or because the tests were killed, the kernel ends all others with it.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

NODES = ("n1", "n2")

_INSTALL = "apt-get install slurm-wlm munge slurmdbd mariadb-server"
_DAEMONS = ("sbatch", "slurmd", "slurmctld", "slurmdbd", "munged", "mariadbd", "mariadb-install-db")
_TOOLS = {"unshare": "util-linux", "nsenter": "util-linux", "ip": "iproute2"}
_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_SPACES = ("--net", "--pid", "--mount")
_UNSHARE = ("unshare", *_SPACES, "--fork", "--kill-child", "--mount-proc")
_PATIENCE = 60.0  # seconds for a daemon to answer

# SLURM resolves names with AI_ADDRCONFIG, to which 127.0.0.1 alone is no network at all;
# `read` ends when the other end of the pipe does
_FIRST_PROCESS = "ip link set lo up && ip address add 10.0.0.1/32 dev lo && echo ready && read -r _"

_DATABASE = """\
create database slurm_acct_db;
create user slurm@localhost;
grant all on slurm_acct_db.* to slurm@localhost;
"""

_DBD_CONF = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
DbdHost=localhost
DbdAddr=127.0.0.1
SlurmUser=root
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
"""

# Accounting, because submitit asks `sacct` what became of a job that left no result. A job that is
# queued again waits until credentials have expired, two minutes unless `cred_expire` says less.
_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=10
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePass={folder}/munge.sock
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
KillWait=5
PropagateResourceLimits=NONE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=6821 CPUs=1 RealMemory=4000
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=6822 CPUs=1 RealMemory=4000
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP
"""


def available() -> str:
    """Why no cluster can be had on this machine; empty if one can."""
    if sys.platform != "linux":
        return "SLURM needs Linux"
    for program in _DAEMONS:
        if shutil.which(program, path=_PATH) is None:
            return f"{program} is not installed: {_INSTALL}"
    for program, package in _TOOLS.items():
        if shutil.which(program, path=_PATH) is None:
            return f"{program} is not installed: apt-get install {package}"
    if os.geteuid() != 0:
        return "a SLURM cluster needs root"
    trial = subprocess.run([*_UNSHARE, "true"], capture_output=True, text=True, check=False)
    return f"no name spaces are allowed here: {trial.stderr.strip()}" if trial.returncode else ""


def wait_until(condition: Callable[[], object], what: str, seconds: float = _PATIENCE) -> None:
    """Looks again and again.

    Raises:
        TimeoutError: it did not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.1)


class Cluster:
    """Two nodes of one core each; nodes can be lost and come back."""

    def __init__(self) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix="slurm-")  # a socket's path is short
        self.folder = Path(self._temporary.name)
        self.environment = os.environ | {
            "PATH": _PATH,
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "MYSQL_UNIX_PORT": str(self.folder / "mysql.sock"),
        }
        self._children: list[subprocess.Popen] = []
        self._nodes: dict[str, psutil.Process] = {}
        self._first: psutil.Process

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException as error:
            error.add_note(self._logs())
            self._stop()
            raise
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stop()

    def command(self, *words: str) -> list[str]:
        """A command line that runs on the cluster's machine; it needs `environment`."""
        return ["nsenter", f"--target={self._first.pid}", *_SPACES, "--", *words]

    def says(self, *words: str) -> str:
        """What a command prints.

        Raises:
            subprocess.CalledProcessError: it failed.
        """
        return subprocess.run(
            self.command(*words), env=self.environment, check=True, capture_output=True, text=True
        ).stdout

    def job_states(self) -> list[tuple[str, str]]:
        """Every life of every job, as (job, state)."""
        table = self.says("sacct", "-nXPD", "--starttime=now-1hour", "-o", "JobID,State")
        return [(job, state) for job, _, state in (x.partition("|") for x in table.splitlines())]

    def node_state(self, node: str) -> str:
        """As `sinfo` says it, for instance `idle`, `allocated` or `down*`."""
        return self.says("sinfo", "-h", "-n", node, "-o", "%T").strip()

    def node_of_the_only_job(self) -> str:
        """Where it runs; empty while it waits."""
        return self.says("squeue", "-h", "--states=running", "-o", "%N").strip()

    def lose(self, node: str) -> None:
        """What a power cut does: no process of the node is there any more."""
        jobs = self.says("squeue", "-h", "-w", node, "-o", "%A").split()
        keepers = [
            process
            for process in self._first.children(recursive=True)
            if any(f"slurmstepd: [{job}." in _command(process) for job in jobs)
        ]
        lost = [self._nodes.pop(node), *keepers]
        lost += [below for keeper in keepers for below in keeper.children(recursive=True)]
        for process in lost:
            process.kill()

    def start(self, node: str) -> None:
        """Starts a node, for the first time or after its loss."""
        entered = self._daemon(f"slurmd-{node}", "slurmd", "-D", "-N", node)
        wait_until(lambda: psutil.Process(entered).children(), f"slurmd of {node}")
        (self._nodes[node],) = psutil.Process(entered).children()
        wait_until(lambda: self.node_state(node) in ("idle", "mixed", "allocated"), f"node {node}")

    def _start(self) -> None:
        child = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _FIRST_PROCESS],
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._children.append(child)
        if child.stdout is None or child.stdout.readline().strip() != "ready":
            raise RuntimeError("the name spaces were not made")
        (self._first,) = psutil.Process(child.pid).children()
        self._start_munge()
        self._start_accounting()
        self._start_slurm()

    def _start_munge(self) -> None:
        key = self.folder / "munge.key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(1024))
        files = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("key", "pid")}
        files |= {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("log", "seed")}
        sock = f"{self.folder}/munge.sock"
        self._daemon(
            "munged", "munged", "--foreground", "--force", f"--socket={sock}", *files.values()
        )
        self._wait_for("munge", "-S", sock, "-n")

    def _start_accounting(self) -> None:
        data, sock = f"--datadir={self.folder}/mysql", f"--socket={self.folder}/mysql.sock"
        self.says("mariadb-install-db", "--no-defaults", "--user=root", "--skip-test-db", data)
        small = ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
        self._daemon(
            "mariadbd",
            *("mariadbd", "--no-defaults", "--user=root", "--skip-networking", data, sock),
            *(f"--pid-file={self.folder}/mysql.pid", *small),
        )
        client = ("mariadb", "--no-defaults", "--user=root", sock, "-e")
        self._wait_for(*client, "select 1")
        self.says(*client, _DATABASE)
        configuration = self.folder / "slurmdbd.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(_DBD_CONF.format(folder=self.folder), encoding="utf-8")

    def _start_slurm(self) -> None:
        host = socket.gethostname().partition(".")[0]
        text = _CONF.format(folder=self.folder, host=host)
        (self.folder / "slurm.conf").write_text(text, encoding="utf-8")
        (self.folder / "state").mkdir()
        self._daemon("slurmdbd", "slurmdbd", "-D")
        self._wait_for("sacctmgr", "-n", "list", "cluster")
        self.says("sacctmgr", "--immediate", "add", "cluster", "test")
        self._daemon("slurmctld", "slurmctld", "-c", "-D")
        self._wait_for("scontrol", "ping")
        for node in NODES:
            (self.folder / f"spool-{node}").mkdir()
            self.start(node)

    def _daemon(self, name: str, *words: str) -> int:
        with (self.folder / f"{name}.out").open("a") as output:
            child = subprocess.Popen(
                self.command(*words), env=self.environment, stdout=output, stderr=output
            )
        self._children.append(child)
        return child.pid

    def _wait_for(self, *words: str) -> None:
        def answers() -> bool:
            words_inside = self.command(*words)
            call = subprocess.run(
                words_inside, env=self.environment, capture_output=True, check=False
            )
            return call.returncode == 0

        wait_until(answers, " ".join(words))

    def _logs(self) -> str:
        ends = {p.name: p.read_text(errors="replace")[-1000:] for p in self.folder.glob("*.out")}
        return "\n".join(f"{name}:\n{end}" for name, end in ends.items())

    def _stop(self) -> None:
        for child in self._children:
            child.communicate()  # closes the input of the first, which ends it and all others
        self._temporary.cleanup()


def _command(process: psutil.Process) -> str:
    """Its command line; nothing of a process that has just ended."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
