"""The command line: parses words, calls heareval.api, prints what came back."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from click.shell_completion import add_completion_class

import heareval
from heareval.commands.completion import BashCompletion, ZshCompletion
from heareval.commands.console import USAGE_EXIT_CODE, standard_streams, warn
from heareval.errors import HearevalError, unknown_name

# Command -> the line that `heareval --help` shows. Each is a function of the module that bears its name, with
# underscores.
COMMANDS = {
    "prepare": "Make task folders and tarballs from the published corpora.",
    "embed": "Compute the embeddings of published task folders with a model.",
    "predict": "Train predictors on folders of embeddings and score them.",
    "evaluate": "Score models: prepare the tasks, compute embeddings, train predictors.",
    "new-model": "Write a model to put your network into.",
    "validate": "Check a model for faults that would make a run fail or lower scores.",
    "table": "Show the scores of submissions on all tasks in one table, also as CSV or LaTeX.",
    "compare": "Compare two or more submissions on the tasks that they share.",
    "parity": "Compare the scores of a submission with a row that was published.",
    "report": "Show what lies behind scores: labels, confusions, worst clips, the grid.",
    "card": "Make a card of a submission for a leaderboard, or check one.",
    "leaderboard": "Write the site of a leaderboard from cards, which are checked, or start one.",
    "verify": "Compare everything on disk with the digests that were recorded.",
    "status": "Show what is complete, missing, failed or running.",
    "plan": "Show what a run would still take: downloads, disk space and time.",
    "clean": "List what no run needs any more, and delete it.",
    "tasks": "List the tasks, or make a new one from your own sounds.",
    "demo": "Run everything on small synthetic corpora with the built-in baseline.",
}


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used: `--help` needs none of them."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line."""
        add_completion_class(BashCompletion)
        add_completion_class(ZshCompletion)
        with standard_streams():
            return super().main(*args, **extra)

    def list_commands(self, context: click.Context) -> list[str]:
        """Return the names of all commands, in the order in which they are usually needed."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """Return a command, or None if there is none of this name."""
        return _import_command(name) if name in COMMANDS else None

    def resolve_command(
        self, context: click.Context, words: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the words begin with; end the program with one line if there is none."""
        if words[0] not in COMMANDS and not words[0].startswith("-"):
            warn(f"error: {unknown_name('command', words[0], COMMANDS)}")
            sys.exit(USAGE_EXIT_CODE)
        return super().resolve_command(context, words)

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def run_command(name: str) -> None:
    """Run a command with the words of the command line, as `python -m heareval.tasks.runner` does."""
    with standard_streams():
        _import_command(name)()


def _import_command(name: str) -> click.Command:
    """Return a command; end the program with one line if Luigi, as it is imported, cannot read luigi.cfg."""
    function = name.replace("-", "_")
    try:
        module = importlib.import_module(f"heareval.commands.{function}")
    except HearevalError as error:
        warn(f"error: {error}")
        sys.exit(USAGE_EXIT_CODE)
    command: click.Command = getattr(module, function)
    return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(heareval.__version__)
def main() -> None:
    """HEAR: how good is an audio embedding, without fine-tuning, on speech, environmental sound and music?"""
