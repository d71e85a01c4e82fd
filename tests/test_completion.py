"""The Tab key in bash and zsh, as docs/commands.md sets it up."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCUMENTED = Path(__file__).parent.parent / "docs" / "commands.md"
BASH, ZSH = shutil.which("bash") or "", shutil.which("zsh") or ""
# What readline does when the Tab key is pressed, with a word that is not finished as the last one.
PRESS_TAB = """
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_heareval_completion heareval
printf '%s\n' "${COMPREPLY[@]}"
"""


# Control-X prints what the line has become.
SET_UP_ZSH = """
show() { print -r -- "<$BUFFER>"; BUFFER= }
zle -N show; bindkey "^X" show
autoload -Uz compinit; compinit -D -u
"""


def _install(folder: Path, shell: str) -> tuple[str, dict[str, str]]:
    """Write the program, and return the documented line and the environment in which it is found."""
    lines = DOCUMENTED.read_text().splitlines()
    (line,) = [line.strip() for line in lines if f"={shell}_source" in line]
    program = folder / "heareval"
    program.write_text(f"#!{sys.executable}\nfrom heareval.commands import main\nmain()\n")
    program.chmod(0o755)
    return line, {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def _complete(folder: Path, *words: str) -> list[str]:
    line, environment = _install(folder, "bash")
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
    # Bash takes `=` for a word of its own.
    assert _complete(tmp_path, "evaluate", "--grid", "=", "fast", "--tasks", "=", "gun") == [
        "gunshot_triangulation"
    ]


@pytest.mark.slow
@pytest.mark.skipif(not ZSH, reason="zsh is not installed")
def test_zsh_completes_commands_options_tasks_and_files(tmp_path: Path) -> None:
    line, environment = _install(tmp_path, "zsh")
    for name in ("my_model.toml", "birds.toml"):
        (tmp_path / name).touch()
    typed = {
        "ev": "evaluate",
        "evaluate --chunk": "evaluate --chunk-seconds",
        "evaluate my_m": "evaluate my_model.toml",
        "evaluate my_model --tasks esc50,bir": "evaluate my_model --tasks esc50,birds.toml",
        "evaluate --tasks=esc50,gun": "evaluate --tasks=esc50,gunshot_triangulation",
    }
    (tmp_path / "set_up").write_text(f"{SET_UP_ZSH}{line}\n")
    terminal, end = os.openpty()
    shell = subprocess.Popen(
        [ZSH, "-f", "-i"],
        **dict.fromkeys(("stdin", "stdout", "stderr"), end),
        env={**environment, "TERM": "dumb", "COLUMNS": "200"},
        cwd=tmp_path,
        start_new_session=True,
    )
    os.close(end)
    try:
        os.write(terminal, b"source ./set_up; print -r -- is''ready\n")
        _read_until(terminal, rb"isready")
        for words, completed in typed.items():
            os.write(terminal, f"heareval {words}\t\x18".encode())
            assert _read_until(terminal, rb"<heareval (.*)>").strip() == completed
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _read_until(terminal: int, pattern: bytes) -> str:
    """Read what a shell prints until a pattern is found, and return its last group."""
    printed = b""
    while not (found := re.search(pattern, printed)):
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, printed
        printed += os.read(terminal, 4096)
    return found[found.re.groups].decode()
