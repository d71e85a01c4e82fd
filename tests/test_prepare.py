"""Preparing tasks as users do, on real archives, servers and processes, with bad input and kills."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import stand_ins
from tests.commands import SPOKEN, checksums, command, only_line, prepare, scratch_left


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


def read_times(folder: Path) -> dict[Path, int]:
    """Return when each file was last written, without the records that every run writes."""
    found = (path for path in folder.rglob("*") if path.parent.name != "run-records")
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


def test_second_run_has_nothing_to_do(prepared: Path, mirror: Path) -> None:
    before = read_times(prepared)
    done = prepare(prepared, mirror, "spoken_digit")
    assert "nothing to do" in done.stdout
    assert "NOT the published corpus" in done.stdout
    assert before == read_times(prepared)


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


# What is being built when the kill comes, as the name of its scratch tells.
MOMENTS = {
    "extraction": "_workdir/corpora/.*.partial",
    "splits": "_workdir/*/.clips-*.partial",
    "clips": "_workdir/*/.shard*.partial",
    "task folder": "tasks/.*.partial",
    "tarballs": "tars/.hear-*.partial",
}


@pytest.mark.parametrize(
    "moment",
    [pytest.param(each, marks=[] if each == "task folder" else pytest.mark.slow) for each in MOMENTS],
)
def test_killed_and_run_again(prepared: Path, mirror: Path, tmp_path: Path, moment: str) -> None:
    words = ["heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    runner = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    until = time.monotonic() + 300
    while not list(tmp_path.glob(MOMENTS[moment])) and runner.poll() is None and time.monotonic() < until:
        time.sleep(0.0005)
    runner.send_signal(signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL, f"the run was over before its {moment} was seen"
    done = prepare(tmp_path, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert checksums(tmp_path) == checksums(prepared)
    assert not scratch_left(tmp_path)


def test_two_runs_at_different_rates_lose_nothing(mirror: Path, tmp_path: Path) -> None:
    words = ["heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    rates = ("16000", "22050")
    runners = [
        subprocess.Popen(
            [sys.executable, "-m", *words, "--sample-rate", rate], cwd=tmp_path, stderr=subprocess.DEVNULL
        )
        for rate in rates
    ]
    assert [runner.wait() for runner in runners] == [0, 0]
    folder = tmp_path / "tasks" / SPOKEN
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == sorted(rates)
    assert json.loads((folder / "MANIFEST.json").read_text())["sample_rates"] == [16000, 22050]


def test_clip_missing_from_the_task_folder(prepared: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(prepared, folder)
    next((folder / "tasks" / SPOKEN / "16000" / "fold02").iterdir()).unlink()
    (folder / "tars" / f"hear-2021.1.1-{SPOKEN}-16000.tar.gz").unlink()
    line = only_line(prepare(folder, mirror, "spoken_digit"))
    assert "got 12 clips in 16000/fold02, expected 13. The folder was changed: remove " in line


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
def test_a_run_does_not_depend_on_its_terminal(mirror: Path, tmp_path: Path, stderr: str) -> None:
    words = f"{sys.executable} -m heareval.tasks.runner spoken_digit --mirror {mirror} --sample-rate 16000"
    words += f" --accept-checksums {mirror}/MD5SUMS 2>{'&-' if stderr == 'closed' else stderr}"
    done = subprocess.run(
        words, shell=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True, timeout=600, check=False
    )
    assert done.returncode == 0
    assert " steps done; " in done.stdout


def test_configuration_holds_when_every_folder_is_named(mirror: Path, tmp_path: Path) -> None:
    folders = [word for name in ("tmp", "tasks", "tar") for word in (f"--{name}-dir", str(tmp_path / name))]
    (tmp_path / "luigi.cfg").write_text("[retcode]\ntask_failed = 77\n")
    done = command(tmp_path, "heareval.tasks.runner", "spoken_digit", "--mirror", str(mirror), *folders)
    assert done.returncode == 77, done.stderr


# --------------------------------------------------------------------------- bad input


def test_unknown_task(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval.tasks.runner", "speech_comands"))
    assert "'speech_comands'" in line
    assert "Did you mean speech_commands" in line
    assert list(tmp_path.iterdir()) == []


def test_unknown_mode(tmp_path: Path) -> None:
    line = only_line(command(tmp_path, "heareval.tasks.runner", "speech_commands", "--mode", "5hours"))
    assert "unknown mode of speech_commands: got '5hours', expected one of 5h, all, demo, full, small" in line


def test_damaged_archive(tmp_path: Path, mirror: Path) -> None:
    """The checksum is accepted, so only reading the archive shows the damage."""
    other = tmp_path / "mirror"
    other.mkdir()
    whole = (mirror / "v1.0.9.tar.gz").read_bytes()
    (other / "v1.0.9.tar.gz").write_bytes(whole[: len(whole) // 2])
    stand_ins.md5sums(other)
    line = only_line(prepare(tmp_path, other, "spoken_digit"))
    assert line.startswith("error: extract v1.0.9.tar.gz: archive ")
    assert not (tmp_path / "tasks").exists()
    assert not scratch_left(tmp_path)


def test_missing_file_in_the_archive(tmp_path: Path) -> None:
    tree = stand_ins.dcase2016_task2()
    gone = next(name for name in tree["dcase2016_task2_train_dev.zip"] if name.endswith(".wav"))
    del tree["dcase2016_task2_train_dev.zip"][gone]
    for name, members in tree.items():
        stand_ins.pack(members, tmp_path / "mirror" / name)
    stand_ins.md5sums(tmp_path / "mirror")
    line = only_line(prepare(tmp_path, tmp_path / "mirror", "dcase2016_task2"))
    assert f"{Path(gone).name}: got 1 of 20 missing, expected every labelled file in the archive" in line


def test_clip_with_zero_frames(tmp_path: Path) -> None:
    tree = stand_ins.spoken_digit()["v1.0.9.tar.gz"]
    name = sorted(tree)[3]
    tree[name] = tree[name][:40] + bytes(4)
    stand_ins.pack(tree, tmp_path / "mirror" / "v1.0.9.tar.gz")
    stand_ins.md5sums(tmp_path / "mirror")
    line = only_line(prepare(tmp_path, tmp_path / "mirror", "spoken_digit"))
    assert f"{Path(name).name}: got no samples, expected at least one" in line
    assert not (tmp_path / "tasks").exists()


@pytest.mark.parametrize(
    ("number", "workers"),
    [
        (signal.SIGINT, "2"),
        pytest.param(signal.SIGINT, "1", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "2", marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, "1", marks=pytest.mark.slow),
    ],
)
def test_interrupted_in_one_line(mirror: Path, tmp_path: Path, number: int, workers: str) -> None:
    words = ["heareval.tasks.runner", "speech_commands", "spoken_digit", "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS"), "--num-workers", workers]
    runner = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(tmp_path.glob("_workdir/*/.shard*.partial")) and runner.poll() is None:
        time.sleep(0.0005)
    # As a terminal does: to every process of the group.
    os.killpg(runner.pid, number)
    lines = [line for line in runner.communicate(timeout=300)[1].splitlines() if not line.startswith("[")]
    assert (runner.returncode, lines) == (130, ["stopped; run the same command again to resume"])
    done = prepare(tmp_path, mirror, "spoken_digit")
    assert done.returncode == 0, done.stderr
    assert not scratch_left(tmp_path)


def test_a_pairwise_task_is_adopted_from_its_tarball(tmp_path: Path, mirror: Path) -> None:
    done = prepare(tmp_path, mirror, "spoken_digit_abx", "--sample-rate", "48000")
    assert done.returncode == 0, done.stderr
    adopted = tmp_path / "adopted"
    adopted.mkdir()
    tars = str(tmp_path / "tars")
    words = ("heareval.tasks.runner", "spoken_digit_abx", "--sample-rate", "48000", "--from-published", tars)
    done = command(adopted, *words)
    assert done.returncode == 0, done.stderr
    for name in ("test.json", "relations.json", "task_metadata.json"):
        (made,), (found,) = (list(folder.glob(f"tasks/*/{name}")) for folder in (tmp_path, adopted))
        assert found.read_bytes() == made.read_bytes()
    sizes = [len(list(folder.glob("tasks/*/48000/test/*.wav"))) for folder in (tmp_path, adopted)]
    assert sizes[0] == sizes[1] > 0
