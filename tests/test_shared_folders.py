"""Folders that several machines and several users share."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.commands import MODEL, RESULT, SCORE, SPOKEN, command
from tests.luigi_daemon import running_luigid

# --------------------------------------------------------------------------- other paths


def folders_at(path: Path) -> tuple[str, ...]:
    """The options for folders that lie together at a path."""
    names = {"tmp": "_workdir", "tasks": "tasks", "tar": "tars", "embeddings": "embeddings"}
    return tuple(f"--{option}-dir={path / name}" for option, name in names.items())


def sums(mirror: Path) -> tuple[str, ...]:
    return "--mirror", str(mirror), "--accept-checksums", str(mirror / "MD5SUMS")


def ask(luigid: str, what: str, **about: Any) -> Any:
    data = urllib.parse.urlencode({"data": json.dumps(about)})
    with urllib.request.urlopen(f"{luigid}/api/{what}?{data}") as answer:
        return json.loads(answer.read())["response"]


@pytest.mark.slow
def test_machines_with_other_paths_share_the_steps(tmp_path: Path, mirror: Path) -> None:
    (tmp_path / "server").mkdir()
    (tmp_path / "my_model.py").write_text(MODEL)
    words = ("heareval", "evaluate", "my_model", "--tasks", "spoken_digit", *sums(mirror), *SCORE)
    with running_luigid(tmp_path) as luigid:
        runners = []
        for name in ("mnt", "data"):
            (tmp_path / name).symlink_to("server")
            places = [each for each in folders_at(tmp_path / name) if not each.startswith("--tar")]
            settings = (*places, "--scheduler-url", luigid, "--num-workers", "1")
            runners.append(
                subprocess.Popen(
                    [sys.executable, "-m", *words, *settings],
                    cwd=tmp_path,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        complaints = [runner.communicate()[1] for runner in runners]
        assert [runner.returncode for runner in runners] == [0, 0], complaints
        done = Counter(
            each["name"] for each in ask(luigid, "task_list", status="DONE", upstream_status="").values()
        )
    # Had they not shared them, luigid would know two of each.
    assert done["FetchArchive"] == done["PublishTask"] == done["Predict"] == 1
    assert (tmp_path / "server" / "embeddings" / "my_model" / SPOKEN / RESULT).exists()
    for name in ("mnt", "data"):
        state = command(tmp_path, "heareval", "status", *folders_at(tmp_path / name))
        assert state.returncode == 0, state.stdout
