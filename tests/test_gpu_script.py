"""The script for a GPU, tried in small on the CPU: a slip would waste the minutes on a real one."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


def measure(out: Path, *words: str) -> list[dict[str, Any]]:
    """Run the script and return what it measured."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--dry-run", "--out", str(out), *words]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    measured: list[dict[str, Any]] = json.loads(out.read_text(encoding="utf-8"))
    return measured


def test_every_part_runs_to_its_end(tmp_path: Path) -> None:
    measured = measure(tmp_path / "gpu.json")
    ends = {line["part"]: line["ended"] for line in measured if "ended" in line}
    assert ends == dict.fromkeys(
        ["machine", "tests", "training", "stacks", "embedding", "long audio", "profile"], 0
    )
    assert [line["case"] for line in measured if "case" in line] == [
        *("esc50", "speech", "fsd50k", "dcase", "maestro")
    ]
    assert {line["relative_difference"] for line in measured if "relative_difference" in line} == {0.0}
    (tests,) = (line for line in measured if "exit_code" in line)
    assert tests["exit_code"] == 0


def test_the_end_of_the_time_stops_a_part_and_leaves_out_the_others(tmp_path: Path) -> None:
    measured = measure(tmp_path / "gpu.json", "--minutes", "0.001", "--parts", "training", "machine")
    assert [(line["part"], line["ended"]) for line in measured] == [("training", -signal.SIGKILL)]
