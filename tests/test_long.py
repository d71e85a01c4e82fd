"""What takes longer: kills at random moments of a whole evaluation, and a real luigid."""

from __future__ import annotations

import hashlib
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.commands import MODEL, RESULT, SCORE, SPOKEN, checksums, command, prepare, scratch_left
from tests.luigi_daemon import Luigid, running_luigid

pytestmark = pytest.mark.slow


def start(folder: Path, mirror: Path, *words: str) -> subprocess.Popen[bytes]:
    """Start a command on the stand-ins and leave it running."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-m", *words, *sums], cwd=folder, **silent)


def evaluate(folder: Path, mirror: Path) -> subprocess.CompletedProcess[str]:
    """Evaluate `my_model` in a new interpreter, as `start` does.

    A forked one has loaded more modules, and the versions of a model's modules count in its fingerprint.
    """
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = ("heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *sums, *SCORE)
    return command(folder, *words, before=("env",))


def results(folder: Path) -> dict[str, str]:
    """Digests of what an evaluation leaves, but for the times in its files."""
    embeddings = folder / "embeddings" / "my_model" / SPOKEN
    found = [*embeddings.glob("*.np?"), *(folder / "tasks" / SPOKEN / "16000").rglob("*.wav")]
    digests = {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}
    scores = json.loads((embeddings / RESULT).read_text())
    return {**digests, "scores": json.dumps(scores["scores"])}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "my_model.py").write_text(MODEL)
    done = evaluate(folder, mirror)
    assert done.returncode == 0, done.stderr
    assert prepare(folder, mirror, "spoken_digit").returncode == 0
    return folder


# What must be there before the kill comes, and how long the work then goes on.
MOMENTS = {
    "preparing": ("_workdir/*/.shard*.partial", 0.1),
    "embedding": ("_workdir/logs/embed-*.job.json", 2.0),
    "training": ("_workdir/logs/predict-*.job.json", 3.0),
    "training, later": ("_workdir/logs/predict-*.job.json", 4.5),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_evaluation_ends_with_the_same_bytes(
    undisturbed: Path, mirror: Path, tmp_path: Path, moment: str
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    pattern, delay_s = MOMENTS[moment]
    runner = start(tmp_path, mirror, "heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *SCORE)
    while not list(tmp_path.glob(pattern)) and runner.poll() is None:
        time.sleep(0.001)
    time.sleep(delay_s)
    runner.send_signal(signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL, f"the run was over before it was seen {moment}"
    done = evaluate(tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == results(undisturbed)
    assert not scratch_left(tmp_path)


@pytest.mark.parametrize("seed", range(5))
def test_evaluation_killed_at_random_moments(
    undisturbed: Path, mirror: Path, tmp_path: Path, seed: int
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    draw = random.Random(seed)
    words = ("heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *SCORE)
    for _ in range(3):
        runner = start(tmp_path, mirror, *words)
        time.sleep(draw.uniform(0.5, 9))
        runner.send_signal(signal.SIGKILL)
        runner.wait()
    done = evaluate(tmp_path, mirror)
    assert done.returncode == 0, done.stderr
    assert results(tmp_path) == results(undisturbed)
    assert not scratch_left(tmp_path)


@pytest.fixture
def luigid(tmp_path: Path) -> Iterator[str]:
    """The address of a real luigid."""
    with running_luigid(tmp_path) as address:
        yield address


def test_two_runners_share_the_steps_of_a_luigid(
    undisturbed: Path, mirror: Path, tmp_path: Path, luigid: str
) -> None:
    words = ("heareval.tasks.runner", "spoken_digit", "speech_commands", "--scheduler-url", luigid)
    runners = [start(tmp_path, mirror, *words, "--num-workers", "1") for _ in range(2)]
    assert [runner.wait(timeout=120) for runner in runners] == [0, 0]
    assert checksums(undisturbed).items() <= checksums(tmp_path).items()
    assert not scratch_left(tmp_path)


# What runners at once are asked for, beside one another.
WISHES = (
    ("spoken_digit", "speech_commands", "--num-workers", "2"),
    ("spoken_digit", "--sample-rate", "16000", "--sample-rate", "48000", "--num-workers", "1"),
    ("speech_commands", "--sample-rate", "22050", "--num-workers", "3"),
    ("speech_commands", "spoken_digit", "--num-workers", "1"),
)


@pytest.mark.parametrize("shared", ["all", "some", "none"])
@pytest.mark.parametrize("seed", range(2))
def test_four_runners_with_different_wishes(
    undisturbed: Path, mirror: Path, tmp_path: Path, luigid: str, shared: str, seed: int
) -> None:
    """Started one after the other, by chance sooner or later; a luigid serves all, some or none of them."""
    draw = random.Random(f"{shared} {seed}")
    runners = []
    for number, words in enumerate(draw.sample(WISHES, len(WISHES))):
        with_luigid = shared == "all" or (shared == "some" and number % 2 == 0)
        scheduler = ("--scheduler-url", luigid) if with_luigid else ()
        runners.append(start(tmp_path, mirror, "heareval.tasks.runner", *words, *scheduler))
        time.sleep(draw.uniform(0, 0.6))
    assert [runner.wait(timeout=180) for runner in runners] == [0, 0, 0, 0]
    assert checksums(undisturbed).items() <= checksums(tmp_path).items()
    assert len(checksums(tmp_path)) == 2 * 2 * 4
    assert not scratch_left(tmp_path)
    done = prepare(tmp_path, mirror, "spoken_digit", "speech_commands")
    assert "nothing to do" in done.stdout


def test_a_runner_waits_for_the_last_steps_of_another(
    undisturbed: Path, mirror: Path, tmp_path: Path, luigid: str
) -> None:
    """All that the second could still do, the first is at."""
    words = ("heareval.tasks.runner", "spoken_digit", "--scheduler-url", luigid, "--num-workers", "1")
    first = start(tmp_path, mirror, *words)
    while not list(tmp_path.glob("tars/.hear-*.partial")) and first.poll() is None:
        time.sleep(0.0005)
    first.send_signal(signal.SIGSTOP)
    second = start(tmp_path, mirror, *words)
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(timeout=8)
    first.send_signal(signal.SIGCONT)
    assert [first.wait(timeout=60), second.wait(timeout=60)] == [0, 0]
    assert checksums(undisturbed) == checksums(tmp_path)


def test_the_other_runner_takes_over_from_a_killed_one(
    undisturbed: Path, mirror: Path, tmp_path: Path, luigid: str
) -> None:
    words = ("heareval.tasks.runner", "spoken_digit", "--scheduler-url", luigid, "--num-workers", "1")
    first = start(tmp_path, mirror, *words)
    while not list(tmp_path.glob("_workdir/*/.shard*.partial")) and first.poll() is None:
        time.sleep(0.0005)
    second = start(tmp_path, mirror, *words)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    assert second.wait(timeout=180) == 0
    assert checksums(undisturbed) == checksums(tmp_path)


def test_luigid_killed_and_started_empty_changes_no_byte(
    undisturbed: Path, mirror: Path, tmp_path: Path
) -> None:
    luigid = Luigid(tmp_path)
    luigid.start()
    words = ("heareval.tasks.runner", "spoken_digit", "--scheduler-url", luigid.address, "--num-workers", "1")
    runners = [start(tmp_path, mirror, *words) for _ in range(2)]
    try:
        while not list(tmp_path.glob("_workdir/*/.shard*.partial")) and runners[0].poll() is None:
            time.sleep(0.0005)
        luigid.end()
        luigid.start()
        assert [runner.wait(timeout=180) for runner in runners] == [0, 0]
    finally:
        luigid.end()
    assert checksums(undisturbed) == checksums(tmp_path)
    assert not scratch_left(tmp_path)
