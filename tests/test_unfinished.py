"""Runs of which a part fails: a line for each task that is not there, which says what it lacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.commands import MODEL, SPOKEN, command, only_line
from tests.tasks.own.birds import write_sound

# Nothing answers there, so that what no mirror has is not fetched from its publisher.
NO_NETWORK = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}


def write_task(folder: Path, name: str, *, is_damaged: bool) -> str:
    """Write a task of two classes; one of its sounds may be none."""
    for label, hertz in (("low", 300.0), ("high", 2000.0)):
        for number in range(9):
            write_sound(folder / name / label / f"{number}.wav", hertz)
    if is_damaged:
        (folder / name / "low" / "3.wav").write_bytes(b"RIFF no more than this")
    (folder / f"{name}.toml").write_text(f'name = "{name}"\nfolder = "{name}"\nfolds = 3\n')
    return f"{name}.toml"


def test_every_task_without_a_score_is_named(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    files = [write_task(tmp_path, name, is_damaged=name == "owls") for name in ("crows", "owls")]
    words = ("heareval", "evaluate", "my_model", "--tasks", ",".join(files), "--probe", "linear")
    done = command(tmp_path, *words)
    assert done.returncode == 30
    assert "crows-v1-full" in done.stdout
    error, *others = done.stderr[done.stderr.index("error: ") :].splitlines()
    found = re.match(r"error: (owls full: clips, part \d+ of \d+): audio file ", error)
    assert found, error
    assert others[:2] == [
        f"my_model on owls-v1-full: no score, because `{found[1]}` failed",
        "1 of 2 tasks scored",
    ]
    done = command(tmp_path, "heareval", "prepare", *files, "--sample-rate", "16000")
    assert f"owls-v1-full: not complete, because `{found[1]}` failed\n" in done.stderr
    assert "1 of 2 tasks prepared\n" in done.stderr


def test_with_bad_audio_skipped_a_task_without_any_stops_only_itself(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    files = [write_task(tmp_path, name, is_damaged=False) for name in ("crows", "owls")]
    for sound in (tmp_path / "owls").rglob("*.wav"):
        sound.write_text("no sound")
    words = ("heareval", "evaluate", "my_model", "--tasks", ",".join(files), "--probe", "linear")
    done = command(tmp_path, *words, "--on-bad-audio", "skip")
    assert done.returncode == 30, done.stderr
    assert "crows-v1-full" in done.stdout
    assert "owls-v1-full: no score" in done.stderr
    assert "1 of 2 tasks scored\n" in done.stderr


def test_what_failed_itself_is_not_named_twice(tmp_path: Path) -> None:
    (tmp_path / "my_model.py").write_text(MODEL.replace("log1p(spectrum)", "log1p(spectrum) / 0"))
    files = [write_task(tmp_path, name, is_damaged=False) for name in ("crows", "owls")]
    words = ("heareval", "evaluate", "my_model", "--probe", "linear", "--tasks")
    done = command(tmp_path, *words, ",".join(files))
    assert done.returncode == 30
    assert done.stderr.count("my_model on crows-v1-full") == 1, done.stderr
    assert "0 of 2 tasks scored\n" in done.stderr
    done = command(tmp_path, *words, files[0])
    assert "tasks scored" not in done.stderr, "the error of a single task says it all"


@pytest.mark.slow
def test_an_archive_that_cannot_be_fetched_stops_only_its_task(tmp_path: Path, mirror: Path) -> None:
    """gtzan is published without a checksum, so its archive is fetched before anything else."""
    words = ("--sample-rate", "16000", "--mirror", str(mirror))
    words += ("--accept-checksums", str(mirror / "MD5SUMS"))
    done = command(tmp_path, "heareval", "prepare", "tfds_gtzan", *words, **NO_NETWORK)
    assert done.returncode == 30, done.stderr
    assert only_line(done).startswith("error: fetch genres.tar.gz: ")
    assert "tasks prepared" not in done.stderr
    done = command(tmp_path, "heareval", "prepare", "tfds_gtzan", "spoken_digit", *words, **NO_NETWORK)
    assert done.returncode == 30, done.stderr
    assert done.stdout.startswith(f"tasks/{SPOKEN}: ")
    assert "tfds_gtzan-1.0.0-full: not complete, because `fetch genres.tar.gz` failed\n" in done.stderr
    assert "1 of 2 tasks prepared\n" in done.stderr
