"""`--overwrite`: what is complete is made again, and stays until the new one is complete."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import heareval
from heareval import api, files, layout
from heareval.embeddings.embed import EmbedJob, _unfinished
from heareval.embeddings.embedding_format import DEFAULT_FORMAT
from heareval.embeddings.submission import Submission
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import read_embeddings_manifest, sweep_finished
from heareval.layout import Places
from heareval.workflow.cleaning import Leftover, delete_leftovers
from heareval.workflow.evaluate import Predict
from heareval.workflow.overwriting import NOTHING, begin_overwriting
from heareval.workflow.step import Step
from tests.commands import MODEL, SPOKEN, command, only_line
from tests.test_api import places_in, spoken

LIMITED, NAME = f"{SPOKEN}-limit4", "probe-linear-limit4"
SCORES = layout.scores(NAME)
# A model depends on a file that its fingerprint does not cover.
DEPENDENT = MODEL.replace(
    "    return get_timestamp_embeddings(audio, model)[0].mean(1)",
    """    import time
    from pathlib import Path
    gain = float(Path("gain").read_text())
    model.calls = getattr(model, "calls", 0) + 1
    # It is described first.
    while model.calls > 2 and Path("hold").exists():
        Path("held").touch()
        time.sleep(0.01)
    if gain < 0 and model.calls > 2:
        raise ValueError("negative gain")
    return gain * get_timestamp_embeddings(audio, model)[0].mean(1)""",
)


def evaluate(folder: Path, mirror: Path, *words: str) -> subprocess.CompletedProcess[str]:
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    asked = ("--tasks", "spoken_digit", "--limit", "4", "--probe", "linear", *sums, *words)
    return command(folder, "heareval", "evaluate", "my_model", *asked)


def list_files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """The content and the inode of each file."""
    return {path.name: (path.read_bytes(), path.stat().st_ino) for path in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, prepared: Path, mirror: Path) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "my_model.py").write_text(DEPENDENT)
    (folder / "gain").write_text("1")
    (folder / "tasks").symlink_to(prepared / "tasks")
    done = evaluate(folder, mirror)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def copy(evaluated: Path, tmp_path: Path) -> Path:
    shutil.copytree(evaluated, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy"


def test_scores_are_made_again_and_embeddings_stay(copy: Path, mirror: Path) -> None:
    folder = copy / "embeddings" / "my_model" / LIMITED
    # Another program has damaged the scores: without being asked, nothing replaces them.
    (folder / SCORES).write_text("{")
    before = list_files(folder)
    assert "Remove the scores file of this protocol" in only_line(evaluate(copy, mirror))
    assert list_files(folder) == before
    done = evaluate(copy, mirror, "--overwrite", "scores")
    assert f"[step 1 of 1] my_model on {LIMITED}: predictor" in done.stderr
    after = list_files(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {SCORES, layout.predictions(NAME)}
    (scores,) = heareval.results(folder)
    assert scores.protocol == NAME
    # The next run has nothing to do, unless it is asked to overwrite as well.
    assert "nothing to do" in evaluate(copy, mirror).stdout
    words = ("predict", str(folder), "--probe", "linear", "--overwrite", "scores")
    assert "1 step done" in command(copy, "heareval", *words).stdout


def test_embeddings_are_made_again_and_stay_if_the_new_ones_fail(copy: Path, mirror: Path) -> None:
    folder = copy / "embeddings" / "my_model" / LIMITED
    shutil.copyfile(folder / SCORES, folder / layout.scores("other-limit4"))
    before = list_files(folder)
    # The model fails when it has embedded two batches.
    (copy / "gain").write_text("-1")
    assert "ValueError: negative gain" in only_line(evaluate(copy, mirror, "--overwrite", "all"))
    assert list_files(folder) == before
    # Nothing would go on with them.
    assert [path for path in folder.parent.iterdir() if path.is_dir()] == [folder]
    (copy / "gain").write_text("2")
    # heareval cannot know that the model has changed.
    assert "nothing to do" in evaluate(copy, mirror).stdout
    assert list_files(folder) == before
    done = evaluate(copy, mirror, "--overwrite", "all")
    assert done.returncode == 0, done.stderr
    assert f"[step 2 of 2] my_model on {LIMITED}: predictor" in done.stderr
    after = list_files(folder)
    assert after["fold00.npy"][0] != before["fold00.npy"][0]
    # Scores of the old embeddings went with them.
    assert layout.scored_protocols(folder) == (NAME,)
    assert "nothing to do" in evaluate(copy, mirror).stdout
    done = command(copy, "heareval", "embed", "my_model", "--limit", "4", "--overwrite", "all")
    assert "1 step done" in done.stdout, done.stderr


def test_after_a_kill_what_was_there_is_complete(copy: Path, mirror: Path) -> None:
    (copy / "hold").touch()
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    words = ("evaluate", "my_model", "--tasks", "spoken_digit", "--limit", "4", "--probe", "linear", *sums)
    runner = subprocess.Popen(
        [sys.executable, "-m", "heareval", *words, "--overwrite", "all"],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not (copy / "held").exists() and runner.poll() is None:
        time.sleep(0.01)
    os.killpg(runner.pid, signal.SIGKILL)
    runner.wait()
    # No run continues what is left of the new embeddings.
    assert len(list((copy / "embeddings" / "my_model").glob(f".*{files.UNFINISHED}"))) == 1
    states = {"running"}
    while "running" in states:
        found = api.status(None, places_in(copy)).rows
        states = {row.state for row in found if row.submission or row.kind == "step"}
    assert states == {"complete"}
    # Nothing else needs it either.
    folder = copy / "embeddings" / "my_model" / LIMITED
    before = list_files(folder)
    (left,) = folder.parent.glob(f".*{files.UNFINISHED}")
    assert find_reasons(copy)[left] == ("embeddings that a killed run was making again")
    api.clean(places_in(copy), delete=True)
    assert not left.exists()
    assert list_files(folder) == before
    assert "nothing to do" in evaluate(copy, mirror).stdout


def find_reasons(folder: Path) -> dict[Path, str]:
    return {each.path: each.reason for each in api.clean(places_in(folder)).leftovers}


def embed_again(target: Path) -> EmbedJob:
    """A job that makes embeddings again; its model is never loaded."""
    return EmbedJob(
        Submission("my_model"), target, target, target, "0", "0" * 16, DEFAULT_FORMAT,
        device="cpu", silence_s=1.0, log=target / "log", variables={}, not_before_s=1.0,
    )  # fmt: skip


def kill_at(place: int, target: Path) -> None:
    """Begin embeddings again and finish them, but kill this process before it changes its n-th path."""
    changes = 0

    def count(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal changes
        is_written = (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if is_written or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            changes += 1
            if changes == place:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    with _unfinished(embed_again(target)) as folder:
        (folder / "fold00.npy").write_text("an array")
        (folder / "journal").write_text("a journal")


def test_what_is_made_again_is_known_wherever_the_run_is_killed(copy: Path) -> None:
    """Kills before each change of a path; what is left is never taken for embeddings to go on with."""
    folder = copy / "embeddings" / "my_model" / LIMITED
    before, places = list_files(folder), places_in(copy)
    kills, exit_code = 0, -int(signal.SIGKILL)
    while exit_code == -signal.SIGKILL:
        kills += 1
        killed = multiprocessing.get_context("fork").Process(target=kill_at, args=(kills, folder))
        killed.start()
        killed.join()
        exit_code = killed.exitcode or 0
        rows = api.status(None, places).rows
        assert {row.state for row in rows if row.submission} == {"complete"}
        api.clean(places, delete=True)
        hidden = [path for path in folder.parent.glob(".*") if path.suffix != ".lock"]
        assert hidden == [], f"after kill {kills}"
    assert exit_code == 0
    assert kills > 8
    assert list_files(folder) == before


def test_what_a_run_makes_again_at_the_moment_is_not_cleaned(copy: Path) -> None:
    """That run has another work folder, so it does not hold the lock of this one."""
    folder = copy / "embeddings" / "my_model" / LIMITED
    with _unfinished(embed_again(folder)) as unfinished:
        (unfinished / "fold00.npy").touch()
        assert unfinished not in find_reasons(copy)
        api.clean(places_in(copy), delete=True)
        assert unfinished.exists()
        # A run may begin to use what was listed.
        failures = delete_leftovers([Leftover(unfinished, "listed before")], places_in(copy))
        assert failures == [f"{unfinished}: a run uses it"]
        assert unfinished.exists()
    assert not unfinished.exists()


def test_unfinished_embeddings_are_kept_unless_they_are_complete(copy: Path) -> None:
    folder = copy / "embeddings" / "my_model" / LIMITED
    complete = files.unfinished_path(folder, read_embeddings_manifest(folder).fingerprint)
    other = files.unfinished_path(folder, "0" * 16)
    for path in (complete, other):
        path.mkdir()
        (path / "fold00.npy").touch()
    reasons = find_reasons(copy)
    assert reasons[complete] == "unfinished embeddings that are complete by now"
    assert other not in reasons
    api.clean(places_in(copy), delete=True)
    assert (complete.exists(), other.exists()) == (False, True)


def test_scores_stay_if_the_new_ones_fail(copy: Path, mirror: Path) -> None:
    folder = copy / "embeddings" / "my_model" / LIMITED
    with open(folder / "fold00.npy", "ab") as array:
        array.write(b"x")
    before = list_files(folder)
    assert "fold00.npy" in only_line(evaluate(copy, mirror, "--overwrite", "scores"))
    assert list_files(folder) == before


def test_what_is_to_be_made_again_is_known_on_every_machine(evaluated: Path) -> None:
    folder = evaluated / "embeddings" / "my_model" / LIMITED
    (scores,) = heareval.results(folder)
    step = Predict(
        Places(embeddings=str(evaluated / "embeddings")),
        path=f"my_model/{LIMITED}",
        embeddings_fingerprint=scores.embeddings_fingerprint,
        protocol=heareval.Protocol(probe="linear", limit=4),
    )
    written_s = (folder / SCORES).stat().st_mtime
    for not_before_s, is_complete in ((0.0, True), (written_s, True), (written_s + 0.001, False)):
        again = step.clone(not_before_s=not_before_s)
        assert again.complete() == is_complete
        assert Step.from_upstream(again.as_upstream()).complete() == is_complete
        # The scheduler knows one step, whoever asks for it.
        assert again.task_id == step.task_id


def test_what_is_unfinished_is_not_continued_nor_swept(copy: Path) -> None:
    folder = copy / "embeddings" / "my_model" / LIMITED
    job = EmbedJob(
        Submission("my_model"),
        copy / "tasks" / SPOKEN,
        copy / "tasks" / SPOKEN,
        folder,
        "0",
        read_embeddings_manifest(folder).fingerprint,
        DEFAULT_FORMAT,
        device="cpu",
        silence_s=1.0,
        log=copy / "log",
        variables={},
    )
    again = [replace(job, not_before_s=time_s) for time_s in (1.0, 2.0)]
    places = [each.unfinished for each in (job, *again)]
    assert len(set(places)) == 3
    assert set(places) >= {files.unfinished_path(folder, job.fingerprint)}
    for place in places:
        place.mkdir()
    # Another run begins while the embeddings are made again.
    sweep_finished(copy / "embeddings")
    assert [place.exists() for place in places] == [False, True, True]
    # The next run that embeds the task removes what killed ones have left.
    assert set(files.all_unfinished(folder)) == set(places[1:])


def test_an_unknown_word_is_an_error(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match="unknown overwrite: got 'al'"):
        heareval.evaluate(
            "heareval.embeddings.baseline",
            places_in(prepared),
            tasks=spoken(mirror),
            overwrite="al",  # type: ignore[arg-type]
        )
    assert begin_overwriting("only-missing", tmp_path) == NOTHING
    (tmp_path / "before").touch()
    found = begin_overwriting("all", tmp_path)
    assert not files.is_written_since(tmp_path / "before", found.scores_not_before_s + 1)
    assert found.embeddings_not_before_s == found.scores_not_before_s
    assert begin_overwriting("scores", tmp_path).embeddings_not_before_s == 0
    assert not files.is_written_since(tmp_path / "nothing", 0.0)
