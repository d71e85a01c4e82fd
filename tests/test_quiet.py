"""`--quiet`: a run prints what it changed or what failed, and not a byte otherwise."""

from __future__ import annotations

import gzip
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from heareval import api
from heareval.layout import Places
from heareval.workflow.run_lock import claim_work_folder
from tests import stand_ins
from tests.commands import MODEL, SPOKEN, command, only_line, prepare
from tests.http_server import serving
from tests.test_unfinished import write_task

ARCHIVE = "v1.0.9.tar.gz"
SPOKEN_AT_16000 = ("spoken_digit", "--sample-rate", "16000", "--quiet")


def is_silent(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command succeeded and printed nothing, so that cron would send no mail."""
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def split_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines on standard output of a command that succeeded and said nothing on standard error."""
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_prepare_prints_what_it_made_and_nothing_the_next_time(tmp_path: Path, mirror: Path) -> None:
    folder, tarball, note, last = split_lines(prepare(tmp_path, mirror, *SPOKEN_AT_16000))
    assert folder == f"new      task folder {SPOKEN}: at 16000 Hz"
    assert tarball.startswith(f"new      tarball {SPOKEN} at 16000 Hz: SHA-256 ")
    assert note.startswith(f"note on tasks/{SPOKEN}: NOT the published corpus")
    assert last.startswith("9 steps done; ")
    assert is_silent(prepare(tmp_path, mirror, *SPOKEN_AT_16000))
    shutil.rmtree(tmp_path / "tasks" / SPOKEN)
    assert split_lines(prepare(tmp_path, mirror, *SPOKEN_AT_16000))[0] == folder


def test_evaluate_embed_and_predict(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", write_task(tmp_path, "crows", is_damaged=False))
    words = (*words, "--probe", "linear", "--quiet")
    folder, scores, _ = split_lines(command(tmp_path, *words))
    assert folder == "new      task folder crows-v1-full: at 16000 Hz"
    assert scores.startswith("new      my_model (probe-linear) on crows-v1-full: top1_acc ")
    assert is_silent(command(tmp_path, *words))
    report, *others = split_lines(command(tmp_path, *words, "--report", "full"))
    assert (report, others) == ("report: embeddings/my_model/crows-v1-full/report-probe-linear", [])
    assert is_silent(command(tmp_path, *words, "--report", "full"))

    words = ("heareval", "embed", "my_model", "--task", "crows", "--embeddings-dir", "others", "--quiet")
    embeddings, _ = split_lines(command(tmp_path, *words))
    assert embeddings == "new      embeddings my_model on crows-v1-full"
    assert is_silent(command(tmp_path, *words))

    # These embeddings don't lie in the default folder.
    words = ("heareval", "predict", "others/my_model/crows-v1-full", "--probe", "linear", "--quiet")
    assert split_lines(command(tmp_path, *words))[0] == scores
    assert is_silent(command(tmp_path, *words))


def test_damaged_scores_are_told(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", write_task(tmp_path, "crows", is_damaged=False))
    words = (*words, "--probe", "linear", "--quiet")
    assert command(tmp_path, *words).returncode == 0
    (path,) = (tmp_path / "embeddings").rglob("test.*-scores.json")
    path.write_text("[")
    done = command(tmp_path, *words)
    assert (done.returncode, done.stdout) == (30, "")
    assert str(path) in only_line(done)


def test_failures_are_told_beside_what_was_made(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("raise ValueError('no')")
    tasks = [write_task(tmp_path, name, is_damaged=name == "owls") for name in ("crows", "owls")]
    words = ("heareval", "evaluate", "my_model", "broken", "--tasks", ",".join(tasks), "--probe", "linear")
    done = command(tmp_path, *words, "--quiet")
    assert done.returncode == 30
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == [
        "new      task folder crows-v1-full",
        "new      my_model (probe-linear) on crows-v1-full",
    ]
    errors = done.stderr.splitlines()
    assert errors[0].startswith("error: import of broken: got ValueError: no")
    assert errors[1].startswith("error: owls full: clips, part ")
    assert "1 of 2 tasks scored" in errors


def test_clean_prints_only_what_it_deletes(tmp_path: Path, mirror: Path) -> None:
    assert prepare(tmp_path, mirror, *SPOKEN_AT_16000).returncode == 0
    words = ("heareval", "clean", "--delete", "--quiet")
    assert split_lines(command(tmp_path, *words))[-1].endswith(", deleted")
    assert is_silent(command(tmp_path, *words))
    assert is_silent(prepare(tmp_path, mirror, *SPOKEN_AT_16000))
    assert is_silent(command(tmp_path, *words)), "a run with nothing to do leaves nothing to delete"


def test_a_quiet_run_waits_for_a_clean_without_a_word(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "_workdir").mkdir()
    words = [sys.executable, "-m", "heareval", "prepare", *SPOKEN_AT_16000, "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    places = Places(*(str(tmp_path / name) for name in ("_workdir", "tasks", "tars", "embeddings")))
    with claim_work_folder(places):
        runner = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not has_waiter(runner.pid):
            assert runner.poll() is None
            time.sleep(0.01)
    _, errors = runner.communicate()
    assert (runner.returncode, errors) == (0, b"")


def has_waiter(pid: int) -> bool:
    """Whether a process waits for a lock."""
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux lists who waits for a lock")
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def test_progress_is_hidden_in_python_as_well(
    tmp_path: Path, mirror: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = Places(*(str(tmp_path / name) for name in ("_workdir", "tasks", "tars", "embeddings")))
    accepted = str(mirror / "MD5SUMS")
    corpus = api.CorpusRequest(("spoken_digit",), mirrors=(str(mirror),), accept_checksums=accepted)
    for is_quiet in (True, False):
        settings = api.RunSettings(num_workers=1, is_quiet=is_quiet)
        done = api.prepare(corpus, places, sample_rates=(16000 if is_quiet else 22050,), settings=settings)
        assert done.outcome.steps
        assert ("[step " in capfd.readouterr().err) is not is_quiet
    assert {each.output.task_folder for each in api.own_changes(places).changes} == {SPOKEN}


def test_a_clock_that_is_set_during_a_run_hides_no_change(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = Places(*(str(tmp_path / name) for name in ("_workdir", "tasks", "tars", "embeddings")))
    accepted = str(mirror / "MD5SUMS")
    corpus = api.CorpusRequest(("spoken_digit",), mirrors=(str(mirror),), accept_checksums=accepted)
    api.prepare(corpus, places, sample_rates=(16000,), settings=api.RunSettings(num_workers=1))
    # psutil adds the time since the machine was booted to that of the boot, which Linux takes from the clock.
    (tmp_path / "proc" / str(os.getpid())).mkdir(parents=True)
    stat = Path("/proc/stat").read_text()
    later = re.sub(r"^btime (\d+)$", lambda found: f"btime {int(found[1]) + 1}", stat, flags=re.MULTILINE)
    assert later != stat
    (tmp_path / "proc" / "stat").write_text(later)
    (tmp_path / "proc" / str(os.getpid()) / "stat").write_text(Path("/proc/self/stat").read_text())
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    assert {each.output.task_folder for each in api.own_changes(places).changes} == {SPOKEN}


# --------------------------------------------------------------------------- archives that change upstream


def change(archive: Path) -> None:
    """Append further empty blocks to a .tar.gz: another file, with the same content."""
    with gzip.open(archive, "ab") as stream:
        stream.write(bytes(10240))


def test_an_archive_that_has_changed_is_never_accepted_silently(tmp_path: Path, mirror: Path) -> None:
    served, accepted = tmp_path / "served", tmp_path / "accepted"
    served.mkdir()
    shutil.copy(mirror / ARCHIVE, served)
    accepted.write_text(stand_ins.md5sums(served).read_text())
    words = ("heareval", "prepare", *SPOKEN_AT_16000, "--accept-checksums", str(accepted))
    with serving(served) as (url, behaviour):
        words = (*words, "--mirror", url)
        assert command(tmp_path, *words).returncode == 0
        earlier = accepted.read_text().split()[0]
        asked = len(behaviour.requests)
        change(served / ARCHIVE)
        later = stand_ins.md5sums(served).read_text().split()[0]
        assert is_silent(command(tmp_path, *words))
        assert len(behaviour.requests) == asked, "what is complete is not asked for again"

        shutil.rmtree(tmp_path / "_workdir")
        further = (*words, "--sample-rate", "22050")
        line = only_line(command(tmp_path, *further))
        assert f"got MD5 {later}, expected {earlier}" in line
        assert line.removeprefix("error: ").split(". ")[0] in command(
            tmp_path, "heareval", "status", "--since", "last"
        ).stdout.replace("failed   ", "")

        shutil.copy(served / "MD5SUMS", accepted)
        folder, *_ = split_lines(command(tmp_path, *further))
        assert folder == (
            f"changed  task folder {SPOKEN}: archive {ARCHIVE} has changed: MD5 {later[:12]}, was MD5 "
            f"{earlier[:12]}; other clips than before; also at 22050 Hz"
        )
        assert folder in command(tmp_path, "heareval", "status", "--since", "last").stdout
        assert is_silent(command(tmp_path, *further))


@pytest.mark.slow
def test_an_archive_without_a_published_checksum_that_has_changed(tmp_path: Path) -> None:
    served, name = tmp_path / "served", "music_speech.tar.gz"
    task = "tfds_gtzan_music_speech"
    words = ("heareval", "prepare", task, "--sample-rate", "16000", "--quiet", "--mirror")
    served.mkdir()
    (served / name).write_text("<html>gone</html>")
    with serving(served) as (url, _):
        assert "b'<h'" in only_line(command(tmp_path, *words, url))
        # The run could not even begin with its task.
        since = command(tmp_path, "heareval", "status", "--since", "last").stdout
        assert since.splitlines()[0].endswith(": 1 run, 0 changed, 1 failed")

        stand_ins.pack(stand_ins.CORPORA["gtzan_music_speech"]()[name], served / name)
        notes = [line for line in split_lines(command(tmp_path, *words, url)) if line.startswith("note on ")]
        assert len(notes) == 1
        earlier = notes[0].split()[-1]
        assert f"no checksum was published for {name}; used: SHA-256 {earlier}" in notes[0]
        change(served / name)
        shutil.rmtree(tmp_path / "_workdir")
        assert is_silent(command(tmp_path, *words, url))
        line = only_line(command(tmp_path, *words, url, "--sample-rate", "22050"))
        assert f"expected {earlier}. It is damaged, or another edition" in line
