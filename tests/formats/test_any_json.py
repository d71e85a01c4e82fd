"""Whatever JSON a file holds, its reader returns a value or raises HearevalError that names the file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from heareval.errors import HearevalError
from heareval.formats.embeddings_folder import find_embeddings_manifest, has_embeddings, read_embedded_task
from heareval.formats.tarball_record import read_tarball_record
from heareval.formats.task_folder import (
    find_task_folders,
    fingerprint_task_folder,
    read_task_folder,
)
from heareval.formats.task_manifest import find_task_manifest, read_corpus_facts
from heareval.formats.task_metadata import read_task_metadata
from tests.formats.any_json import damaged
from tests.formats.folders import (
    EMBEDDINGS_MANIFEST,
    EVENT_LABELS,
    EVENT_METADATA,
    RATE,
    SCENE_LABELS,
    SCENE_METADATA,
    TASK_MANIFEST,
    write_sounds,
    write_task,
)

RECORD = {
    "sha256": "00" * 32,
    "bytes": 1,
    "names": ["a.tar.gz"],
    "fingerprint": "0123456789abcdef",
    "seconds": 0.5,
}
# Reader -> kind of task, file, what it usually holds.
READERS: dict[str, tuple[Callable[[Path], Any], str, str, Any]] = {
    "metadata": (read_task_metadata, "event", "task_metadata.json", EVENT_METADATA),
    "scene task": (read_task_folder, "scene", "task_metadata.json", SCENE_METADATA),
    "scene labels": (read_task_folder, "scene", "valid.json", SCENE_LABELS),
    "event labels": (read_embedded_task, "event", "valid.json", EVENT_LABELS),
    "task manifest": (find_task_manifest, "scene", "MANIFEST.json", TASK_MANIFEST),
    "corpus facts": (read_corpus_facts, "scene", "MANIFEST.json", TASK_MANIFEST),
    "task fingerprint": (
        lambda folder: fingerprint_task_folder(folder, RATE),
        "scene",
        "MANIFEST.json",
        TASK_MANIFEST,
    ),
    "clips of fingerprint": (
        lambda folder: fingerprint_task_folder(folder, RATE),
        "scene",
        "test.json",
        SCENE_LABELS,
    ),
    "embeddings manifest": (find_embeddings_manifest, "scene", "MANIFEST.json", EMBEDDINGS_MANIFEST),
    "embeddings": (
        lambda folder: has_embeddings(folder, str(EMBEDDINGS_MANIFEST["fingerprint"])),
        "scene",
        "MANIFEST.json",
        EMBEDDINGS_MANIFEST,
    ),
    "tarball record": (
        lambda folder: read_tarball_record(folder / "record.json"),
        "scene",
        "record.json",
        RECORD,
    ),
}


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_value_or_an_error_in_one_line(tmp_path: Path, reader: str, data: st.DataObject) -> None:
    read, kind, name, document = READERS[reader]
    folder = tmp_path / "task"
    if not folder.exists():
        write_sounds(write_task(folder, kind=kind))
    (folder / name).write_text(json.dumps(data.draw(damaged(document))))
    try:
        read(folder)
    except HearevalError as raised:
        error = raised
    else:
        return
    assert str(tmp_path) in str(error)
    assert "\n" not in str(error)
    assert error.remedy


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b'"text"', b"3"])
def test_files_that_hold_no_object(tmp_path: Path, reader: str, content: bytes) -> None:
    read, kind, name, _ = READERS[reader]
    folder = write_task(tmp_path / "task", kind=kind)
    write_sounds(folder)
    (folder / name).write_bytes(content)
    with pytest.raises(HearevalError, match=f"{name}: got .*, expected (JSON|a JSON object)\\. "):
        read(folder)


@pytest.mark.parametrize("reader", ["metadata", "scene labels", "task manifest", "embeddings manifest"])
def test_a_folder_in_place_of_a_file(tmp_path: Path, reader: str) -> None:
    read, kind, name, _ = READERS[reader]
    folder = write_task(tmp_path / "task", kind=kind)
    (folder / name).unlink(missing_ok=True)
    (folder / name).mkdir()
    with pytest.raises(HearevalError, match=name):
        read(folder)


def test_finding_tasks_survives_any_neighbour(tmp_path: Path) -> None:
    wanted = write_task(tmp_path / "tones-v1-full")
    for number, content in enumerate([b"", b"[]", b'{"task_name": 3}', b"\xff"]):
        other = write_task(tmp_path / f"other{number}-v1-full")
        (other / "task_metadata.json").write_bytes(content)
    assert find_task_folders(tmp_path, "tones") == [wanted]
