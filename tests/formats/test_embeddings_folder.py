"""Embeddings folders: manifest, arrays, copies of the task's files."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heareval import files
from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import (
    array_names,
    copy_task_description,
    find_embeddings_manifest,
    has_embeddings,
    open_embeddings,
    open_timestamps,
    read_embedded_task,
    read_embeddings_manifest,
    write_embeddings_manifest,
)
from heareval.formats.task_folder import read_task_folder
from tests.formats.folders import EMBEDDINGS_MANIFEST, TASK_MANIFEST, write_embeddings, write_json, write_task

FINGERPRINT = str(EMBEDDINGS_MANIFEST["fingerprint"])


def test_plain_values(tmp_path: Path) -> None:
    folder = write_embeddings(tmp_path / "tones")
    write_json(folder / "MANIFEST.json", {**EMBEDDINGS_MANIFEST, "of_a_later_version": [1]})
    manifest = read_embeddings_manifest(folder)
    assert (manifest.fingerprint, manifest.task) == (FINGERPRINT, "tones-v1-full")
    assert manifest.submission == {"module": "my_model", "name": "my_model"}
    assert manifest.arrays == ("train.npy", "valid.npy", "test.npy")
    assert manifest.is_published_corpus is True
    write_embeddings_manifest(folder, manifest)
    assert (folder / "MANIFEST.json").read_text() == files.dump_json(EMBEDDINGS_MANIFEST), "byte for byte"


def test_a_manifest_of_an_older_version(tmp_path: Path) -> None:
    write_json(tmp_path / "MANIFEST.json", {"fingerprint": FINGERPRINT, "arrays": []})
    manifest = read_embeddings_manifest(tmp_path)
    assert (manifest.made_from, manifest.unusual_embedding, manifest.is_published_corpus) == ({}, {}, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fingerprint": None}, "fingerprint: got null, expected text"),
        ({"fingerprint": ""}, "fingerprint: got '', expected hex digits"),
        ({"arrays": None}, "arrays: got null, expected a list of texts"),
        ({"arrays": ["../a.npy"]}, r"arrays: got '\.\./a\.npy', expected names of files in the folder"),
        ({"submission": "my_model"}, "submission: got 'my_model', expected an object"),
        ({"made_from": []}, r"made_from: got \[\], expected an object"),
        ({"made_from": {"is_the_published_corpus": "no"}}, "made_from: is_the_published_corpus: got 'no'"),
        ({"unusual_embedding": ["bf16"]}, "unusual_embedding: got .*, expected an object"),
        ({"clips": "6"}, "clips: got '6', expected a whole number"),
    ],
)
def test_wrong_values(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_json(tmp_path / "MANIFEST.json", {**EMBEDDINGS_MANIFEST, **change})
    with pytest.raises(HearevalError, match=rf"/MANIFEST\.json: {message}.*embed the task again\.$"):
        find_embeddings_manifest(tmp_path)


def test_folders_without_embeddings(tmp_path: Path) -> None:
    assert find_embeddings_manifest(tmp_path) is None
    for folder, got in (
        (tmp_path, "no MANIFEST.json, as in folders of the 2021 kit"),
        (tmp_path / "none", "no such folder"),
    ):
        with pytest.raises(HearevalError, match=f"^embeddings folder {folder}: got {got}, expected a folder"):
            read_embeddings_manifest(folder)
    write_json(tmp_path / "MANIFEST.json", TASK_MANIFEST)
    with pytest.raises(HearevalError, match=f"^embeddings folder {tmp_path}: got a task folder"):
        read_embeddings_manifest(tmp_path)


def test_embeddings_are_there_with_all_arrays(tmp_path: Path) -> None:
    assert not has_embeddings(tmp_path, FINGERPRINT)
    folder = write_embeddings(tmp_path / "tones")
    assert has_embeddings(folder, FINGERPRINT)
    assert not has_embeddings(folder, "00")
    (folder / "test.npy").unlink()
    assert not has_embeddings(folder, FINGERPRINT)


def test_copies_of_the_task(tmp_path: Path) -> None:
    task = read_task_folder(write_task(tmp_path / "task", kind="event"))
    copy = tmp_path / "copy"
    copy.mkdir()
    copy_task_description(task, copy)
    copied = read_embedded_task(copy)
    assert (copied.metadata, copied.vocabulary, copied.clips) == (task.metadata, task.vocabulary, task.clips)
    (copy / "test.json").unlink()
    with pytest.raises(HearevalError, match=r"test\.json: got no such file.*embed the task again\."):
        read_embedded_task(copy)


def test_folders_without_the_task(tmp_path: Path) -> None:
    message = f"^embeddings folder {tmp_path}: got no task_metadata.json, .*heareval embed"
    with pytest.raises(HearevalError, match=message):
        read_embedded_task(tmp_path)


# --------------------------------------------------------------------------- arrays


def test_arrays(tmp_path: Path) -> None:
    scene = write_embeddings(tmp_path / "scene")
    assert open_embeddings(scene, "test", clips=2, is_event=False).shape == (2, 4)
    event = write_embeddings(tmp_path / "event", kind="event")
    assert open_embeddings(event, "test", clips=2, is_event=True).shape == (2, 5, 4)
    assert open_timestamps(event, "test", clips=2).shape == (2, 5)
    names = array_names(["train", "valid", "test"], "event")
    assert sorted(names) == sorted(path.name for path in event.glob("*.npy"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((2, 5, 4), np.float32),
            r"got float32 \(2, 5, 4\), expected float32 or float16 \(clips, dim\)",
        ),
        (np.zeros((3, 4), np.float32), r"got float32 \(3, 4\), expected .* with 2 clips"),
        (np.zeros((2, 4)), r"got float64 \(2, 4\)"),
        (np.zeros((2, 4), np.int16), "got int16"),
        (np.zeros((2, 0), np.float32), r"got float32 \(2, 0\)"),
        (np.float32(1), r"got float32 \(\)"),
        (np.array([None, None]), "can't be read"),
    ],
)
def test_wrong_arrays(tmp_path: Path, array: Any, message: str) -> None:
    folder = write_embeddings(tmp_path / "tones")
    np.save(folder / "test.npy", array)
    with pytest.raises(HearevalError, match=rf"/test\.npy.*{message}.*embed the task again"):
        open_embeddings(folder, "test", clips=2, is_event=False)


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", b"")
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\x08\x00{garbage",
        b"no array at all",
        _zip(),
        b"\x93NUMPY\x01\x00\x46\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 4), }".ljust(69)
        + b"\n"
        + b"\0" * 32,
    ],
)
def test_files_that_hold_no_array(tmp_path: Path, content: bytes) -> None:
    folder = write_embeddings(tmp_path / "tones")
    (folder / "test.npy").write_bytes(content)
    with pytest.raises(HearevalError, match=r"/test\.npy.*embed the task again"):
        open_embeddings(folder, "test", clips=2, is_event=False)


def test_missing_arrays(tmp_path: Path) -> None:
    with pytest.raises(HearevalError, match=r"test\.npy: got no such file, .*embed the task again"):
        open_embeddings(tmp_path, "test", clips=2, is_event=False)
    with pytest.raises(HearevalError, match=r"test\.timestamps\.npy: got no such file"):
        open_timestamps(tmp_path, "test", clips=2)
