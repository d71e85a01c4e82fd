"""What jobs of the batch scripts are given, and what can be seen of them from outside."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from heareval.layout import Places
from heareval.workflow.step_records import read_step_records
from tests.http_server import Behaviour
from tests.slurm.cluster import Cluster, JobState, wait_until

SCRIPTS = Path(__file__).parent.parent.parent / "slurm"
WORKERS, ONE_JOB, SUBMISSIONS = (SCRIPTS / f"{name}.sh" for name in ("workers", "one_job", "submissions"))
# Two tasks, which need three archives.
PREPARE = ("prepare", "spoken_digit", "speech_commands", "--sample-rate", "16000")
FINISHED = re.compile(r"^\[step \d+ of \d+\] (.*): [\d.]+ s$", re.MULTILINE)


@dataclass(frozen=True)
class SlowMirror:
    """A mirror whose archives take minutes while it is held.

    Args:
        address: its URL.
        behaviour: how the server treats requests.
        sums: the file with the checksums of its archives.
    """

    address: str
    behaviour: Behaviour
    sums: Path

    @property
    def options(self) -> tuple[str, ...]:
        return ("--mirror", self.address, "--accept-checksums", str(self.sums))

    def hold(self) -> None:
        """Send 5 kB each second."""
        self.behaviour.drip_bytes, self.behaviour.drip_s = 500, 0.1

    def release(self) -> None:
        """Send everything at once."""
        self.behaviour.drip_s = 0


def running_steps(folder: Path) -> dict[str, str]:
    """Return the steps that run: node -> title of a step."""
    found = {}
    for record in read_step_records(Places(work=str(folder / "_workdir")).step_records()).running:
        with contextlib.suppress(psutil.Error):
            found[psutil.Process(record.pid).environ()["SLURMD_NODENAME"]] = record.title
    return found


def wait_for_fetches(folder: Path, *nodes: str) -> dict[str, str]:
    """Wait until each of these nodes fetches an archive; returns node -> title of that step."""

    def fetches() -> dict[str, str]:
        return {node: title for node, title in running_steps(folder).items() if title.startswith("fetch ")}

    wait_until(lambda: set(nodes) <= set(fetches()), f"fetches on {', '.join(nodes)}")
    return fetches()


def find_runner(cluster: Cluster, node: str) -> psutil.Process:
    """Return the process of heareval on a node."""

    def runners() -> list[psutil.Process]:
        return [each for each in cluster.processes(node) if _is_runner(each)]

    wait_until(runners, f"heareval on {node}")
    # The oldest; others are its children.
    return min(runners(), key=lambda each: each.create_time())


def _is_runner(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return len(words) > 1 and words[1].endswith("/heareval")


def read_log(folder: Path, job: str) -> str:
    """Return the log of a job, or of an element of an array."""
    path = folder / f"heareval-{job}.log"
    return path.read_text() if path.exists() else ""


def finished_steps(folder: Path, job: str) -> list[str]:
    """Return the titles of the steps that a job's log names as finished."""
    return FINISHED.findall(read_log(folder, job))


def check_complete(folder: Path, ended: list[JobState]) -> None:
    """Check that jobs ended well; the log of one that did not is shown."""
    for each in ended:
        assert (each.state, each.exit_code) == ("COMPLETED", 0), read_log(folder, each.name)
