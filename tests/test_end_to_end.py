"""The commands as their users run them, on real archives, servers and processes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from heareval.tasks import fetch
from tests import stand_ins

SPOKEN = "spoken_digit-1.0.9-full"


def command(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m` with these words in a folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder), **variables}
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def prepare(folder: Path, mirror: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Prepare tasks from the stand-in archives."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    return command(folder, "heareval.tasks.runner", *words, *sums)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every tarball, as its SHA256SUMS says and as it is."""
    sums = fetch.read_accepted_checksums(folder / "tars" / "SHA256SUMS")
    for name, checksum in sums.items():
        assert hashlib.sha256((folder / "tars" / name).read_bytes()).hexdigest() == checksum
    return sums


def scratch_left(folder: Path) -> list[Path]:
    return list(folder.rglob("*.partial"))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """spoken_digit, prepared from the stand-ins at the four rates."""
    folder = tmp_path_factory.mktemp("prepared")
    done = prepare(folder, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    return folder


def test_prepared_folder_and_tarballs(prepared: Path) -> None:
    published = prepared / "tasks" / SPOKEN
    assert sorted(p.name for p in published.iterdir() if p.is_dir()) == ["16000", "22050", "44100", "48000"]
    assert len(list(published.glob("*/*/*.wav"))) == 4 * 65
    assert len(checksums(prepared)) == 8
    assert not scratch_left(prepared)


def test_stand_ins_are_never_taken_for_the_published_corpus(prepared: Path) -> None:
    published = prepared / "tasks" / SPOKEN
    assert not json.loads((published / "MANIFEST.json").read_text())["is_the_published_corpus"]
    assert "not_the_published_corpus" in json.loads((published / "task_metadata.json").read_text())


def test_second_run_has_nothing_to_do(prepared: Path, mirror: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}
    done = prepare(prepared, mirror, "spoken_digit")
    assert "nothing to do" in done.stdout
    assert "NOT the published corpus" in done.stdout
    assert before == {path: path.stat().st_mtime_ns for path in prepared.rglob("*") if path.is_file()}


def test_same_bytes_elsewhere(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "another folder ö"
    elsewhere.mkdir()
    old = os.umask(0o077)
    try:
        done = prepare(elsewhere, mirror, "spoken_digit", "--num-workers", "1")
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    assert checksums(elsewhere) == checksums(prepared)


def test_another_rate_redoes_nothing_else(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    done = prepare(folder, mirror, "spoken_digit", "--sample-rate", "32000")
    assert done.returncode == 0, done.stderr
    assert "fetch" not in done.stderr
    assert "labels and splits" not in done.stderr
    rates = sorted(p.name for p in (folder / "tasks" / SPOKEN).iterdir() if p.is_dir())
    assert rates == ["16000", "22050", "32000", "44100", "48000"]
    assert checksums(prepared).items() <= checksums(folder).items()


def test_a_lost_task_folder_comes_back(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    shutil.rmtree(folder / "tasks")
    done = prepare(folder, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "tasks" / SPOKEN).glob("*/*/*.wav"))) == 4 * 65
    assert "fetch" not in done.stderr


def test_two_runners_at_once(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    words = ["heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    runners = [
        subprocess.Popen([sys.executable, "-m", *words], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for runner in runners:
        complaints = runner.communicate()[1]
        assert runner.returncode == 0, complaints
    assert checksums(tmp_path) == checksums(prepared)
    assert not scratch_left(tmp_path)


@pytest.mark.parametrize("seconds", [0.9, 1.3, 1.7])
def test_killed_and_run_again(prepared: Path, mirror: Path, tmp_path: Path, seconds: float) -> None:
    words = ["heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    runner = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(seconds)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    done = prepare(tmp_path, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert checksums(tmp_path) == checksums(prepared)
    assert not scratch_left(tmp_path)


# --------------------------------------------------------------------------- bad input


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def only_line(done: subprocess.CompletedProcess[str]) -> str:
    """The one error line; there is no traceback and the exit code tells of the failure."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_unknown_task(folder: Path) -> None:
    line = only_line(command(folder, "heareval.tasks.runner", "speech_comands"))
    assert "'speech_comands'" in line
    assert "Did you mean speech_commands?" in line
    assert list(folder.iterdir()) == []


def test_unknown_mode(folder: Path) -> None:
    line = only_line(command(folder, "heareval.tasks.runner", "speech_commands", "--mode", "5hours"))
    assert "unknown mode of speech_commands: got '5hours', expected one of 5h, all, demo, full, small" in line


def test_damaged_archive(folder: Path, mirror: Path) -> None:
    """The checksum is accepted, so only reading the archive shows the damage."""
    other = folder / "mirror"
    other.mkdir()
    whole = (mirror / "v1.0.9.tar.gz").read_bytes()
    (other / "v1.0.9.tar.gz").write_bytes(whole[: len(whole) // 2])
    stand_ins.md5sums(other)
    line = only_line(prepare(folder, other, "spoken_digit"))
    assert line.startswith("error: extract v1.0.9.tar.gz: archive ")
    assert not (folder / "tasks").exists()
    assert not scratch_left(folder)


def test_missing_file_in_the_archive(folder: Path) -> None:
    tree = stand_ins.dcase2016_task2()
    gone = next(name for name in tree["dcase2016_task2_train_dev.zip"] if name.endswith(".wav"))
    del tree["dcase2016_task2_train_dev.zip"][gone]
    for name, members in tree.items():
        stand_ins.pack(members, folder / "mirror" / name)
    stand_ins.md5sums(folder / "mirror")
    line = only_line(prepare(folder, folder / "mirror", "dcase2016_task2"))
    assert f"{Path(gone).name}: got 1 of 20 missing, expected every labelled file in the archive" in line


def test_clip_with_zero_frames(folder: Path) -> None:
    tree = stand_ins.spoken_digit()["v1.0.9.tar.gz"]
    name = sorted(tree)[3]
    tree[name] = tree[name][:40] + bytes(4)
    stand_ins.pack(tree, folder / "mirror" / "v1.0.9.tar.gz")
    stand_ins.md5sums(folder / "mirror")
    line = only_line(prepare(folder, folder / "mirror", "spoken_digit"))
    assert f"{Path(name).name}: got no samples, expected at least one" in line
    assert not (folder / "tasks").exists()


# --------------------------------------------------------------------------- embeddings and scores

MODEL = """
import torch

class Model(torch.nn.Module):
    sample_rate, scene_embedding_size, timestamp_embedding_size = 16000, 8, 8

def load_model(model_file_path="", size=8):
    return Model()

def get_timestamp_embeddings(audio, model):
    frames = audio.unfold(1, 800, 800)
    spectrum = torch.fft.rfft(frames).abs()[..., 1:129].reshape(*frames.shape[:2], 8, 16).mean(-1)
    times = (torch.arange(frames.shape[1]) * 50.0 + 25.0).expand(len(audio), -1)
    return torch.log1p(spectrum), times.float()

def get_scene_embeddings(audio, model):
    return get_timestamp_embeddings(audio, model)[0].mean(1)
"""
SCORE = ("--grid", "faster", "--grid-points", "2")


def evaluate(folder: Path, mirror: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Evaluate `my_model` on spoken_digit."""
    sums = ("--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS"))
    return command(
        folder, "heareval.cli", "evaluate", "my_model", "--tasks", "spoken_digit", *sums, *SCORE, *words
    )


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "my_model.py").write_text(MODEL)
    done = evaluate(folder, mirror)
    assert done.returncode == 0, done.stderr
    assert "top1_acc" in done.stdout
    return folder


def test_evaluation_makes_arrays_and_scores(evaluated: Path) -> None:
    folder = evaluated / "embeddings" / "my_model" / SPOKEN
    embeddings = np.load(folder / "fold00.npy", mmap_mode="r")
    assert embeddings.shape == (13, 8)
    assert embeddings.dtype == np.float32
    scores = json.loads((folder / "test.predicted-scores.json").read_text())
    assert scores["protocol"].startswith("hear2021-faster")
    assert len(scores["folds"]) == 5
    assert 0 <= scores["scores"]["top1_acc"]["score"] <= 1


def test_second_evaluation_has_nothing_to_do(evaluated: Path, mirror: Path) -> None:
    assert "nothing to do" in evaluate(evaluated, mirror).stdout


def test_another_seed_redoes_the_predictor_only(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    done = evaluate(folder, mirror, "--seed", "1")
    assert f"[1/1] {SPOKEN}: predictor" in done.stderr


def test_another_model_source_redoes_embeddings(evaluated: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(evaluated, folder)
    (folder / "my_model.py").write_text(MODEL.replace("log1p", "sqrt"))
    done = evaluate(folder, mirror)
    assert "[2/2]" in done.stderr
    assert "embeddings" in done.stderr


def test_doors_two_and_three_find_the_same_work_done(evaluated: Path) -> None:
    done = command(evaluated, "heareval.embeddings.runner", "my_model", "--task", "spoken_digit")
    assert "nothing to do" in done.stdout, done.stderr
    done = command(evaluated, "heareval.predictions.runner", f"embeddings/my_model/{SPOKEN}", *SCORE)
    assert "nothing to do" in done.stdout, done.stderr


def test_unpacked_tarball_serves_as_task_folder(prepared: Path, evaluated: Path, tmp_path: Path) -> None:
    """A researcher who only has the published tarball gets the same embeddings."""
    (tmp_path / "my_model.py").write_text(MODEL)
    with tarfile.open(prepared / "tars" / f"hear-2021.1.1-{SPOKEN}-16000.tar.gz") as tar:
        tar.extractall(tmp_path, filter="data")
    words = ("heareval.embeddings.runner", "my_model", "--tasks-dir", "hear-2021.1.1/tasks")
    done = command(tmp_path, *words)
    assert done.returncode == 0, done.stderr
    for fold in ("fold00", "fold04"):
        ours, theirs = (
            np.load(folder / "embeddings" / "my_model" / SPOKEN / f"{fold}.npy")
            for folder in (tmp_path, evaluated)
        )
        assert np.array_equal(ours, theirs)
    assert "nothing to do" in command(tmp_path, *words).stdout


BAD_MODELS = {
    "no load_model": (MODEL.replace("def load_model", "def open_model"), "got no function load_model"),
    "crash": (MODEL.replace(".mean(1)", ".mean(7)"), "last words: IndexError"),
    "other rate": (MODEL.replace("16000, 8", "32000, 8"), "--sample-rate 32000"),
}


@pytest.mark.parametrize("name", BAD_MODELS)
def test_bad_model(prepared: Path, tmp_path: Path, name: str) -> None:
    source, complaint = BAD_MODELS[name]
    (tmp_path / "my_model.py").write_text(source)
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    line = only_line(command(tmp_path, "heareval.embeddings.runner", "my_model", *tasks))
    assert complaint in line
    assert not (tmp_path / "embeddings" / "my_model" / SPOKEN).exists()
    assert not scratch_left(tmp_path)


def test_no_such_model(folder: Path, prepared: Path) -> None:
    tasks = ("--tasks-dir", str(prepared / "tasks"))
    line = only_line(command(folder, "heareval.embeddings.runner", "no_model", *tasks))
    assert "submission no_model: got no such module" in line


def test_no_tasks(folder: Path) -> None:
    line = only_line(command(folder, "heareval.embeddings.runner", "heareval.embeddings.baseline"))
    assert "tasks folder tasks: got no published task" in line
