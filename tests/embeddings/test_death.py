"""A model that ends its process gives one clear error, and its traceback is in the log."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tests.commands import command, only_line
from tests.disks import enlarge, small_disk
from tests.embeddings.clips import TELLING_MODEL, embed, write_task

# What the model does instead of returning -> the error, and a line of the log.
ENDS = {
    "raise ValueError('the ear is deaf')": (
        r"get_scene_embeddings on audio of shape \(2, 800\): got ValueError: the ear is deaf \(line \d+ of",
        "ValueError: the ear is deaf",
    ),
    "import sys; sys.exit(3)": (r"got SystemExit: 3 \(line \d+ of .*my_model", "SystemExit: 3"),
    "os._exit(7)": (r"the worker process: got exit code 7, .*Its log is", ""),
    "import ctypes; ctypes.string_at(0)": (
        r"signal SIGSEGV, last output: Fatal Python error: Segmentation fault, File .*ctypes",
        r"my_model\.py\", line \d+ in get_scene_embeddings",
    ),
    "os.kill(os.getpid(), 15)": (r"the worker process: got signal SIGTERM, ", ""),
    "time.sleep(600)": (
        r"no message for 8 s, expected progress or a result. Its log is .*larger --timeout",
        r"my_model\.py\", line \d+ in get_scene",
    ),
}


@pytest.mark.parametrize(
    "end", [pytest.param(end, marks=pytest.mark.slow) if end == "time.sleep(600)" else end for end in ENDS]
)
def test_an_end_is_one_clear_error(tmp_path: Path, end: str) -> None:
    said, logged = ENDS[end]
    source = TELLING_MODEL.replace("    time.sleep(model.seconds)", f"    {end}")
    (tmp_path / "my_model.py").write_text(source)
    task = write_task(tmp_path / "task", {"a": [800] * 2})
    told = embed(tmp_path, task, budget=16000, silence_s=8.0 if "sleep" in end else 300.0)
    assert re.search(said, told), told
    assert told.count("\n") == 1
    (log,) = (tmp_path / "logs").glob("*.log")
    assert re.search(logged, log.read_text())
    assert not list(tmp_path.glob("out")), "nothing half-made is there"
    assert not list(tmp_path.rglob("*.npy"))


def test_a_submission_that_closes_the_channel_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(f"import os; os.closerange(3, 4096)\n{TELLING_MODEL}")
    told = embed(tmp_path, write_task(tmp_path / "task", {"a": [800] * 2}), budget=16000)
    assert "last output: the submission has closed a file descriptor that it did not open, expected" in told
    assert told.count("\n") == 1


def test_no_message_goes_into_a_file_of_the_submission(tmp_path: Path) -> None:
    """The submission has closed the channel, and opened a file that has got its number."""
    source = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from heareval.embeddings.inside.channel import Channel
_, sender = os.pipe()
channel = Channel(sender, "token")
os.close(sender)
assert os.open("theirs", os.O_CREAT | os.O_WRONLY) == sender
channel.send({{"done": 1}})
"""
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.strip()) == (
        1,
        "the submission has closed a file descriptor that it did not open",
    )
    assert not (tmp_path / "theirs").read_bytes()


def test_a_full_disk_is_an_error_before_the_first_batch(tmp_path: Path) -> None:
    task = write_task(tmp_path / "task", {"a": [800] * 400})
    with small_disk(tmp_path / "disk", 2_000_000) as folder:
        (folder / "my_model.py").write_text("from heareval.embeddings.baseline import *\n")
        told = embed(folder, task, budget=10**6, options={"embedding_size": 4096})
        assert "a.npy: got No space left on device for 0.0131 GB, expected room for all embeddings" in told
        assert told.count("\n") == 1
        assert not list(folder.rglob("*.npy"))
        enlarge(folder, 20_000_000)
        assert not embed(folder, task, budget=10**6, options={"embedding_size": 4096})
        assert (folder / "out" / "a.npy").stat().st_size == 400 * 8192 * 4 + 128


# What a submission is -> the error that names it.
FAULTY = {
    "import os; os._exit(3)": "error: faulty: the worker process: got exit code 3, expected a result.",
    f"{TELLING_MODEL}\nload_model = lambda: None\n": (
        "error: faulty: load_model: got None, expected a torch.nn.Module or a tf.Module. End it with `return"
    ),
    f"{TELLING_MODEL}\ndef get_scene_embeddings(audio, model): pass\n": (
        "error: faulty: get_scene_embeddings: got None, expected embeddings. End the function with a return"
    ),
}


@pytest.mark.parametrize("source", FAULTY)
def test_an_error_names_the_submission(tmp_path: Path, source: str) -> None:
    (tmp_path / "faulty.py").write_text(source)
    write_task(tmp_path / "tasks" / "task-v1-full", {"a": [800] * 2})
    done = command(tmp_path, "heareval.embeddings.runner", "faulty")
    assert only_line(done).startswith(FAULTY[source])
