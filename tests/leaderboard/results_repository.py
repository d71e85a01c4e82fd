"""Results repositories of real git, with a card of real results on main."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.commands import command
from tests.predictions.test_cards import write_submission

CARD = "cards/mine/v1"
ABOUT = 'name = "{name}"\nrevision = "v1"\ntrained_on_evaluation_data = "no"\n'
# Whatever the user has configured, and no names asked for.
GIT_VARIABLES = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    **{
        f"GIT_{who}_{what}": "test@localhost" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    },
}


def git(repository: Path, *words: str) -> str:
    """Run git and return what it prints."""
    environment = {**os.environ, **GIT_VARIABLES}
    done = subprocess.run(
        ["git", *words], cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commit(repository: Path, message: str = "a change") -> None:
    """Commit everything, also changes of nothing but modes."""
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message", message)


def write_results(root: Path) -> Path:
    """Write a submission, and a repository whose main has references but no card; return the repository."""
    write_submission(root)
    for words in (("init", "results"), ("references", "results/references")):
        done = command(root, "heareval", "leaderboard", *words)
        assert done.returncode == 0, done.stderr
    repository = root / "results"
    git(repository, "init", "--quiet", "--initial-branch", "main")
    commit(repository, "a results repository")
    return repository


def add_card(root: Path, name: str = "mine", *words: str) -> None:
    """Make a card of the submission, under a name, in the repository; nothing is committed."""
    (root / "about.toml").write_text(ABOUT.format(name=name))
    made = ("heareval", "card", "mine", "--about", "about.toml", "--missing-others", "a test")
    done = command(root, *made, "--out", "results/cards", *words)
    assert done.returncode == 0, done.stderr
