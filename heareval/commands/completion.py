"""What a shell offers when the Tab key is pressed."""

from __future__ import annotations

import glob

import click
from click.shell_completion import BashComplete, CompletionItem, ZshComplete


def complete_tasks(context: click.Context, parameter: click.Parameter, word: str) -> list[str]:
    """Return the names of tasks and groups, and the TOML files, that continue the last one of a list."""
    from heareval.tasks.registry import GROUPS, OWN_TASK_SUFFIX, all_tasks

    before, comma, last = word.rpartition(",")
    names = [name for name in (*GROUPS, *all_tasks()) if name.startswith(last)]
    names += sorted(glob.glob(f"{glob.escape(last)}*{OWN_TASK_SUFFIX}"))  # noqa: PTH207 - keeps `./` and `..`
    return [f"{before}{comma}{name}" for name in names]


def complete_files(context: click.Context, parameter: click.Parameter, word: str) -> list[CompletionItem]:
    """Return the item that makes a shell complete the names of files itself."""
    return [CompletionItem(word, type="file")]


class BashCompletion(BashComplete):
    """The completion for bash, also of the value in `--option=value`, which bash gives as three words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is completed, and that word."""
        words, incomplete = super().get_completion_args()
        joined: list[str] = []
        for word in (*words, incomplete):
            if joined and (word == "=" or joined[-1].endswith("=")):
                joined[-1] += word
            else:
                joined.append(word)
        return joined[:-1], joined[-1]


class ZshCompletion(ZshComplete):
    """The completion for zsh, also of the value in `--option=value`.

    zsh replaces the whole word, of which click returns only the value.
    """

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
        """Return what continues a word.

        Args:
            args: the words before it.
            incomplete: the word.
        """
        found = super().get_completions(args, incomplete)
        option, equals, _ = incomplete.partition("=")
        if option.startswith("--") and equals:
            for item in found:
                item.value = f"{option}={item.value}"
        return found
