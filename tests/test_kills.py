"""Runs killed at random moments: the same command then ends with the same bytes, and does nothing twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from heareval import files, layout
from tests.commands import checksums, prepare, scratch_left

# Two tasks, one with more shards than there are workers, at two rates.
WORDS = ("spoken_digit", "speech_commands", "--sample-rate", "16000", "--sample-rate", "44100")
STEP = re.compile(r"\[(\d+)/(\d+)\] (.*): [\d.]+ s")
BUILT = ("_workdir/corpora/*", "_workdir/*-*/*-*", "tasks/[!.]*/MANIFEST.json", "tars/.manifests/*.json")
KILLS_PER_SEED = 10


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody killed, and how long it worked."""

    folder: Path
    seconds: float


def start(folder: Path, mirror: Path, *words: str) -> subprocess.Popen[str]:
    """Start preparing in a process group of its own; what it says goes to `said`."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    with open(folder / "said", "w", encoding="utf-8") as said:
        return subprocess.Popen(
            [sys.executable, "-m", "heareval.tasks.runner", *WORDS, *sums, *words],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,
            text=True,
        )


def wait_for_work(folder: Path, runner: subprocess.Popen[str]) -> None:
    """Return when the runner has imported everything and begins."""
    while not list(folder.glob("_workdir/logs/*.log")) and runner.poll() is None:
        time.sleep(0.001)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    runner = start(folder, mirror)
    wait_for_work(folder, runner)
    began = time.monotonic()
    assert runner.wait() == 0
    return Undisturbed(folder, time.monotonic() - began)


def finished_steps(said: str) -> dict[str, int]:
    """The steps that a run said it had finished, and how many it meant to do."""
    return {match[3]: int(match[2]) for match in STEP.finditer(said)}


def find_fingerprint(sidecar: Path) -> str:
    """The fingerprint in the sidecar of a tarball; "" while the tarball is being packed."""
    return json.loads(sidecar.read_text()).get("fingerprint") or ""


def built(folder: Path) -> dict[str, tuple[int, int]]:
    """What would change if a step that is done were done again: a file's or folder's number and time."""
    done = [path for pattern in BUILT for path in folder.glob(pattern) if not path.name.startswith(".")]
    # A tarball counts from when its sidecar is complete; before that, its sidecar is written anew.
    begun = [path for path in folder.glob("tars/.manifests/*.json") if not find_fingerprint(path)]
    done = [path for path in done if path not in begun]
    tars = [
        folder / "tars" / path.name.removesuffix(".json") for path in done if path.parent.name == ".manifests"
    ]
    facts = {path: path.stat() for path in [*done, *tars]}
    return {str(path.relative_to(folder)): (each.st_ino, each.st_mtime_ns) for path, each in facts.items()}


def published(folder: Path) -> dict[str, str]:
    """Digests of what readers find in the task folders and among the tarballs, at any moment."""
    seen = [*folder.glob("tasks/[!.]*/**/*"), *folder.glob("tars/hear-*")]
    found = [path for path in seen if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(read_without_times(p)).hexdigest() for p in found}


def read_without_times(path: Path) -> bytes:
    """The content of a file. The digests of clips come without the times at which the clips were written."""
    if path.name != layout.CLIP_DIGESTS:
        return path.read_bytes()
    digests = json.loads(path.read_text())
    return json.dumps({name: digest["sha256"] for name, digest in digests.items()}).encode()


def kill(runner: subprocess.Popen[str], *, only_the_runner: bool) -> bool:
    """Kill a run, whole or just its first process, whose children must follow; whether it came in time."""
    if only_the_runner:
        runner.kill()
    else:
        os.killpg(runner.pid, signal.SIGKILL)
    was_alive = runner.wait() == -signal.SIGKILL
    until = time.monotonic() + 120
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < until:
            os.killpg(runner.pid, 0)
            time.sleep(0.001)
        pytest.fail("a child of the killed runner goes on")
    return was_alive


def check_goes_on(folder: Path, mirror: Path, undisturbed: Path, said: str, *words: str) -> None:
    """Run the same command after a kill, and compare all that there is with a run that was let alone."""
    whole, before = published(undisturbed), built(folder)
    assert published(folder).items() <= whole.items()
    if (folder / "tars" / "SHA256SUMS").exists():
        assert checksums(folder).items() <= checksums(undisturbed).items()
    done = prepare(folder, mirror, *WORDS, *words)
    assert done.returncode == 0, done.stderr
    assert published(folder) == whole
    assert checksums(folder) == checksums(undisturbed)
    assert not scratch_left(folder)
    assert before.items() <= built(folder).items()
    again = finished_steps(done.stderr)
    assert not again.keys() & finished_steps(said).keys()
    assert set(again.values()) <= {len(again)}


def test_scratch_of_the_killed_goes_though_nothing_is_to_do(prepared: Path, mirror: Path) -> None:
    """Another runner may have done meanwhile what the killed one was at."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for target in ("tasks/a", "tars/.manifests/b", "_workdir/corpora/c"):
        scratch = files.scratch_path(prepared / target)
        scratch.with_name(scratch.name.replace(str(os.getpid()), str(ended.pid))).mkdir()
    done = prepare(prepared, mirror, "spoken_digit")
    assert "nothing to do" in done.stdout
    assert not scratch_left(prepared)


def test_a_step_that_begins_after_its_runner_was_killed() -> None:
    """It can't be sent the signal of a death that was before it asked for one."""
    code = """if True:
        import multiprocessing, os, signal, time
        from heareval.workflow.step import DiesWithParent
        def work():
            while os.getppid() == runner:
                time.sleep(0.001)
            with DiesWithParent(None):
                print("goes on", flush=True)
        runner = os.getpid()
        multiprocessing.get_context("fork").Process(target=work).start()
        os.kill(runner, signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


# A runner that is killed right before it gives something its name for the n-th time.
KILLED_AT_A_RENAME = """if True:
    import os, signal, sys
    left = int(sys.argv.pop(1))
    def before(event, _):
        global left
        left -= event == "os.rename"
        # os.kill is an event, too.
        if left < 0 and event != "os.kill":
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(before)
    from heareval.commands.prepare import prepare
    prepare()
"""


@pytest.mark.slow
def test_killed_before_each_name_is_given(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = ("spoken_digit", "--sample-rate", "16000", "--num-workers", "1", *sums)
    for number in range(100):
        folder = tmp_path / str(number)
        folder.mkdir()
        start = [sys.executable, "-c", KILLED_AT_A_RENAME, str(number), *words]
        ended = subprocess.run(start, cwd=folder, capture_output=True, check=False)
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        listed = folder / "tars" / "SHA256SUMS"
        assert not listed.exists() or checksums(folder).items() <= checksums(prepared).items()
        before = built(folder)
        done = prepare(folder, mirror, "spoken_digit", "--sample-rate", "16000")
        assert done.returncode == 0, done.stderr
        assert len(checksums(folder)) == 2
        assert checksums(folder).items() <= checksums(prepared).items()
        assert before.items() <= built(folder).items()
        assert not scratch_left(folder)
    assert number > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_moments(undisturbed: Undisturbed, mirror: Path, tmp_path: Path, seed: int) -> None:
    draw, kills, seconds = random.Random(seed), 0, undisturbed.seconds
    while kills < KILLS_PER_SEED:
        folder = tmp_path / "work"
        folder.mkdir()
        runner = start(folder, mirror)
        wait_for_work(folder, runner)
        time.sleep(draw.uniform(0, seconds))
        if kill(runner, only_the_runner=draw.random() < 0.5):
            kills += 1
        else:
            # The machine is faster now than when the time was taken.
            seconds *= 0.8
        check_goes_on(folder, mirror, undisturbed.folder, (folder / "said").read_text())
        shutil.rmtree(folder)
