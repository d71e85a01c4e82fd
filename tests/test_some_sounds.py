"""Whole runs of modes that use few of the sounds in their archives."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from tests import stand_ins
from tests.commands import checksums, command, only_line, prepare, scratch_left

NSYNTH = "nsynth_pitch-v2.2.3-5h"
RATE = ("--sample-rate", "16000")


@pytest.fixture(scope="module")
def nsynth(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    """nsynth_pitch in mode 5h, and in mode demo, which extracts everything."""
    folder = tmp_path_factory.mktemp("nsynth")
    for mode in ("5h", "demo"):
        done = prepare(folder, mirror, "nsynth_pitch", "--mode", mode, *RATE)
        assert done.returncode == 0, done.stderr
    return folder


def test_clips_are_the_same_as_from_whole_archives(nsynth: Path) -> None:
    tasks = nsynth / "tasks"
    clips = list((tasks / NSYNTH).glob("16000/*/*.wav"))
    assert len(clips) > 50
    for path in clips:
        same = tasks / "nsynth_pitch-v2.2.3-demo" / path.relative_to(tasks / NSYNTH)
        assert path.read_bytes() == same.read_bytes()


def test_only_sounds_of_selected_clips_are_extracted(nsynth: Path) -> None:
    work = nsynth / "_workdir"
    drawn = {path.stem for path in (nsynth / "tasks" / NSYNTH).glob("16000/*/*.wav")}
    (sounds,) = (work / NSYNTH).glob("sounds-*")
    assert {path.stem for path in sounds.rglob("*.wav")} == drawn
    scanned = [path.parent for path in work.glob("corpora/*/sounds.json")]
    assert len(scanned) == 3
    assert not [path for folder in scanned for path in folder.rglob("*.wav")]


def test_clean_keeps_the_sounds_for_further_rates(nsynth: Path, mirror: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    subprocess.run(["cp", "-a", nsynth, folder], check=True)
    facts = json.loads(command(folder, "heareval", "clean", "--delete", "--json").stdout)
    assert {Path(each["path"]).name[:5] for each in facts["leftovers"]} == {"shard", ".nsyn"}
    done = prepare(folder, mirror, "nsynth_pitch", "--mode", "5h", "--sample-rate", "22050")
    assert done.returncode == 0, done.stderr
    for word in ("fetch", "scan", "extract", "labels and splits", "5h: sounds"):
        assert word not in done.stderr


@pytest.mark.slow
def test_a_run_killed_while_extracting_sounds_is_resumed(nsynth: Path, mirror: Path, tmp_path: Path) -> None:
    words = ["heareval.tasks.runner", "nsynth_pitch", *RATE, "--mirror", str(mirror)]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    runner = subprocess.Popen([sys.executable, "-m", *words], cwd=tmp_path, **silent)
    while not list(tmp_path.glob("_workdir/*/.sounds-*.partial")) and runner.poll() is None:
        time.sleep(0.0005)
    runner.send_signal(signal.SIGKILL)
    assert runner.wait() == -signal.SIGKILL, "the run was over before it was seen"
    done = prepare(tmp_path, mirror, "nsynth_pitch", *RATE)
    assert done.returncode == 0, done.stderr
    assert checksums(tmp_path).items() <= checksums(nsynth).items()
    assert not scratch_left(tmp_path)


def test_a_listed_sound_that_is_not_in_the_archive(mirror: Path, tmp_path: Path) -> None:
    trees = stand_ins.CORPORA["nsynth_pitch"]()
    own = tmp_path / "mirror"
    shutil.copytree(mirror, own)
    tree = trees["nsynth-train.jsonwav.tar.gz"]
    notes = json.loads(tree["nsynth-train/examples.json"])
    lost = next(name for name, note in notes.items() if 21 <= note["pitch"] <= 108)
    (member,) = [name for name in tree if name.endswith(f"{lost}.wav")]
    del tree[member]
    stand_ins.pack(tree, own / "nsynth-train.jsonwav.tar.gz")
    stand_ins.md5sums(own)
    line = only_line(prepare(tmp_path, own, "nsynth_pitch", *RATE))
    assert f"{lost}.wav: got 1 of " in line
    assert "expected every labelled file in the archive" in line


def test_the_archives_have_more_sounds_than_clips(mirror: Path, nsynth: Path) -> None:
    """Else the tests above would prove nothing."""
    with tarfile.open(mirror / "nsynth-train.jsonwav.tar.gz") as archive:
        sounds = sum(name.endswith(".wav") for name in archive.getnames())
    assert sounds > len(list((nsynth / "tasks" / NSYNTH).glob("16000/train/*.wav")))
