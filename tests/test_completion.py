"""The Tab key in bash, as docs/commands.md sets it up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENTED = Path(__file__).parent.parent / "docs" / "commands.md"
BASH = shutil.which("bash") or ""
# What readline does when the Tab key is pressed, with a word that is not finished as the last one.
PRESS_TAB = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_heareval_completion heareval
printf '%s\n' "${COMPREPLY[@]}"
"""


def _complete(folder: Path, *words: str) -> list[str]:
    (line,) = [line.strip() for line in DOCUMENTED.read_text().splitlines() if "=bash_source" in line]
    program = folder / "heareval"
    program.write_text(f"#!{sys.executable}\nfrom heareval.commands import main\nmain()\n")
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [BASH, "-c", f"{line}{PRESS_TAB}", "bash", "heareval", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.skipif(not BASH, reason="bash is not installed")
def test_bash_completes_commands_options_values_and_tasks(tmp_path: Path) -> None:
    assert _complete(tmp_path, "ev") == ["evaluate"]
    assert _complete(tmp_path, "evaluate", "my_model", "--grid", "fa") == ["fast", "faster"]
    assert _complete(tmp_path, "evaluate", "my_model", "--tasks", "esc50,gun") == [
        "esc50,gunshot_triangulation"
    ]
    assert _complete(tmp_path, "prepare", "esc") == ["esc50", "esc50_retrieval"]
