"""A real Slurm with two nodes on this machine.

Node n1 is in the partition `cpu`; n2 is in `cpu` and `gpu`, and has a GPU by name only. Both are processes
here, so they share folders as the nodes of a cluster do.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

PROGRAMS = ("slurmctld", "slurmd", "srun", "sbatch", "scontrol", "munged")
NODES = ("n1", "n2")
# After it a test has failed that waits for a state.
PATIENCE_S = 240.0
CONFIGURATION = """
ClusterName=heareval
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is put back waits until its credential has expired, by default two minutes.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1
ReturnToService=2
MpiDefault=none
SlurmdTimeout=20
KillWait=5
GresTypes=gpu
NodeName=n1 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[1]} CPUs=1 RealMemory=1000
NodeName=n2 NodeHostname=localhost NodeAddr=127.0.0.1 Port={ports[2]} CPUs=1 RealMemory=1000 Gres=gpu:1
PartitionName=cpu Nodes=n1,n2 Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=n2 MaxTime=60 State=UP
"""


@dataclass(frozen=True)
class JobState:
    """What Slurm says about a job, or an element of an array.

    Args:
        name: its number; that of the array and that of the element for an element.
        state: PENDING, RUNNING, COMPLETED, FAILED, TIMEOUT, NODE_FAIL, CANCELLED ...
        exit_code: that of the batch script.
        restarts: how often it was put back into the queue.
        node: where it runs or ran.
    """

    name: str
    state: str
    exit_code: int
    restarts: int
    node: str

    @property
    def has_ended(self) -> bool:
        return self.state not in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED", "CONFIGURING")


def why_not() -> str:
    """Return why no cluster can be started here, or ""."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"no {', '.join(missing)}: apt install slurm-wlm munge"
    return "" if os.getuid() == 0 else "slurmd needs root"


def wait_until(reached: Callable[[], object], what: str) -> None:
    """Return when a state is reached."""
    end = time.monotonic() + PATIENCE_S
    while not reached():
        assert time.monotonic() < end, f"not within {PATIENCE_S:.0f} s: {what}"
        time.sleep(0.1)


def kill_tree(process: psutil.Process) -> None:
    """Kill a process and its descendants, wherever they have gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for each in [process, *process.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()


class Cluster:
    """Slurm's daemons, and what users do with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # The environment of a user who has activated the one of heareval.
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SLURM")},
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        text = CONFIGURATION.format(folder=self.folder, ports=_free_ports(3))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text("NodeName=n2 Name=gpu File=/dev/null\n")
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        # With `--force`, as other users may write to the folder for temporary files.
        files = {
            "socket": "socket",
            "key-file": "key",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        options = [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]
        self._start_daemon("munged", "munged", "--foreground", "--force", *options)
        wait_until((self.folder / "munge.socket").exists, "munged answers")
        self._start_daemon("slurmctld", "slurmctld", "-D", "-c")
        for node in NODES:
            self.start_node(node)

    def start_node(self, node: str) -> None:
        """Start a node and wait until it is idle."""
        self._start_daemon(node, "slurmd", "-D", "-N", node)
        wait_until(lambda: self.node_state(node) == "idle", f"{node} is idle")

    def _start_daemon(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(words, env=self.environment, stdout=out, stderr=out)

    def node_state(self, node: str) -> str:
        return self.ask("sinfo", "-h", "-p", "cpu", "-n", node, "-o", "%t").strip()

    def kill_node(self, node: str) -> None:
        """Kill everything that runs on a node at once, as if it had lost its power."""
        daemon = self.daemons.pop(node)
        daemon.kill()
        daemon.wait()
        # Slurm's own processes first: they would tell the controller how the others ended.
        for process in [*self._step_daemons(node), *self.processes(node)]:
            kill_tree(process)
        wait_until(lambda: not self.processes(node), f"nothing runs on {node}")

    def _step_daemons(self, node: str) -> list[psutil.Process]:
        """Return Slurm's own processes of jobs on a node, which are known by the log that they write."""
        log, found = str(self.folder / f"slurmd-{node}.log"), []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.name() == "slurmstepd" and log in [file.path for file in process.open_files()]:
                    found.append(process)
        return found

    def processes(self, node: str) -> list[psutil.Process]:
        """Return the processes that jobs have on a node."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                given = process.environ()
                # Another cluster may run here.
                is_ours = given.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if (
                    is_ours
                    and given.get("SLURMD_NODENAME") == node
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
        return found

    def stop(self) -> None:
        """Kill all jobs and all daemons."""
        for node in set(NODES) & set(self.daemons):
            self.kill_node(node)
        for daemon in self.daemons.values():
            daemon.kill()
            daemon.wait()

    def ask(self, *words: str) -> str:
        """Return what a command of Slurm prints."""
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def submit(self, folder: Path, *words: str | Path, **variables: str) -> str:
        """Submit a job in a folder, as `sbatch` with these words does, and return its number."""
        command = ["sbatch", "--parsable", "--cpus-per-task=1", *map(str, words)]
        environment = {**self.environment, **variables}
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def states(self, job: str) -> dict[str, JobState]:
        """Return the states of a job or of all elements of an array."""
        found = {}
        for line in self.ask("scontrol", "show", "job", "-o", job).splitlines():
            facts = dict(re.findall(r"(?<!\S)(\w+)=(\S*)", line))
            if "JobState" not in facts:
                continue
            element = facts.get("ArrayTaskId")
            name = f"{facts['ArrayJobId']}_{element}" if element else facts["JobId"]
            code = int(facts["ExitCode"].partition(":")[0])
            found[name] = JobState(
                name, facts["JobState"], code, int(facts["Restarts"]), facts.get("NodeList", "")
            )
        return found

    def wait(self, job: str) -> list[JobState]:
        """Wait until a job, or each element of an array, has ended; return how, sorted by name."""
        wait_until(
            lambda: (states := self.states(job)) and all(each.has_ended for each in states.values()),
            f"the end of job {job}",
        )
        return [state for _, state in sorted(self.states(job).items())]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def running_slurm(folder: Path) -> Iterator[Cluster]:
    """Start a cluster that keeps its state and its logs in a folder."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
