"""Sources without usable sound: an error by default, or left out where the user says so, and told."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.commands import MODEL, SCORE, checksums, command, only_line, prepare, scratch_left

RATE = 16000
BAD = ("lark/07.wav", "owl/03.wav")
CLIPS = 30


def make_sounds(folder: Path, count: int, bad: tuple[str, ...] = BAD) -> Path:
    """A task of two classes, `birds.toml`, with some files that are no sound."""
    draw = np.random.RandomState(0)
    for label in ("lark", "owl"):
        (folder / "sounds" / label).mkdir(parents=True)
        for i in range(count // 2):
            path = folder / "sounds" / label / f"{i:02d}.wav"
            soundfile.write(path, draw.uniform(-0.5, 0.5, RATE // 10), RATE)
    done = command(folder, "heareval", "tasks", "new", "birds", "--folder", "sounds")
    assert done.returncode == 0, done.stderr
    for name in bad:
        (folder / "sounds" / name).write_bytes(b"this is no sound".ljust(44))
    return folder


def prepare_birds(folder: Path, *words: str):
    rates = ("--sample-rate", "16000", "--sample-rate", "22050", "--num-workers", "1")
    return command(folder, "heareval", "prepare", "birds.toml", *rates, *words)


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    return make_sounds(tmp_path, CLIPS)


def test_fails_unless_told_otherwise(birds: Path) -> None:
    (birds / "sounds/owl/03.wav").write_bytes((birds / "sounds/owl/04.wav").read_bytes())
    line = only_line(prepare_birds(birds))
    assert "sounds/lark/07.wav: got " in line
    assert line.endswith("Or skip such clips: --on-bad-audio skip.")
    assert not (birds / "tasks" / "birds-v1-full").exists()
    assert not list((birds / "tars").glob("*.gz"))
    assert not scratch_left(birds)


def test_skipped_clips_are_nowhere_and_are_told_of(birds: Path) -> None:
    done = prepare_birds(birds, "--on-bad-audio", "skip")
    assert done.returncode == 0, done.stderr
    folder = birds / "tasks" / "birds-v1-full"
    manifest = json.loads((folder / "MANIFEST.json").read_text())
    assert {each["clip_id"] for each in manifest["skipped"]} == {"lark_07", "owl_03"}
    assert manifest["is_the_published_corpus"] is None
    names = sorted(f"{each['split']}/{each['clip_id']}" for each in manifest["skipped"])
    assert json.loads((folder / "task_metadata.json").read_text())["skipped"] == names
    for each in manifest["skipped"]:
        assert f"skipped {each['split']}/{each['clip_id']}: audio file" in done.stdout
    assert "NOT the published corpus" not in done.stdout  # a user's task has none
    listed = {split: json.loads((folder / f"{split}.json").read_text()) for split in manifest["clips"]}
    assert sum(map(len, listed.values())) == CLIPS - len(BAD)
    for split, clips in listed.items():
        assert manifest["clips"][split] == len(clips)
        for rate in ("16000", "22050"):
            assert {path.name for path in (folder / rate / split).iterdir()} == set(clips)
    assert len(checksums(birds)) == 4


def test_a_rate_added_later_has_the_same_gaps(birds: Path) -> None:
    # The lines about the clips name files of the work folder, which may be another one.
    for words in (("--tmp-dir", "one"), ("--sample-rate", "44100", "--tmp-dir", "two")):
        done = prepare_birds(birds, "--on-bad-audio", "skip", *words)
        assert done.returncode == 0, done.stderr
    folder = birds / "tasks" / "birds-v1-full"
    names = {rate: {p.name for p in folder.glob(f"{rate}/*/*")} for rate in ("16000", "22050", "44100")}
    assert len(names["16000"]) == CLIPS - len(BAD)
    assert names["16000"] == names["22050"] == names["44100"]


@pytest.mark.slow
def test_gaps_are_no_answer_to_whom_they_are_errors(birds: Path) -> None:
    assert prepare_birds(birds, "--on-bad-audio", "skip").returncode == 0
    done = prepare_birds(birds)
    assert done.returncode != 0
    assert "sounds/lark/07.wav: got " in done.stderr


def test_what_was_finished_before_the_error_is_not_done_again(tmp_path: Path) -> None:
    make_sounds(tmp_path, CLIPS, bad=("owl/03.wav",))
    assert prepare_birds(tmp_path).returncode != 0
    work = tmp_path / "_workdir" / "birds-v1-full"
    before = {path.name for path in work.glob("shard*")}
    assert len(before) == 3
    done = prepare_birds(tmp_path, "--on-bad-audio", "skip")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("birds full: clips, part ") == 1
    assert len(list(work.glob("shard*"))) == 4


def test_a_label_without_sound_leaves_the_vocabulary(tmp_path: Path) -> None:
    make_sounds(tmp_path, CLIPS, bad=tuple(f"owl/{i:02d}.wav" for i in range(CLIPS // 2)))
    done = prepare_birds(tmp_path, "--on-bad-audio", "skip")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "tasks/birds-v1-full/labelvocabulary.csv").read_text() == "idx,label\n0,lark\n"


def test_nothing_left(tmp_path: Path) -> None:
    everything = tuple(f"{label}/{i:02d}.wav" for label in ("lark", "owl") for i in range(CLIPS // 2))
    make_sounds(tmp_path, CLIPS, bad=everything)
    line = only_line(prepare_birds(tmp_path, "--on-bad-audio", "skip"))
    assert "got no clip with usable audio, expected at least one" in line
    assert not (tmp_path / "tasks" / "birds-v1-full").exists()


@pytest.mark.slow
def test_without_gaps_both_policies_mean_the_same(tmp_path: Path) -> None:
    make_sounds(tmp_path, CLIPS, bad=())
    assert prepare_birds(tmp_path).returncode == 0
    assert "nothing to do" in prepare_birds(tmp_path, "--on-bad-audio", "skip").stdout


@pytest.mark.slow
def test_tarballs_follow_when_a_gap_is_closed(mirror: Path, tmp_path: Path) -> None:
    """A sound that was damaged after it was unpacked, and is unpacked anew."""
    words = ("spoken_digit", "--sample-rate", "16000", "--on-bad-audio", "skip")
    assert prepare(tmp_path, mirror, *words).returncode == 0
    whole = checksums(tmp_path)
    next(tmp_path.glob("_workdir/corpora/*/files/**/*.wav")).write_bytes(b"this is no sound".ljust(44))
    for gone in (*tmp_path.glob("_workdir/spoken*/shard*"), tmp_path / "tasks", tmp_path / "tars"):
        shutil.rmtree(gone)
    done = prepare(tmp_path, mirror, *words)
    assert "NOT the published corpus: it lacks 1 of the clips" in done.stdout
    assert checksums(tmp_path) != whole
    for gone in ("_workdir", "tasks"):
        shutil.rmtree(tmp_path / gone)
    done = prepare(tmp_path, mirror, *words)
    assert "skipped" not in done.stdout
    assert checksums(tmp_path) == whole


def test_a_tarball_tells_of_its_gaps(mirror: Path, tmp_path: Path) -> None:
    words = ("spoken_digit", "--sample-rate", "48000", "--on-bad-audio", "skip")
    assert prepare(tmp_path, mirror, *words).returncode == 0
    next(tmp_path.glob("_workdir/corpora/*/files/**/*.wav")).write_bytes(b"this is no sound".ljust(44))
    for gone in (*tmp_path.glob("_workdir/spoken*/shard*"), tmp_path / "tasks", tmp_path / "tars"):
        shutil.rmtree(gone)
    assert prepare(tmp_path, mirror, *words).returncode == 0
    (packed,) = (tmp_path / "tars").glob("hear-2021*-48000.tar.gz")
    with tarfile.open(packed) as archive:
        (name,) = [name for name in archive.getnames() if name.endswith("task_metadata.json")]
        settings = json.load(archive.extractfile(name))
    assert len(settings["skipped"]) == 1
    assert "not_the_published_corpus" in settings


@pytest.mark.slow
def test_evaluation_of_what_is_left(birds: Path) -> None:
    (birds / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", "birds.toml", *SCORE)
    done = command(birds, *words, "--on-bad-audio", "skip")
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if ": skipped " in line]
    assert line.endswith(f"; {len(BAD) - 1} more in tasks/birds-v1-full/MANIFEST.json")
    assert "nothing to do" in command(birds, *words, "--on-bad-audio", "skip").stdout
    embedded = json.loads((birds / "embeddings/my_model/birds-v1-full/MANIFEST.json").read_text())
    assert len(embedded["made_from"]["skipped"]) == len(BAD)
