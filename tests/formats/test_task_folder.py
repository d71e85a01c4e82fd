"""Task folders: opened, found by name, and told apart by fingerprint."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.labels import LabeledClip
from heareval.formats.task_folder import (
    check_task_fingerprint,
    find_clips,
    find_task_folders,
    fingerprint_task_folder,
    read_task_folder,
)
from tests.formats.folders import (
    RATE,
    SCENE_LABELS,
    SCENE_METADATA,
    SPLITS,
    TASK_MANIFEST,
    write_json,
    write_sounds,
    write_task,
)

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A task folder as a tarball holds it: no manifest."""
    path = write_task(tmp_path / "tasks" / "tones-v1-full")
    write_sounds(path)
    return path


def test_description(folder: Path) -> None:
    task = read_task_folder(folder)
    assert (task.path, task.metadata.name, task.vocabulary) == (folder, "tones", ("low", "60"))
    assert list(task.clips) == list(SPLITS)
    assert task.clips["valid"] == (LabeledClip("low.wav", ("low",)), LabeledClip("high.wav", ("60",)))


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_published_folders(case: str) -> None:
    task = read_task_folder(GOLDEN / case)
    assert all(
        clip.events if task.metadata.is_event else clip.labels for clip in task.clips[task.metadata.splits[0]]
    )


@pytest.mark.parametrize("name", ["labelvocabulary.csv", "test.json"])
def test_missing_files(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(HearevalError, match=rf"/tones-v1-full/{name}: got no such file, expected"):
        read_task_folder(folder)


def test_folders_that_are_no_tasks(tmp_path: Path) -> None:
    for folder, got in ((tmp_path, "no task_metadata.json"), (tmp_path / "none", "no such folder")):
        with pytest.raises(HearevalError, match=f"^task folder {folder}: got {got}, expected a published"):
            read_task_folder(folder)


# --------------------------------------------------------------------------- finding


def test_names_of_folders_and_tasks(folder: Path) -> None:
    tasks = folder.parent
    other = write_task(tasks / "tones-v1-5h", mode="5h")
    chords = write_task(tasks / "chords-v1-full", task_name="chords")
    assert find_task_folders(tasks) == find_task_folders(tasks, "all") == [chords, other, folder]
    assert find_task_folders(tasks, "tones") == [other, folder]
    assert find_task_folders(tasks, "tones-v1-full") == [folder]
    with pytest.raises(HearevalError, match=r"unknown task folder: got 'tone'.* Did you mean tones"):
        find_task_folders(tasks, "tone")


def test_hidden_folders_are_no_tasks(folder: Path) -> None:
    tasks = folder.parent
    for name in (".ipynb_checkpoints", ".tones-v1-full.host.123.heareval.partial", ".tones-v1-full"):
        (write_task(tasks / name) / "test.json").unlink()
    assert find_task_folders(tasks) == find_task_folders(tasks, "tones") == [folder]
    with pytest.raises(HearevalError, match="unknown task folder"):
        find_task_folders(tasks, ".ipynb_checkpoints")


def test_only_what_is_asked_for_stops_a_run(folder: Path) -> None:
    tasks = folder.parent
    damaged = write_task(tasks / "chords-v1-full", task_name="chords")
    (damaged / "task_metadata.json").write_text("[]")
    assert find_task_folders(tasks, "tones") == [folder]
    assert find_task_folders(tasks, "chords-v1-full") == [damaged], "reported when it is opened"
    with pytest.raises(HearevalError, match=r"chords-v1-full/task_metadata\.json: got \[\], expected"):
        find_task_folders(tasks, "chords")


def test_no_tasks_at_all(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=f"^tasks folder {tmp_path}: got no published task"):
        find_task_folders(tmp_path, "all")


# --------------------------------------------------------------------------- fingerprint


def fingerprint_as_before(task: Path, sample_rate: int) -> str:
    """The digest of the versions before the list of clips came from the JSON files."""
    digest = hashlib.sha256()
    for path in sorted(p for p in task.iterdir() if p.is_file()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    for path in sorted((task / str(sample_rate)).glob("*/*.wav")):
        digest.update(f"{path.relative_to(task)}\0{files.file_checksum(path, 'sha256')}\n".encode())
    return digest.hexdigest()[:16]


@pytest.mark.parametrize(
    "names", [["a.wav", "b.wav"], ["b.wav", "a.wav", "B.wav", "a-1.wav", "a 1.wav", "ä.wav"]]
)
def test_ordinary_folders_keep_their_fingerprint(folder: Path, names: list[str]) -> None:
    for split in SPLITS:
        write_json(folder / f"{split}.json", {name: ["low"] for name in names})
    for path in sorted((folder / str(RATE)).rglob("*.wav")):
        path.unlink()
    write_sounds(folder)
    assert fingerprint_task_folder(folder, RATE) == fingerprint_as_before(folder, RATE)


def test_a_manifest_tells_the_fingerprint(folder: Path) -> None:
    write_json(folder / "MANIFEST.json", TASK_MANIFEST)
    assert fingerprint_task_folder(folder, RATE) == TASK_MANIFEST["fingerprint"]
    check_task_fingerprint(folder, RATE, str(TASK_MANIFEST["fingerprint"]))
    with pytest.raises(HearevalError, match=r"got fingerprint 0123456789abcdef, expected 00\. .* run again"):
        check_task_fingerprint(folder, RATE, "00")


@pytest.mark.parametrize("name", ["a.WAV", "a.wav", "speaker/a.wav", "a.flac", "a"])
def test_every_listed_clip_counts(folder: Path, name: str) -> None:
    write_json(folder / "train.json", {**SCENE_LABELS, name: ["low"]})
    write_sounds(folder)
    before = fingerprint_task_folder(folder, RATE)
    assert folder / str(RATE) / "train" / name in find_clips(folder, RATE)
    (folder / str(RATE) / "train" / name).write_text("changed")
    assert fingerprint_task_folder(folder, RATE) != before


def test_files_that_no_split_lists_do_not_count(folder: Path) -> None:
    before = fingerprint_task_folder(folder, RATE)
    (folder / str(RATE) / "train" / "more.wav").write_text("more")
    assert fingerprint_task_folder(folder, RATE) == before


def test_changed_labels_count(folder: Path) -> None:
    before = fingerprint_task_folder(folder, RATE)
    write_json(folder / "train.json", {**SCENE_LABELS, "low.wav": [60]})
    assert fingerprint_task_folder(folder, RATE) != before


def test_missing_clips(folder: Path) -> None:
    (folder / str(RATE) / "test" / "high.wav").unlink()
    message = rf"^clip high\.wav of {folder}/test\.json: got no such file in .*/16000/test \(1 missing\)"
    with pytest.raises(HearevalError, match=message):
        fingerprint_task_folder(folder, RATE)


def test_missing_rates(folder: Path) -> None:
    message = r"got sample rates 16000, expected 48000, which the model asks for.*--sample-rate 48000"
    with pytest.raises(HearevalError, match=message):
        fingerprint_task_folder(folder, 48000)


@pytest.mark.parametrize("split", ["../../evil", "/evil"])
def test_splits_outside_the_folder(folder: Path, split: str) -> None:
    write_json(folder / "task_metadata.json", {**SCENE_METADATA, "splits": ["train", split]})
    for read in (read_task_folder, lambda path: fingerprint_task_folder(path, RATE)):
        with pytest.raises(
            HearevalError, match=r"task_metadata\.json: splits: got .*, expected the name of a"
        ):
            read(folder)
