"""The sandbox of docs/submissions.md, with a model that tries to break out of it."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands import MODEL, SPOKEN, command
from tests.http_server import serving

BWRAP = ("bwrap", "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--unshare-all", "true")
CAN_ISOLATE = (
    shutil.which("bwrap") and subprocess.run(BWRAP, check=False, capture_output=True).returncode == 0
)
# It fails unless everything forbidden fails.
STRANGER = (
    MODEL
    + """
import os, pathlib, socket

def refused(attempt):
    try:
        attempt()
    except OSError as error:
        return error
    raise SystemExit("not isolated")

here = pathlib.Path(os.environ["OUTSIDE"])
refused(lambda: (here / "embeddings" / "mine").write_text("overwritten"))
for clip in sorted(here.glob("tasks/*/16000/fold00/*.wav"))[:1]:
    refused(lambda: clip.open("r+b"))
refused(lambda: socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), timeout=60))
assert os.readlink("/proc/self/ns/pid") != os.environ["PROCESSES"]
"""
)


def recipe() -> str:
    """The command in the documentation, up to heareval's own words."""
    text = (Path(__file__).parents[1] / "docs" / "submissions.md").read_text()
    found = re.search(r"      (bwrap .*?)heareval embed", text, re.DOTALL)
    assert found
    return found[1].replace("\\\n", " ")


@pytest.mark.slow
@pytest.mark.skipif(not CAN_ISOLATE, reason="bubblewrap isn't installed, or may not make namespaces here")
def test_a_stranger_can_only_write_its_own_folder(prepared: Path, tmp_path: Path) -> None:
    shutil.copytree(prepared / "tasks", tmp_path / "tasks")
    (tmp_path / "their_model.py").write_text(STRANGER)
    (tmp_path / "my_model.py").write_text(MODEL)
    for folder in ("embeddings", "stranger", "site"):
        (tmp_path / folder).mkdir()
    (tmp_path / "site" / "secret").write_text("served")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("tasks/**/*")}
    words = (
        "embed",
        "their_model",
        "--tmp-dir",
        "stranger/_workdir",
        "--embeddings-dir",
        "stranger/embeddings",
    )
    line = f"{recipe()} {sys.executable} -m heareval {shlex.join(words)}"
    with serving(tmp_path / "site") as (url, _):
        variables = {
            **os.environ,
            "OUTSIDE": str(tmp_path),
            "PORT": url.rsplit(":", 1)[1].strip("/"),
            "PROCESSES": str(Path("/proc/self/ns/pid").readlink()),
            "PYTHONPATH": str(tmp_path),
        }
        done = subprocess.run(
            line, shell=True, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("tasks/**/*")} == before
    assert command(tmp_path, "heareval", "embed", "my_model").returncode == 0
    made, mine = (
        np.load(tmp_path / folder / SPOKEN / "fold00.npy")
        for folder in ("stranger/embeddings/their_model", "embeddings/my_model")
    )
    assert np.array_equal(made, mine)
    done = command(
        tmp_path, "heareval", "predict", f"stranger/embeddings/their_model/{SPOKEN}", "--probe", "linear"
    )
    assert done.returncode == 0, done.stderr
