"""Options that several commands share."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from heareval.commands import main


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "1e999", "-1"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", "--timeout"),
        ("evaluate", "--chunk-seconds"),
        ("embed", "--timeout"),
        ("validate", "--timeout"),
        ("validate", "--long-seconds"),
    ],
)
def test_seconds_are_finite(command: str, option: str, seconds: str) -> None:
    done = CliRunner().invoke(main, [command, "my_model", option, seconds])
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output
