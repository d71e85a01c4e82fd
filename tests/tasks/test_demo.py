"""The demo corpora: equal bytes in every build, the layout of the originals, every label in every split."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import re
import subprocess
import sys
import tarfile
import wave
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from heareval.errors import HearevalError
from heareval.tasks.demo import ARCHIVES, EVENTS, MD5SUMS, WORDS, build_demo_corpora

CLIP_S = 20.0
LAYOUTS = {
    "speech_commands_v0.02.tar.gz": r"\./(\w+/\w+\.wav|(validation|testing)_list\.txt)",
    "speech_commands_test_set_v0.02.tar.gz": r"\./\w+/\w+\.wav",
    "nsynth-train.jsonwav.tar.gz": r"nsynth-train/(examples\.json|audio/\w+-\d{3}-\d{3}\.wav)",
    "nsynth-valid.jsonwav.tar.gz": r"nsynth-valid/(examples\.json|audio/\w+-\d{3}-\d{3}\.wav)",
    "nsynth-test.jsonwav.tar.gz": r"nsynth-test/(examples\.json|audio/\w+-\d{3}-\d{3}\.wav)",
    "dcase2016_task2_train_dev.zip": r"dcase2016_task2_train_dev/dcase2016_task2_dev/"
    r"(annotation/dev_[-\w]+\.txt|sound/dev_[-\w]+\.wav)",
    "dcase2016_task2_test_public.zip": r"dcase2016_task2_test_public/"
    r"(annotation/eval_[-\w]+\.txt|sound/eval_[-\w]+\.wav)",
}
BUILT_AGAIN = (
    "speech_commands_test_set_v0.02.tar.gz",
    "nsynth-valid.jsonwav.tar.gz",
    "dcase2016_task2_test_public.zip",
)
AGAIN = """
import pathlib, sys
from heareval.tasks.demo import write_archive
for name in sys.argv[2:]:
    write_archive(pathlib.Path(sys.argv[1]), name)
"""
SAMPLE_RATES = {"speech": 16000, "nsynth": 16000, "dcase2": 44100}
LENGTHS_S = {"speech": (0.7, 8), "nsynth": (3, 4), "dcase2": (19, 21)}


@pytest.fixture(scope="module")
def builds(tmp_path_factory):
    """Build the demo corpora, and one archive of each in a process with another PYTHONHASHSEED."""
    here, there = tmp_path_factory.mktemp("demo") / "here", tmp_path_factory.mktemp("again")
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", AGAIN, str(there), *BUILT_AGAIN]
    with subprocess.Popen(command, env=environment) as process:
        build_demo_corpora(here)
    assert process.returncode == 0
    return here, there


@pytest.fixture(scope="module")
def contents(builds):
    """Return the files in each archive: archive -> name -> bytes."""
    return {name: read_archive(builds[0] / name) for name in LAYOUTS}


def read_archive(path: Path) -> dict[str, bytes]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def wavs_of(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name.endswith(".wav")}


def wav_seconds(content: bytes) -> float:
    with wave.open(io.BytesIO(content)) as sound:
        return sound.getnframes() / sound.getframerate()


@pytest.mark.parametrize("archive", BUILT_AGAIN)
def test_two_builds_are_equal_byte_for_byte(builds, archive):
    here, there = builds
    assert (here / archive).read_bytes() == (there / archive).read_bytes()


def test_md5sums_tell_all_archives(builds):
    lines = (builds[0] / MD5SUMS).read_text().splitlines()
    assert lines == [
        f"{hashlib.md5((builds[0] / name).read_bytes()).hexdigest()}  {name}" for name in sorted(ARCHIVES)
    ]
    assert {path.name for path in builds[0].iterdir()} == {MD5SUMS, *LAYOUTS}


def test_corpora_are_small(builds):
    assert sum(path.stat().st_size for path in builds[0].iterdir()) < 60e6


@pytest.mark.parametrize("archive", LAYOUTS)
def test_files_lie_as_in_the_original(contents, archive):
    names = list(contents[archive])
    assert [name for name in names if not re.fullmatch(LAYOUTS[archive], name)] == []
    assert names == sorted(set(names))


@pytest.mark.parametrize("archive", LAYOUTS)
def test_sounds_are_mono_16_bit_and_of_the_right_length(contents, archive):
    shortest_s, longest_s = LENGTHS_S[archive[:6]]
    sounds = wavs_of(contents[archive])
    assert sounds
    for name, content in sounds.items():
        with wave.open(io.BytesIO(content)) as sound:
            form = (sound.getnchannels(), sound.getsampwidth(), sound.getframerate())
        assert form == (1, 2, SAMPLE_RATES[archive[:6]]), name
        assert shortest_s <= wav_seconds(content) <= longest_s, name


def test_no_sound_is_clipped_or_silent(contents):
    for archive, files in contents.items():
        peaks = [np.frombuffer(content, "<i2", offset=44).max() for content in wavs_of(files).values()]
        assert 100 < min(peaks) <= max(peaks) < 32767, archive


def test_every_speech_split_holds_every_label(contents):
    train, test = (contents[f"speech_commands_{part}v0.02.tar.gz"] for part in ("", "test_set_"))
    lists = {part: train[f"./{part}_list.txt"].decode().split() for part in ("validation", "testing")}
    listed = {name for names in lists.values() for name in names}
    spoken = {name[2:] for name in train if name.endswith(".wav") and not name.startswith("./_")}
    assert listed < spoken
    for names in (*lists.values(), spoken - listed):
        words = {name.split("/")[0] for name in names}
        assert words > set(WORDS)
    assert {name.split("/")[1] for name in test} == {*WORDS, "_silence_", "_unknown_"}
    assert {"running_tap.wav", "pink_noise.wav"} < {Path(name).name for name in train}


def test_some_words_are_shorter_or_longer_than_a_second(contents):
    files = contents["speech_commands_v0.02.tar.gz"]
    lengths_s = {wav_seconds(files[name]) for name in files if re.match(r"\./[a-z]+/", name)}
    assert min(lengths_s) < 1.0 < max(lengths_s)


def test_nsynth_sets_share_pitches_but_no_instruments(contents):
    pitches, instruments, outside = {}, {}, set()
    for split in ("train", "valid", "test"):
        files = contents[f"nsynth-{split}.jsonwav.tar.gz"]
        examples = json.loads(files[f"nsynth-{split}/examples.json"])
        assert {f"nsynth-{split}/audio/{note}.wav" for note in examples} == {n for n in files if ".wav" in n}
        assert all(note == entry["note_str"] for note, entry in examples.items())
        found = {entry["pitch"] for entry in examples.values()}
        pitches[split] = {pitch for pitch in found if 21 <= pitch <= 108}
        outside |= found - pitches[split]
        instruments[split] = {note.split("-")[0] for note in examples}
    assert pitches["train"] == pitches["valid"] == pitches["test"]
    assert len(pitches["train"]) >= 10
    assert min(outside) < 21
    assert max(outside) > 108
    assert len(set.union(*instruments.values())) == sum(map(len, instruments.values()))


def read_annotations(contents) -> dict[str, list[tuple[float, float, str]]]:
    annotations = {}
    for archive in ("dcase2016_task2_train_dev.zip", "dcase2016_task2_test_public.zip"):
        for name, content in contents[archive].items():
            if name.endswith(".txt"):
                rows = [line.split("\t") for line in content.decode().splitlines()]
                annotations[Path(name).stem] = [(float(on), float(off), label) for on, off, label in rows]
                sound = contents[archive][name.replace("annotation", "sound").replace(".txt", ".wav")]
                assert all(0 <= float(on) < float(off) <= wav_seconds(sound) for on, off, _ in rows)
    return annotations


def test_every_drawn_dcase_split_holds_every_label(contents):
    annotations = read_annotations(contents)
    keys = sorted(annotations)
    random.Random("split_train_test_val").shuffle(keys)
    share = round(len(keys) * 0.2)
    for split in (keys[:share], keys[share : 2 * share], keys[2 * share :]):
        kept = {label for key in split for onset_s, _, label in annotations[key] if onset_s < CLIP_S}
        assert kept == set(EVENTS)


def test_events_overlap_in_poly_scenes_only(contents):
    for stem, events in read_annotations(contents).items():
        overlaps = sum(first[1] > second[0] for first, second in pairwise(sorted(events)))
        assert (overlaps > 0) == ("poly" in stem), stem


def test_an_error_leaves_nothing_behind(tmp_path):
    def fail(done: int, total: int) -> None:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        build_demo_corpora(tmp_path / "demo", fail)
    assert list(tmp_path.iterdir()) == []


def test_complete_corpora_stay(builds):
    before = (builds[0] / MD5SUMS).stat().st_mtime_ns
    build_demo_corpora(builds[0])
    assert (builds[0] / MD5SUMS).stat().st_mtime_ns == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(HearevalError, match=r"got other files in it, expected a new folder. Name another"):
        build_demo_corpora(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
