"""Checkpoints: the states of trainings, on disk until an evaluation is done, so that a killed run resumes.

A stack of networks has one file. It is replaced from time to time while they train, and a last time when they
are trained. A resumed training computes the same numbers as one that was not interrupted.
"""

from __future__ import annotations

import hashlib
import io
import platform
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heareval import files
from heareval.formats.training_progress import (
    TrainingProgress,
    find_training_progress,
    write_training_progress,
)

# Trainings that go on are written this often at most, and whatever is written takes this share of the time
# that they train, added up over trainings side by side.
INTERVAL_S, MAX_SHARE = 30.0, 0.01
DIGEST_BYTES = hashlib.sha256().digest_size
VERSION = 1
# Numbers, texts and tensors in dictionaries and lists.
State = dict[str, Any]


class Checkpoints:
    """The checkpoints of one evaluation.

    One that is damaged, or was written by other code or on another kind of machine, is left out: its training
    starts over. If one can't be written, the trainings go on without. Processes that do the same evaluation
    at the same time may share the folder, because all of them write the same files. Trainings that go on side
    by side call `read` and `keep` from threads of their own.

    Args:
        folder: where they lie, named after the results; it is made with the first one.
        device: `cpu`, or the name of the GPU.
        say: receives a line for people.
        threads: number of threads of each training on a CPU; None means as many as PyTorch uses.
        side_by_side: number of trainings that go on at the same time at most.

    Example: `Checkpoints(folder, "cpu", print)`
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        say: Callable[[str], None],
        *,
        threads: int | None = None,
        side_by_side: int = 1,
    ) -> None:
        self.folder, self.say = folder, say
        # How long the trainings took that were not repeated; an estimate if they went on side by side, as if
        # that had always been as many as possible.
        self.resumed_s = 0.0
        made_by = {**describe_machine(device, threads or torch.get_num_threads()), "code": digest_code()}
        self._progress = TrainingProgress(0, {}, made_by)
        self._side_by_side = side_by_side
        self._started = time.monotonic()
        # When the checkpoint in each file was read, or written.
        self._last: dict[Path, float] = {}
        # When the training of each stack began, and how long it has gone on since.
        self._began: dict[Path, float] = {}
        self._trained_s: dict[Path, float] = {}
        self._spent_s = self._cost_s = 0.0
        self._is_broken = False
        self._lock = threading.Lock()

    def begin(self, trainings: int) -> None:
        """Say what is resumed.

        Args:
            trainings: number of trainings of the evaluation.
        """
        self._progress = replace(self._progress, trainings=trainings)
        found, made_by = find_training_progress(self.folder), self._progress.made_by
        if not found:
            return
        if found.made_by == made_by:
            self._progress = replace(self._progress, finished=found.finished)
            self.say(f"resumes after {self._progress}")
        else:
            # Trainings of two machines in one result could not be reproduced on either of them.
            changed = [name for name, value in made_by.items() if found.made_by.get(name) != value]
            since = f"and this has changed since: {', '.join(changed)}"
            self.say(f"starts over: it was interrupted after {found}, {since}")
            self.remove()

    def read(self, seeds: Sequence[int]) -> State | None:
        """Return the last state of a stack; None without one.

        Args:
            seeds: the seeds of its trainings, which no others of the evaluation have.
        """
        path = self._path(seeds)
        self._last[path] = self._began[path] = time.monotonic()
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self.say(f"a training starts over: {path}: {error.strerror}")
            return None
        body = memoryview(content)[DIGEST_BYTES:]
        if hashlib.sha256(body).digest() != content[:DIGEST_BYTES]:
            self.say(f"a training starts over: {path} is damaged")
            return None
        state: State = torch.load(io.BytesIO(body), map_location="cpu", weights_only=True)
        with self._lock:
            self.resumed_s += state["seconds"] / self._side_by_side
        return state

    def keep(self, seeds: Sequence[int], get_state: Callable[[], State], *, is_finished: bool) -> None:
        """Write the state of a stack, if it is time to.

        Args:
            seeds: as for `read`.
            get_state: returns the state, with the `seconds` that the stack has trained.
            is_finished: whether all of its networks are trained.
        """
        path, now = self._path(seeds), time.monotonic()
        is_due = is_finished or now - self._last.get(path, self._started) >= INTERVAL_S
        if not is_due:
            return
        # Only trainings that write wait for each other.
        with self._lock:
            self._trained_s[path] = now - self._began.get(path, self._started)
            # The next one will take about as long as the last one.
            is_cheap = self._spent_s + self._cost_s <= MAX_SHARE * sum(self._trained_s.values())
            if self._is_broken or not is_cheap:
                return
            begun = time.monotonic()
            try:
                self._write(path, get_state())
                if is_finished:
                    finished = {**self._progress.finished, path.name: len(seeds)}
                    self._progress = replace(self._progress, finished=finished)
                if is_finished or not self._spent_s:
                    write_training_progress(self.folder, self._progress)
            except OSError as error:
                self._is_broken = True
                self.say(f"trains on without checkpoints: {self.folder}: {error.strerror}")
            self._last[path] = time.monotonic()
            self._cost_s = self._last[path] - begun
            self._spent_s += self._cost_s

    def remove(self) -> None:
        """Remove all checkpoints."""
        files.remove_tree(self.folder)

    def _path(self, seeds: Sequence[int]) -> Path:
        name = files.fingerprint("checkpoint", VERSION, seeds=list(seeds), **self._progress.made_by)
        return self.folder / f"{name}.checkpoint"

    def _write(self, path: Path, state: State) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        body = buffer.getbuffer()
        # The digest tells a file that a power cut has left without its content.
        with files.building_file(path, is_synced=False) as scratch, open(scratch, "wb") as stream:
            stream.write(hashlib.sha256(body).digest())
            stream.write(body)


def digest_code() -> str:
    """Return a digest of the code that trains and validates."""
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def describe_machine(device: str, threads: int) -> Mapping[str, str]:
    """Return what of a machine decides the last bits of its sums, by name.

    Args:
        device: `cpu`, or the name of the GPU.
        threads: number of threads of each training on a CPU.

    >>> describe_machine("cpu", 1)["device"]
    'cpu'
    """
    return {
        "device": device,
        "CPU": f"{_name_cpu()} with {torch.backends.cpu.get_cpu_capability()}",
        "number of threads": str(threads),
        "version of torch": str(torch.__version__),
    }


def _name_cpu() -> str:
    """Return the name of the CPU's model, or of its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
