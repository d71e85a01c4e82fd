"""The examples of pairwise tasks in docs/own_tasks.md are what the commands read, write and print."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from tests.commands import command

PAGE = Path(__file__).parents[3] / "docs" / "own_tasks.md"
INTRODUCTION, *FORMS = re.split("^### ", PAGE.read_text().split("## Tasks without labels")[1], flags=re.M)
EXAMPLES = FORMS[:-1]


def list_blocks(section: str) -> list[str]:
    """Return the indented blocks of a section; an empty line within a block belongs to it."""
    found = re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", section, flags=re.M)
    return [textwrap.dedent(block) for block in found]


def write_table(folder: Path, section: str) -> tuple[list[str], str, str]:
    """Write the table of an example; return its command, what that prints, and the TOML file."""
    table, printed, toml = list_blocks(section)
    (name,) = re.findall(r"`(\w+\.csv)`:\n", section)
    (folder / name).write_text(table)
    words, _, output = printed.partition("\n\n")
    return words.split(), output, toml


def write_sounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the script of the page."""
    monkeypatch.chdir(folder)
    (script,) = list_blocks(INTRODUCTION)
    exec(script, {})


def test_every_form_has_an_example() -> None:
    options = [re.findall(r"tasks new \w+ --(\w+) ", list_blocks(section)[1]) for section in EXAMPLES]
    assert options == [["triplets"], ["pairs"], ["pairs"], ["queries"]]


@pytest.mark.parametrize("section", EXAMPLES, ids=lambda section: section.split("\n")[0])
def test_examples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, section: str) -> None:
    write_sounds(tmp_path, monkeypatch)
    words, output, toml = write_table(tmp_path, section)
    done = command(tmp_path, *words)
    assert done.stdout == output, done.stderr
    assert (tmp_path / f"{words[3]}.toml").read_text() == toml


@pytest.mark.slow
def test_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sounds(tmp_path, monkeypatch)
    for section in EXAMPLES:
        words, _, toml = write_table(tmp_path, section)
        (tmp_path / f"{words[3]}.toml").write_text(toml)
    words, table = list_blocks(FORMS[-1])
    done = command(tmp_path, *words.split())
    assert done.stdout.startswith(table), done.stderr
