"""`heareval demo`, and what the README shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from heareval import api
from tests.commands import command

README = Path(__file__).parent.parent / "README.md"


def _rows(text: str) -> list[list[str]]:
    """Return the cells of the first table of scores in a text."""
    lines = [line.split() for line in text.splitlines()]
    first = next(i for i, line in enumerate(lines) if line[:3] == ["submission", "task", "metric"])
    rows = lines[first + 1 :]
    return rows[: next(i for i, row in enumerate(rows) if not row or row[0] == "note:")]


def test_the_readme_shows_what_the_demo_trains() -> None:
    """A shortened grid, which the demo had, may rank models wrongly."""
    rows = _rows(README.read_text(encoding="utf-8"))
    assert {row[-1] for row in rows} == {api.DEMO_PROTOCOL.recorded_name} == {"probe-linear"}
    assert {row[1].split("-")[0] for row in rows} == set(api.DEMO_TASKS)


@pytest.mark.slow
def test_the_readme_shows_the_table_of_the_demo(tmp_path: Path) -> None:
    done = command(tmp_path, "heareval", "demo")
    assert done.returncode == 0, done.stderr
    shown, told = _rows(README.read_text(encoding="utf-8")), _rows(done.stdout)
    assert [row[:3] + row[-2:] for row in told] == [row[:3] + row[-2:] for row in shown]
    # The last digits depend on the machine.
    assert [float(row[3]) for row in told] == pytest.approx([float(row[3]) for row in shown], abs=0.03)
    assert "still improving" not in done.stdout
