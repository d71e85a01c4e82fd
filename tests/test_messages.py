"""Options that errors and advice name: the command that prints them has these options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from heareval.commands import COMMANDS, main

PACKAGE = Path(__file__).parent.parent / "heareval"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
MODELS = ("embed", "evaluate", "validate", "status")
CORPORA = ("prepare", "evaluate", "status", "plan")
# Module or package -> the commands that print what it says. The longest name that fits counts.
SAID_BY = {
    "api.py": ("leaderboard build",),
    "archives": CORPORA,
    "embeddings": ("embed", "evaluate"),
    "embeddings/adapters": MODELS,
    "embeddings/advice.py": ("validate",),
    "embeddings/inside/frameworks.py": MODELS,
    "embeddings/inside/submission.py": MODELS,
    "embeddings/published.py": MODELS,
    "embeddings/submission_config.py": MODELS,
    "formats/exchange.py": ("card",),
    "formats/limit.py": ("embed", "evaluate"),
    "formats/task_folder.py": ("embed", "evaluate"),
    "leaderboard/commits.py": ("leaderboard check-changes",),
    "leaderboard/overview.py": ("table",),
    "leaderboard/repository.py": ("leaderboard init",),
    "predictions": ("predict", "evaluate"),
    "predictions/card_checks.py": ("leaderboard build",),
    "predictions/cards.py": ("card",),
    "predictions/compare.py": ("compare", "parity", "card"),
    "predictions/report.py": ("report",),
    "tasks": CORPORA,
    "tasks/own/new.py": ("tasks new",),
    "worker_process.py": ("embed", "evaluate"),
    "workflow/disk_space.py": ("prepare", "evaluate"),
    "workflow/failures.py": CORPORA,
    "workflow/jobs.py": CORPORA,
    "workflow/machine.py": ("embed", "predict", "evaluate"),
    "workflow/run.py": ("prepare", "embed", "predict", "evaluate", "demo"),
    "workflow/run_records.py": ("status",),
    "workflow/submissions.py": MODELS,
}
# What only one function of a module says.
SAID_BY_OTHERS = {
    ("api.py", "--about"): ("card",),
    ("workflow/jobs.py", "--tar-dir"): ("prepare",),
    ("workflow/machine.py", "--train-threads"): ("evaluate", "predict"),
}
# Words for git, uv, pip and ffmpeg, and a text about how published scores were made, which names options of
# `evaluate`.
OTHER_PROGRAMS = (
    "leaderboard/commits.py",
    "embeddings/environment.py",
    "embeddings/interpreter.py",
    "tasks/ffmpeg_command.py",
    "leaderboard/parity.py",
)


def _collect_options(command: click.Command, name: str = "") -> dict[str, set[str]]:
    """Return the options of a command and of those below it."""
    own = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    options = {name: own}
    if isinstance(command, click.Group):
        context = click.Context(command)
        for below in command.list_commands(context):
            found = command.get_command(context, below)
            assert found
            options |= _collect_options(found, f"{name} {below}".strip())
    return options


OPTIONS = _collect_options(main)


def _list_sentences(source: str) -> Iterator[str]:
    """Yield the strings of a module, without docstrings and with `{}` in place of values."""
    nodes = list(ast.walk(ast.parse(source)))
    inner = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    inner |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            yield "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inner:
            yield node.value


def _find_messages() -> Iterator[tuple[str, str, str]]:
    """Yield module, option and sentence of every message that names an option."""
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        if module.startswith("commands/") or module in OTHER_PROGRAMS:
            continue
        for sentence in _list_sentences(path.read_text(encoding="utf-8")):
            for option in OPTION.findall(sentence):
                yield module, option, sentence


def _find_fault(module: str, option: str, sentence: str) -> str:
    """Return what is wrong with a message: the commands that print it lack the option. "" if nothing is."""
    # A sentence may name the command itself: "Run `heareval prepare` with --sample-rate 16000".
    named = [name for name in re.findall(r"heareval ([a-z][a-z-]+)", sentence) if name in OPTIONS]
    if any(option in OPTIONS[name] for name in named):
        return ""
    places = [
        place for place in SAID_BY if module == place or module.startswith(f"{place.removesuffix('.py')}")
    ]
    if not places:
        return f"{module} names {option}: which commands print it?"
    commands = SAID_BY_OTHERS.get((module, option)) or SAID_BY[max(places, key=len)]
    lacking = [name for name in commands if option not in OPTIONS[name]]
    return f"{lacking} of `heareval` have no {option}: {module}: {sentence}" if lacking else ""


@pytest.fixture(scope="module")
def messages() -> list[tuple[str, str, str]]:
    """All of them: module, option and sentence."""
    # Not while tests are collected: each process of xdist would read the whole package.
    return sorted(set(_find_messages()))


def test_messages_and_commands_are_found(messages: list[tuple[str, str, str]]) -> None:
    assert ("worker_process.py", "--timeout") in {each[:2] for each in messages}
    assert {"tasks new", "leaderboard check-changes", *COMMANDS} <= {*OPTIONS}


def test_commands_have_the_options_that_their_messages_name(messages: list[tuple[str, str, str]]) -> None:
    assert list(filter(None, (_find_fault(*message) for message in messages))) == []
