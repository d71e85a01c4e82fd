"""The SHA-256 of a submission's weights: a file, or a folder as TensorFlow saves models."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from heareval.embeddings.weights import check_weights
from heareval.errors import HearevalError


def test_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "w.pt"
    file.write_bytes(b"weights")
    assert check_weights(str(file), "") == hashlib.sha256(b"weights").hexdigest()
    with pytest.raises(HearevalError, match=r"SHA-256 .*, expected 00"):
        check_weights(str(file), "00")
    with pytest.raises(HearevalError, match="got no such file"):
        check_weights(str(tmp_path / "none.pt"), "")
    assert check_weights("", "") == ""


def test_of_a_folder_changes_with_every_file_and_name(tmp_path: Path) -> None:
    def saved(name: str, files: dict[str, bytes]) -> str:
        for path, content in files.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_bytes(content)
        return check_weights(str(tmp_path / name), "")

    first = {"saved_model.pb": b"graph", "variables/data": b"numbers"}
    digest = saved("first", first)
    assert saved("copy", first) == digest
    others = (
        {**first, "variables/data": b"others"},
        {**first, "assets/more": b""},
        {"saved_model.pb": b"graph", "variables/other": b"numbers"},
    )
    found = {saved(str(number), other) for number, other in enumerate(others)}
    assert len(found) == 3
    assert digest not in found
