"""Memory that steps claim on a machine before they load a model or train, so that they fit side by side.

Every claim of this user on this machine is a file that its step keeps locked; the operating system releases
the lock when the process ends, however that happens. A step may begin if there is room for what it needs
beside what the other steps have claimed and not taken yet. A step that is alone may always begin.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from heareval.folders import walk_files
from heareval.memory import find_free_memory, find_slurm_limit, measure_memory

# Looking at what other steps have taken reads the table of all processes.
RETRY_EVERY_S = 2.0
# What a step takes beside weights and embeddings: Python, PyTorch, and a batch of clips or a few networks.
STEP_BYTES = 2 << 30
# What a network takes that trains beside others: 4,096 dimensions and two layers of 1,024 units.
NETWORK_BYTES = 256 << 20
# A model may hold its weights twice while it loads them.
COPIES_OF_WEIGHTS = 2


@dataclass(frozen=True)
class Claim:
    """Memory that a step has claimed.

    Args:
        bytes: as the step estimated it.
        pid: the process of the step.
        job: the cluster job that it belongs to; "" for none.
    """

    bytes: int
    pid: int
    job: str


@contextlib.contextmanager
def claim_memory(needed_bytes: int, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until there is room for a step, and keep it while the block lasts; other runs respect that.

    A step that also claims a GPU must do so first: nobody who has got memory then waits for anything.

    Args:
        needed_bytes: an estimate of what the step will take.
        say: receives one line if the step has to wait.

    Example: `with claim_memory(2 << 30, print): ...`
    """
    folder = Path(tempfile.gettempdir()) / f"heareval-{os.getuid()}-memory"
    folder.mkdir(mode=0o700, exist_ok=True)
    own = Claim(needed_bytes, os.getpid(), os.environ.get("SLURM_JOB_ID", ""))
    has_said = False
    with contextlib.ExitStack() as stack:
        while (room := _try_claim(folder, own, stack)) is not None:
            if not has_said:
                say(f"waits for {_in_gb(needed_bytes)} of memory: {_in_gb(room)} is free beside other steps")
                has_said = True
            time.sleep(RETRY_EVERY_S)
        yield


def _try_claim(folder: Path, own: Claim, stack: contextlib.ExitStack) -> int | None:
    """Claim memory until the stack is closed; returns the bytes that are free if they are too few."""
    with open(folder / "lock", "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        others = list(_list_claims(folder))
        room = find_room(others, own.job)
        if own.bytes > room and any(other.job == own.job for other in others):
            return room
        path = folder / f"{own.pid}-{secrets.token_hex(4)}.json"
        stream = open(path, "w", encoding="utf-8")  # noqa: SIM115
        stack.enter_context(stream)
        fcntl.flock(stream, fcntl.LOCK_EX)
        json.dump(asdict(own), stream)
        stream.flush()
        stack.callback(path.unlink, missing_ok=True)
    return None


def _list_claims(folder: Path) -> Iterator[Claim]:
    """Yield the claims of steps that run; remove those of steps that ended without doing it themselves."""
    for path in folder.glob("*.json"):
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                yield Claim(**json.load(stream))
            else:
                path.unlink(missing_ok=True)


def find_room(others: list[Claim], job: str) -> int:
    """Return the bytes that a step of a job may still claim beside other steps.

    What these have claimed and not taken yet is not free, although nobody uses it now.

    Args:
        others: the claims of other steps on this machine.
        job: the cluster job; its memory may be limited by a cgroup, or only by Slurm's word.

    >>> find_room([], "") > find_room([Claim(1 << 60, 0, "")], "")
    True
    """
    taken = [(other, measure_memory(other.pid)) for other in others]
    room = find_free_memory() - sum(max(0, other.bytes - used) for other, used in taken)
    limit = find_slurm_limit()
    if limit is not None:
        room = min(room, limit - sum(max(other.bytes, used) for other, used in taken if other.job == job))
    return max(0, room)


def estimate_model(weights_path: str) -> int:
    """Return the bytes that a model will take before it has been measured.

    >>> estimate_model("") == STEP_BYTES
    True
    """
    if not weights_path:
        return STEP_BYTES
    weights = Path(weights_path)
    found = [file for _, file in walk_files(weights)] if weights.is_dir() else [weights]
    return STEP_BYTES + COPIES_OF_WEIGHTS * sum(file.stat().st_size for file in found)


def _in_gb(count: int) -> str:
    return f"{count / 1e9:.1f} GB"
