"""How much memory is free, by the files of Linux and the variables of Slurm, and steps that share it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path
from queue import Empty

import pytest

from heareval.memory import find_free_memory, find_slurm_limit, measure_memory
from heareval.workflow.memory_claims import COPIES_OF_WEIGHTS, STEP_BYTES, claim_memory, estimate_model

MB = 1 << 20
FORK = multiprocessing.get_context("fork")


def write_cgroup(folder: Path, limit: str, used: int, files: int, *, version: int = 2) -> None:
    """Write the files of a cgroup whose memory holds some bytes of files."""
    limit_name, used_name, prefix = (
        ("memory.max", "memory.current", "")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / limit_name).write_text(f"{limit}\n")
    (folder / used_name).write_text(f"{used}\n")
    stat = {f"{prefix}active_file": files // 2, f"{prefix}inactive_file": files - files // 2, "anon": used}
    (folder / "memory.stat").write_text("".join(f"{key} {value}\n" for key, value in stat.items()))


@pytest.mark.parametrize(
    ("version", "line"), [(2, "0::/job/step\n"), (1, "5:cpu:/other\n4:hugetlb,memory:/job/step\n")]
)
def test_the_tightest_cgroup_decides(tmp_path: Path, version: int, line: str) -> None:
    processes = tmp_path / "proc"
    (processes / "self").mkdir(parents=True)
    (processes / "self" / "cgroup").write_text(line)
    top = tmp_path / "memory" if version == 1 else tmp_path
    unlimited = "max" if version == 2 else "9223372036854771712"
    write_cgroup(top / "job" / "step", unlimited, 90 * MB, 30 * MB, version=version)
    write_cgroup(top / "job", f"{100 * MB}", 90 * MB, 31 * MB, version=version)
    # Memory that holds files can be used for something else.
    assert find_free_memory(tmp_path, processes) == 41 * MB
    write_cgroup(top / "job" / "step", f"{50 * MB}", 90 * MB, 10 * MB, version=version)
    assert find_free_memory(tmp_path, processes) == 0


def test_inside_a_container_the_top_is_its_cgroup(tmp_path: Path) -> None:
    """There, version 1 names the cgroup as it is called outside, and version 2 calls it the root."""
    for version, line in ((1, "4:memory:/docker/0123\n"), (2, "0::/\n")):
        processes = tmp_path / f"proc{version}"
        (processes / "self").mkdir(parents=True)
        (processes / "self" / "cgroup").write_text(line)
        root = tmp_path / f"cgroup{version}"
        top = root / "memory" if version == 1 else root
        write_cgroup(top, f"{9 * MB}", 2 * MB, 0, version=version)
        assert find_free_memory(root, processes) == 7 * MB


def test_without_cgroups_the_machine_decides(tmp_path: Path) -> None:
    assert find_free_memory(tmp_path, tmp_path) > 0


@pytest.mark.parametrize(
    ("variables", "megabytes"),
    [
        ({}, None),
        ({"SLURM_MEM_PER_NODE": "5000"}, 5000),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "300", "SLURM_CPUS_ON_NODE": "4"}, 1200),
        ({"SLURM_MEM_PER_CPU": "300"}, None),
        ({"SLURM_MEM_PER_NODE": "4G"}, None),
    ],
)
def test_slurm_says_what_a_job_may_take(variables: dict[str, str], megabytes: int | None) -> None:
    assert find_slurm_limit(variables) == (None if megabytes is None else megabytes * MB)


def take(megabytes: int, has_taken: Event, may_end: Event) -> None:
    child = FORK.Process(target=hold, args=(megabytes, has_taken, may_end))
    child.start()
    child.join()


def hold(megabytes: int, has_taken: Event, may_end: Event) -> None:
    held = b"x" * (megabytes * MB)
    has_taken.set()
    may_end.wait()
    del held


def test_what_descendants_hold_counts() -> None:
    has_taken, may_end = FORK.Event(), FORK.Event()
    process = FORK.Process(target=take, args=(200, has_taken, may_end))
    process.start()
    has_taken.wait()
    measured = measure_memory(process.pid or 0)
    may_end.set()
    process.join()
    assert measured > 200 * MB
    assert measure_memory(process.pid or 0) == 0


def test_the_estimate_grows_with_the_weights(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(bytes(1000))
    assert estimate_model(str(tmp_path / "a.bin")) == STEP_BYTES + COPIES_OF_WEIGHTS * 1000
    assert estimate_model(str(tmp_path)) == STEP_BYTES + COPIES_OF_WEIGHTS * 2000


# --------------------------------------------------------------------------- claims


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job of Slurm with 1,000 MB, and no claims on this machine."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("heareval.workflow.memory_claims.RETRY_EVERY_S", 0.02)
    monkeypatch.setenv("SLURM_JOB_ID", "1")
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "1000")


def claim(megabytes: int, said: multiprocessing.Queue[str], may_end: Event) -> None:
    with claim_memory(megabytes * MB, said.put):
        said.put("begun")
        may_end.wait()
    said.put("ended")


def start(megabytes: int) -> tuple[multiprocessing.Process, multiprocessing.Queue[str], Event]:
    said: multiprocessing.Queue[str] = FORK.Queue()
    may_end = FORK.Event()
    process = FORK.Process(target=claim, args=(megabytes, said, may_end))
    process.start()
    return process, said, may_end  # type: ignore[return-value]


@pytest.mark.usefixtures("job")
def test_steps_share_memory_and_wait_for_it_once() -> None:
    steps = [start(600), start(300), start(200)]
    # Any two fit. One that asks at the same moment as another may wait for a moment, too.
    said: list[list[str]] = [[] for _ in steps]
    while sum("begun" in words for words in said) < 2:
        for words, (_, queue, _) in zip(said, steps, strict=True):
            with contextlib.suppress(Empty):
                words.append(queue.get(timeout=0.01))
    (waiting,) = (number for number, words in enumerate(said) if "begun" not in words)
    # Whichever comes last has to wait for another one to end.
    said[waiting] = said[waiting] or [steps[waiting][1].get()]
    assert said[waiting][0].startswith("waits for 0.")
    for _, _, may_end in steps:
        may_end.set()
    for words, (process, queue, _) in zip(said, steps, strict=True):
        process.join()
        while words[-1] != "ended":
            words.append(queue.get())
        assert words[-2:] == ["begun", "ended"]
        assert len(words) <= 3, "it is told once that a step waits"


@pytest.mark.usefixtures("job")
def test_a_step_that_is_alone_may_begin_whatever_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    first = start(50_000)
    assert first[1].get() == "begun"
    second = start(1)
    assert second[1].get().startswith("waits for 0.0 GB of memory: 0.0 GB is free")
    # The limit of another job is its own, and its first step may begin as well.
    monkeypatch.setenv("SLURM_JOB_ID", "2")
    third = start(60_000)
    assert third[1].get() == "begun"
    for process, _, may_end in (third, first, second):
        may_end.set()
        process.join()
    assert second[1].get() == "begun"


@pytest.mark.usefixtures("job")
def test_a_killed_step_claims_nothing(tmp_path: Path) -> None:
    first = start(900)
    assert first[1].get() == "begun"
    second = start(900)
    assert second[1].get().startswith("waits for")
    first[0].kill()
    assert second[1].get() == "begun"
    second[2].set()
    second[0].join()
    assert [path.name for path in (tmp_path / f"heareval-{os.getuid()}-memory").iterdir()] == ["lock"]
