"""The commands of docs/tutorials run one after the other, and print what the pages show."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
# The block of a file ends the sentence that names it.
FENCED = re.compile(
    r"(?P<before>[^\n]*)\n\n```(?P<language>\w+)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE
)
PORT = "8082"


@dataclass(frozen=True)
class Typed:
    """A command of a page, and what it prints."""

    command: str
    printed: str


def write_files(page: str, folder: Path) -> None:
    """Write the Python files that a page shows."""
    for block in FENCED.finditer(page):
        if block["language"] == "python":
            (name,) = re.findall(r"`(\w+\.py)`:$", block["before"])
            (folder / name).write_text(block["text"])


def list_commands(page: str) -> list[Typed]:
    """Return the commands of a page."""
    found = []
    for block in FENCED.finditer(page):
        if block["language"] == "console":
            for typed in re.split(r"^\$ ", block["text"], flags=re.MULTILINE)[1:]:
                command, _, printed = typed.partition("\n")
                found.append(Typed(command, printed))
    return found


def hide_details(text: str) -> str:
    """Return a text without numbers and without what follows from scores; these differ between machines."""
    text = re.sub(r"(worst label|most frequent confusion): .*", r"\1: ...", text)
    text = re.sub(r"-?\d+(\.\d+)?(e[-+]\d+)?", "#", text.replace(r"\textbf", ""))
    return " ".join(re.sub(r"[{}*]", "", text).split())


def shows(printed: str, page: str) -> bool:
    """Return whether a text is that of a page, where `...` stands for anything."""
    parts = [re.escape(part.strip()) for part in hide_details(page).split("...")]
    return bool(re.fullmatch(r"\s*" + r".*?".join(rf"\s*{part}\s*" for part in parts), hide_details(printed)))


@pytest.fixture
def background() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes to stop after a test."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.terminate()
        process.wait()


def test_pages_are_compared_up_to_numbers() -> None:
    assert shows("a  0.51\nb\nc: 3\n", "a 0.5\n...\nc: 4\n")
    assert shows("one two three", "one ... three")
    assert not shows("a 0.5\nb\n", "a 0.5\n")
    assert not shows("a 0.5 b", "a 0.5 ... c")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_print_what_the_page_shows(
    page: Path, tmp_path: Path, background: list[subprocess.Popen[bytes]]
) -> None:
    text = page.read_text(encoding="utf-8")
    write_files(text, tmp_path)
    bin_folder = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    commands = list_commands(text)
    assert commands
    for typed in commands:
        command = typed.command.replace(PORT, port)
        if command.endswith("&"):
            background.append(
                subprocess.Popen(["bash", "-c", f"exec {command[:-1]}"], cwd=tmp_path, env=environment)
            )
            continue
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert shows(done.stdout, typed.printed), f"{command}\n{done.stdout}"
