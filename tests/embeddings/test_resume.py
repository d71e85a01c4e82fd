"""An embedding killed at random moments has the same bytes, and computes no finished batch twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from heareval import files
from heareval.embeddings.journal import FITTED, TOO_LARGE, Journal, read_boot_id, read_trusted_lines
from heareval.embeddings.opening import check_unchanged, open_submission
from heareval.embeddings.submission import Model
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import sweep_finished
from tests.commands import MODEL, SPOKEN, command, scratch_left
from tests.embeddings.clips import TELLING_MODEL, embed, manifest, start_embedding, write_task

# Two splits, two lengths, and a model that runs out of memory below the budget.
LENGTHS = {"a": [400, 800] * 60, "b": [800] * 60}
BUDGET, OPTIONS = 16000, {"fits": 7000, "seconds": 0.02}


def begin(folder: Path, task: Path) -> subprocess.Popen[bytes]:
    (folder / "my_model.py").write_text(TELLING_MODEL)
    return start_embedding(folder, task, budget=BUDGET, options=OPTIONS)


def finish(folder: Path, task: Path) -> None:
    (folder / "my_model.py").write_text(TELLING_MODEL)
    assert not embed(folder, task, budget=BUDGET, options=OPTIONS)
    assert not files.all_unfinished(folder / "out")


def journal_of(folder: Path) -> Path | None:
    return next(iter(folder.glob(".out.*/journal")), None)


def arrays(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.npy")}


def calls(folder: Path) -> list[str]:
    # The model may be killed before its first call.
    return (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_task(tmp_path_factory.mktemp("task") / "task", LENGTHS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, task: Path) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    finish(folder, task)
    sizes = {int(call.split()[0]) for call in calls(folder)}
    assert len(sizes) > 3, "memory ran out, and batches grew again"
    return folder


def lines_noted(folder: Path) -> int:
    with contextlib.suppress(OSError):
        journal = journal_of(folder)
        return journal.read_bytes().count(b"\n") if journal else 0
    return 0


def kill_after_notes(folder: Path, task: Path, notes: int, pause_s: float, *, only_the_parent: bool) -> None:
    """Start to embed, and kill it a moment after it has added this many lines to the journal."""
    wanted = lines_noted(folder) + notes
    process = begin(folder, task)
    while process.poll() is None and lines_noted(folder) < wanted:
        time.sleep(0.001)
    time.sleep(pause_s)
    with contextlib.suppress(ProcessLookupError):
        process.kill() if only_the_parent else os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def calls_not_noted(folder: Path, if_finished: int) -> int:
    """Return how many batches were begun but are not in the journal; `if_finished` if there is no journal."""
    journal = journal_of(folder)
    if journal is None:
        return if_finished
    noted = [line for line in read_trusted_lines(journal.read_bytes())[0] if line[0] in (FITTED, TOO_LARGE)]
    return len(calls(folder)) - len(noted)


@pytest.mark.parametrize(
    ("seed", "kills"), [(0, 2), *(pytest.param(seed, 8, marks=pytest.mark.slow) for seed in range(1, 6))]
)
def test_killed_at_random_moments(
    tmp_path: Path, task: Path, undisturbed: Path, seed: int, kills: int
) -> None:
    draw = random.Random(seed)
    again = 0
    for kill in range(kills):
        notes, pause_s = draw.randint(1, 8), draw.random() * 0.03
        kill_after_notes(tmp_path, task, notes, pause_s, only_the_parent=bool(kill % 2))
        # A finished embedding begins no further batch.
        again = calls_not_noted(tmp_path, if_finished=again)
    finish(tmp_path, task)
    assert arrays(tmp_path) == arrays(undisturbed)
    assert len(calls(tmp_path)) == len(calls(undisturbed)) + again


def test_a_killed_worker_is_an_error_and_the_next_run_resumes(
    tmp_path: Path, task: Path, undisturbed: Path
) -> None:
    killing = TELLING_MODEL.replace("    time.sleep", "    maybe_die()\n    time.sleep", 1)
    killing += """
def maybe_die():
    if len(open("calls").readlines()) == 9:
        os.kill(os.getpid(), 15)
"""
    (tmp_path / "my_model.py").write_text(killing)
    said = embed(tmp_path, task, budget=BUDGET, options=OPTIONS)
    assert "the worker process: got signal SIGTERM" in said
    finish(tmp_path, task)
    assert arrays(tmp_path) == arrays(undisturbed)
    assert len(calls(tmp_path)) == len(calls(undisturbed)) + 1


def cut_journal(folder: Path, task: Path, place: int) -> Path:
    """Kill an embedding late, cut its journal after this many bytes, and return the journal."""
    kill_after_notes(folder, task, 20, 0.0, only_the_parent=False)
    journal = journal_of(folder)
    assert journal is not None
    journal.write_bytes(journal.read_bytes()[:place])
    return journal


@pytest.mark.slow
def test_a_torn_line_of_the_journal_does_not_count(tmp_path: Path, task: Path, undisturbed: Path) -> None:
    journal = cut_journal(tmp_path, task, 400)
    assert not journal.read_bytes().endswith(b"\n")
    finish(tmp_path, task)
    assert arrays(tmp_path) == arrays(undisturbed)


def test_other_settings_start_over(tmp_path: Path, task: Path) -> None:
    kill_after_notes(tmp_path, task, 5, 0.0, only_the_parent=False)
    assert files.all_unfinished(tmp_path / "out")
    assert not embed(tmp_path, task, budget=BUDGET, options=OPTIONS, form={"dtype": "float16"})
    assert np.load(tmp_path / "out" / "b.npy").dtype == np.float16
    assert not files.all_unfinished(tmp_path / "out")
    assert manifest(tmp_path)["unusual_embedding"] == {"dtype": "float16"}


@pytest.mark.parametrize(
    "damage",
    [lambda array: os.truncate(array, 300), pytest.param(Path.unlink, marks=pytest.mark.slow)],
    ids=["cut", "missing"],
)
def test_missing_or_cut_arrays_are_computed_again(
    tmp_path: Path, task: Path, undisturbed: Path, damage: Callable[[Path], None]
) -> None:
    kill_after_notes(tmp_path, task, 9, 0.0, only_the_parent=False)
    (array,) = tmp_path.glob(".out.*/a.npy")
    damage(array)
    finish(tmp_path, task)
    assert arrays(tmp_path) == arrays(undisturbed)


def test_unfinished_work_of_a_folder_with_a_longer_name_stays(tmp_path: Path) -> None:
    for name in ("one", "one.more"):
        files.unfinished_path(tmp_path / name, files.fingerprint(name, 1)).mkdir()
    for name in ("one", "one.more"):
        assert files.all_unfinished(tmp_path / name) == [
            files.unfinished_path(tmp_path / name, files.fingerprint(name, 1))
        ]


def test_changes_of_sources_and_weights_during_a_run_are_errors(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(TELLING_MODEL)
    (tmp_path / "w.pt").write_bytes(b"weights")
    submission = open_submission(
        Model("my_model", weights_path=str(tmp_path / "w.pt")), "scene", tmp_path / "cache"
    )
    check_unchanged(submission)
    for file, content in (("my_model.py", TELLING_MODEL + "#"), ("w.pt", "others")):
        before = (tmp_path / file).read_bytes()
        (tmp_path / file).write_text(content)
        with pytest.raises(HearevalError, match=f"{file} changed since the run began"):
            check_unchanged(submission)
        (tmp_path / file).write_bytes(before)
    (tmp_path / "my_model.py").write_text(TELLING_MODEL + "#")
    open_submission(Model("my_model", weights_path=str(tmp_path / "w.pt")), "scene", tmp_path / "cache")
    with pytest.raises(HearevalError, match="changed since the run began"):
        check_unchanged(submission)


def test_the_remains_of_a_finished_embedding_are_removed(tmp_path: Path) -> None:
    target = tmp_path / "my_model" / "task"
    target.mkdir(parents=True)
    done, other = files.fingerprint("done", 1), files.fingerprint("other", 1)
    for fingerprint in (done, other):
        files.unfinished_path(target, fingerprint).mkdir()
    files.write_json(target / files.MANIFEST, {"fingerprint": done, "arrays": ["a.npy"]})
    sweep_finished(tmp_path)
    assert len(files.all_unfinished(target)) == 2, "an array is missing: it is being made anew"
    (target / "a.npy").touch()
    sweep_finished(tmp_path)
    assert files.all_unfinished(target) == [files.unfinished_path(target, other)]


def lines(*entries: list[object]) -> bytes:
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)


def test_after_a_power_cut_only_synced_lines_count() -> None:
    synced = (["boot", "earlier"], ["fitted", 30, 3], ["synced"])
    after = (["fitted", 20, 2],)
    assert read_trusted_lines(lines(*synced, *after)) == (list(synced), len(lines(*synced)))
    killed = (*synced, ["boot", read_boot_id()], *after)
    assert read_trusted_lines(lines(*killed)) == (list(killed), len(lines(*killed)))
    for strange in (b"5\n", b"[]\n", b'["fitted"]\n', b'["boot"]\n', b'["other", 1]\n', b"[" * 99999 + b"\n"):
        assert read_trusted_lines(lines(*killed) + strange)[0] == list(killed)
    torn = lines(*killed) + b'["fitted", 2,\n' + lines(*after)
    assert read_trusted_lines(torn) == (list(killed), len(lines(*killed)))
    assert read_trusted_lines(lines(*synced) + b"\0\0\0\n" + lines(*after))[0] == list(synced)


@pytest.mark.skipif(sys.platform != "linux", reason="uses /proc")
def test_arrays_are_synced_before_the_journal_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = tmp_path / "a.npy"
    array.write_bytes(b"rows")
    synced: list[tuple[str, bool]] = []

    def fsync(handle: int) -> None:
        is_noted = b"synced" in (tmp_path / "journal").read_bytes()
        synced.append((Path(f"/proc/self/fd/{handle}").readlink().name, is_noted))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("heareval.embeddings.journal.SYNC_S", 0.0)
    journal = Journal(tmp_path / "journal")
    journal.sync([array])
    assert synced == [("a.npy", False), ("journal", False), (tmp_path.name, False)]
    assert journal.lines[-1] == ["synced"]


def test_a_journal_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Journal(tmp_path / "journal")
    first.note("fitted", 30, 3)
    first.note("too_large", 60, 0)
    monkeypatch.setattr("heareval.embeddings.journal.SYNC_S", 0.0)
    first.sync([])
    second = Journal(tmp_path / "journal")
    assert (second.done, second.history) == (3, [("fitted", 30), ("too_large", 60)])
    monkeypatch.setattr("heareval.embeddings.journal.read_boot_id", lambda: "another")
    second.note("fitted", 10, 1)
    assert Journal(tmp_path / "journal").done == 3


SLOW_MODEL = (
    MODEL.replace(
        "def get_scene_embeddings(audio, model):", "def get_scene_embeddings(audio, model):\n    pause()"
    )
    + "\nimport time\n\ndef pause():\n    time.sleep(0.3)\n"
)


def start_runner(folder: Path, prepared: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    words = ["-m", "heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks")]
    with open(folder / "said", "ab") as said:
        return subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


@pytest.mark.slow
def test_a_killed_command_resumes_and_leaves_no_scratch(prepared: Path, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("undisturbed", "killed")]
    for folder in folders:
        folder.mkdir()
        (folder / "my_model.py").write_text(SLOW_MODEL)
    assert start_runner(folders[0], prepared).wait() == 0
    draw = random.Random(0)
    for only_the_runner in (True, False, True):
        runner = start_runner(folders[1], prepared)
        journals = "embeddings/my_model/.*.unfinished/journal"
        before = sum(path.stat().st_size for path in folders[1].glob(journals))
        while runner.poll() is None and sum(p.stat().st_size for p in folders[1].glob(journals)) <= before:
            time.sleep(0.005)
        time.sleep(draw.random() * 0.5)
        runner.kill() if only_the_runner else os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
        assert not (folders[1] / "embeddings" / "my_model" / SPOKEN).exists()
    # Of two concurrent runs one waits for the other, and finds everything done.
    assert [each.wait() for each in [start_runner(folders[1], prepared) for _ in range(2)]] == [0, 0]
    assert arrays(folders[0]) == arrays(folders[1])
    assert not scratch_left(folders[1])
    assert not list(folders[1].rglob("*.unfinished"))
    again = command(
        folders[1], "heareval.embeddings.runner", "my_model", "--tasks-dir", str(prepared / "tasks")
    )
    assert "nothing to do" in again.stdout
