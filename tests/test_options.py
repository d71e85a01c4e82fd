"""Options that several commands share."""

from __future__ import annotations

import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from heareval.api import CorpusRequest
from heareval.commands import main
from heareval.commands.grouped import GROUPS, GroupedCommand
from heareval.commands.options import _build_places, describe_default_tasks, use_default_tasks
from heareval.predictions.protocol import MAX_SEED
from tests.commands import MODEL, command, only_line
from tests.embeddings.clips import write_task


@pytest.mark.parametrize("seconds", ["nan", "inf", "-inf", "1e999", "-1"])
@pytest.mark.parametrize(
    ("command", "option"),
    [
        ("evaluate", "--timeout"),
        ("evaluate", "--chunk-seconds"),
        ("embed", "--timeout"),
        ("validate", "--check-timeout"),
        ("validate", "--long-seconds"),
    ],
)
def test_seconds_are_finite(command: str, option: str, seconds: str) -> None:
    done = CliRunner().invoke(main, [command, "my_model", option, seconds])
    assert done.exit_code == 2
    assert f"Invalid value for '{option}'" in done.output


def test_the_table_of_checks_starts_with_the_first_check(tmp_path: Path) -> None:
    bad = tmp_path / "bad.toml"
    bad.write_text('modul = "m"')
    done = CliRunner().invoke(main, ["validate", str(bad), "--tmp-dir", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (2, "")
    assert "unknown key in " in done.stderr


def test_each_of_several_submissions_is_named(tmp_path: Path) -> None:
    names = [str(tmp_path / f"{name}.toml") for name in "ab"]
    for name in names:
        Path(name).write_text('module = "m"\nweights = "no.pt"')
    places = ["--tmp-dir", str(tmp_path / "work"), "--tasks-dir", str(tmp_path / "tasks")]
    done = CliRunner().invoke(main, ["evaluate", *names, "--tasks", "spoken_digit", *places])
    assert done.exit_code == 2
    *errors, summary = done.stderr.splitlines()
    for name, error in zip(names, errors, strict=True):
        assert error.startswith(f"error: {name}: model file ")
    assert summary.startswith(f"error: submissions: got none of 2 can be opened: {', '.join(names)}")


@pytest.mark.parametrize("name", ["evaluate", "embed", "predict"])
def test_help_of_overwrite_explains_just_the_words_that_the_command_takes(name: str) -> None:
    (option,) = (
        each for each in main.get_command(click.Context(main), name).params if each.name == "overwrite"
    )
    assert isinstance(option, click.Option)
    assert isinstance(option.type, click.Choice)
    words = set(re.findall("`(.+?)`", str(option.help)))
    assert words == set(option.type.choices) - {"only-missing"}


def test_an_empty_folder_name_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "luigi.cfg").write_text("[heareval]\ntasks_dir =\n")
    done = command(tmp_path, "heareval", "prepare", "spoken_digit")
    assert "tasks folder: got '', expected a folder, such as . for the current one" in only_line(done)
    assert not (tmp_path / "_workdir").exists()
    assert _build_places(("work",), tmp_dir=".").work == str(tmp_path)
    assert _build_places(("work",), tmp_dir=None).work == str(tmp_path / "_workdir")


@pytest.mark.parametrize("is_configured", [False, True])
def test_a_luigid_that_does_not_answer_is_named(
    tmp_path: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch, is_configured: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    config = tmp_path / "luigi.cfg"
    address = f"http://127.0.0.1:{port}"
    retries = "[core]\nrpc_retry_attempts = 1\nrpc_retry_wait = 0\n"
    config.write_text(f"{retries}[heareval]\nscheduler_url = {address if is_configured else ''}\n")
    monkeypatch.chdir(tmp_path)
    words = ["heareval", "prepare", "spoken_digit", "--mirror", str(mirror), "--sample-rate", "16000"]
    words += ["--accept-checksums", str(mirror / "MD5SUMS")]
    done = command(tmp_path, *words, *([] if is_configured else ["--scheduler-url", address]))
    assert done.returncode == 50
    assert f"luigid at {address}: got no answer for 0 s, expected a running luigid" in done.stderr
    if is_configured:
        # An empty address is that of no luigid.
        assert command(tmp_path, *words, "--scheduler-url", "").returncode == 0


@pytest.mark.parametrize(
    "module", [pytest.param(["heareval", "predict"], marks=pytest.mark.slow), ["heareval.predictions.runner"]]
)
def test_command_lines_of_2021_still_work(tmp_path: Path, module: list[str]) -> None:
    """Their booleans are values."""
    write_task(tmp_path / "tasks" / "task", {"train": [8000] * 4, "valid": [8000] * 2, "test": [8000] * 2})
    (tmp_path / "my_model.py").write_text(MODEL)
    embedded = command(tmp_path, "heareval", "embed", "my_model")
    assert embedded.returncode == 0, embedded.stderr
    words = ("--gpus", "0", "--in-memory", "False", "--shuffle", "True", "--deterministic=False")
    words = (*words, "--grid", "faster", "--grid-points", "1", "embeddings/my_model/task")
    done = command(tmp_path, *module, *words)
    assert done.returncode == 0, done.stderr
    (scores,) = (tmp_path / "embeddings" / "my_model" / "task").glob("test.*.predicted-scores.json")
    assert "-shuffled" in scores.name


def test_gpus_may_be_a_list(tmp_path: Path) -> None:
    words = ("heareval", "predict", "--gpus", "[0]", str(tmp_path / "nothing"))
    assert "embeddings folder" in only_line(command(tmp_path, *words))


def test_without_tasks_a_run_takes_the_open_ones(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = use_default_tasks(CorpusRequest(()), print)
    assert corpus.tasks == ("open",)
    (line,) = capsys.readouterr().out.splitlines()
    assert "open tasks: dcase2016_task2, nsynth_pitch, speech_commands, spoken_digit." in line
    assert "`--tasks all` stands for 21 tasks with about 235 hours of sound: 27.0 GB of clips" in line
    assert use_default_tasks(CorpusRequest(("esc50",)), pytest.fail).tasks == ("esc50",)
    # All tasks that have the mode demo are open.
    assert describe_default_tasks("demo").endswith("tasks: dcase2016_task2, nsynth_pitch, speech_commands")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        (["prepare"], ["--tasks", "esc50,esc"]),
        (["prepare", "esc50,esc"], []),
        (["prepare", "esc50"], ["--tasks", "esc"]),
        (["plan", "esc50", "esc"], []),
        (["plan"], ["--tasks", "esc50", "--tasks", "esc"]),
        (["status"], ["--tasks", "esc50", "--tasks", "esc"]),
        (["evaluate", "my_model"], ["--tasks", "esc50,esc"]),
        (["evaluate", "my_model"], ["--tasks", "esc50", "--tasks", "esc"]),
        (["embed", "my_model"], ["--tasks", "esc50,esc"]),
        (["embed", "my_model"], ["--tasks", "esc50", "--task", "esc"]),
    ],
)
def test_tasks_are_written_alike_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], options: list[str]
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    write_task(tmp_path / "tasks" / "esc50", {"train": [8000], "test": [8000]})
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*words, *options])
    assert done.exit_code == 2
    kind = "task folder" if words[0] == "embed" else "task"
    assert f"unknown {kind}: got 'esc'" in done.stderr


def test_a_command_that_needs_tasks_says_so() -> None:
    done = CliRunner().invoke(main, ["prepare"])
    assert done.exit_code == 2
    assert "Missing task: name one or more, or `open`, `all`, `speech`, `environment`" in done.stderr


# What is written -> what is said about it.
TASK_WORDS = {"nsynth_pitch": "is a task", "music": "is a group of tasks", "esc50,fsd50k": "are tasks"}
NO_TASKS = {
    "validate": "MODULE_OR_FILE and no tasks",
    "validate my_model": "MODULE_OR_FILE and no tasks",
    "predict": "TASK_DIR... and no tasks",
    "report": "TASK_DIR... and no tasks",
    "clean": "no tasks",
    "verify": "no tasks",
}


@pytest.mark.parametrize("word", TASK_WORDS)
@pytest.mark.parametrize(
    "before", ["evaluate my_model", "evaluate", "status my_model", "embed", "embed my_model", *NO_TASKS]
)
def test_a_task_in_the_wrong_place_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, word: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*before.split(), word])
    assert done.exit_code == 2
    remedy = f"Write --tasks {word}."
    if before in NO_TASKS:
        # The runner names the command after the function `main`.
        remedy = f"`main {before.split()[0]}` takes {NO_TASKS[before]}."
    assert done.stderr == f"error: {word} {TASK_WORDS[word]}. {remedy}\n"
    assert not list(tmp_path.iterdir())


def test_a_word_too_many_that_is_no_task_is_told() -> None:
    done = CliRunner().invoke(main, ["verify", "a", "b"])
    assert done.exit_code == 2
    assert done.stderr.endswith("Error: Got unexpected extra arguments (a b)\n")


@pytest.mark.parametrize("words", ["evaluate other --tasks", "status --tasks", "prepare"])
@pytest.mark.parametrize("name", ["my_model", "my_model.py"])
def test_a_model_in_place_of_a_task_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_model.py").write_text(MODEL)
    done = CliRunner().invoke(main, [*words.split(), name])
    assert done.exit_code == 2
    remedy = " Write models without --tasks." if "--tasks" in words else ""
    sentence = "got the Python file my_model.py, expected the name or TOML file of a task"
    assert done.stderr == f"error: task {name}: {sentence}{remedy and f'.{remedy}'}\n"


def test_a_model_may_have_the_name_of_a_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "esc50.py").write_text(MODEL)
    done = CliRunner().invoke(main, ["evaluate", "esc50", "--tasks", "esc"])
    assert "unknown task: got 'esc'" in done.stderr


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["my_modle"], "submission my_modle: got no module named my_modle"),
        (["my_modle.py"], "my_modle.py: got no such file"),
        (["my_modle.toml"], "my_modle.toml: got no such file"),
        (["my_model", "--model", "weihgts.pt"], "weihgts.pt: got no such file"),
        (["my_modle", "my_modle.py"], "submissions: got none of 2 can be opened: my_modle, my_modle.py"),
    ],
)
def test_a_model_is_looked_for_before_corpora_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], error: str
) -> None:
    (tmp_path / "my_model.py").write_text(MODEL)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["evaluate", *words, "--mode", "demo"])
    assert done.exit_code == 2
    assert error in done.stderr, done.stderr
    assert not list(tmp_path.glob("_workdir/demo*"))


def _list_commands(
    command: click.Command, words: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command with the words that call it."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    with click.Context(command) as context:
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from _list_commands(inner, (*words, name))


EVERY_COMMAND = dict(_list_commands(main, ("heareval",)))


@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_has_an_example_that_works(words: tuple[str, ...]) -> None:
    command = EVERY_COMMAND[words]
    assert isinstance(command, GroupedCommand)
    for line in command.example.splitlines():
        name, *given = shlex.split(line)
        assert name == "heareval"
        # The help of a command shows its own examples. Unknown options and values raise an error.
        chosen: click.Command = main
        while isinstance(chosen, click.Group):
            with click.Context(chosen) as context:
                called = (
                    given[0] if isinstance(chosen.get_command(context, given[0]), click.Command) else "build"
                )
                given = given[1:] if called == given[0] else given
                inner = chosen.get_command(context, called)
                assert inner
                chosen = inner
        assert chosen is command
        command.make_context(name, given)
    shown = CliRunner().invoke(main, [*words[1:], "--help"]).output
    assert f"\nExample:\n  {command.example.splitlines()[0]}\n" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_options_are_shown_in_groups() -> None:
    shown = CliRunner().invoke(main, ["evaluate", "--help"]).output
    headings = [line for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [f"{name}:" for name in (*GROUPS, "Options", "Example")]
    assert "\nTasks:\n  --tasks" in shown
    # Every name of a group is that of an option.
    known = {each.name for command in EVERY_COMMAND.values() for each in command.params}
    assert {name for names in GROUPS.values() for name in names} <= known


@pytest.mark.parametrize(
    ("option", "value"),
    [("--seed", "99999999999999999999"), ("--seed", str(MAX_SEED + 1)), ("--seeds", "10000")],
)
def test_seeds_beyond_the_limit_of_cards_are_refused(option: str, value: str) -> None:
    done = CliRunner().invoke(main, ["predict", "folder", option, value])
    assert done.exit_code == 2
    assert f"Invalid value for '{option}': {value} is not in the range" in done.output


# --------------------------------------------------------------------------- empty values


def _list_values() -> Iterator[tuple[str, str]]:
    """Yield every command with each of its parameters that takes a value, by its name."""
    for words, each in EVERY_COMMAND.items():
        for parameter in each.params:
            if not getattr(parameter, "is_flag", False):
                yield " ".join(words), str(parameter.name)


# An empty address is that of no luigid, an empty folder that of the system; scripts of 2021 may pass an
# empty --model.
NONE_IF_EMPTY = [
    (words, name)
    for words, name in _list_values()
    if name in ("scheduler_url", "scratch_dir") or (words, name) == ("heareval embed", "weights")
]


@pytest.mark.parametrize(("words", "name"), sorted({*_list_values()} - {*NONE_IF_EMPTY}))
def test_an_empty_value_is_refused(
    words: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as `--tasks "$UNSET"` in a script, which meant the default."""
    each = EVERY_COMMAND[tuple(words.split())]
    given: list[str] = []
    for parameter in each.params:
        value = "" if parameter.name == name else "x"
        if isinstance(parameter, click.Argument) and (parameter.required or parameter.name == name):
            given.append(value)
        elif isinstance(parameter, click.Option) and (parameter.required or parameter.name == name):
            given += [parameter.opts[0], value]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, [*words.split()[1:], *given])
    assert not list(tmp_path.iterdir())
    assert done.exit_code == 2
    assert re.fullmatch(r"error: [^ ]+: got '', expected .+\n", done.stderr), done.stderr
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)


@pytest.mark.parametrize("option", ["--seeds", "--train-threads", "--probe", "--gpus", "--timeout"])
def test_an_empty_number_or_choice_names_its_remedy(option: str) -> None:
    done = CliRunner().invoke(main, ["evaluate", "my_model", f"{option}="])
    assert (done.exit_code, done.stdout) == (2, "")
    remedy = "Leave it out, or check the variable if a script gives it."
    assert done.stderr == f"error: {option}: got '', expected a value that is not empty. {remedy}\n"
    # Help is shown in any case.
    assert CliRunner().invoke(main, ["evaluate", option, "", "--help"]).exit_code == 0


def test_a_list_of_nothing_but_commas_is_empty() -> None:
    for words in (
        ["evaluate", "m", "--tasks", ","],
        ["prepare", " , "],
        ["predict", " "],
        ["embed", "m", "--task", ","],
    ):
        done = CliRunner().invoke(main, words)
        assert done.exit_code == 2
        assert re.search(r"', expected a (value that is not empty|folder, such)", done.stderr)


@pytest.mark.parametrize(("words", "name"), NONE_IF_EMPTY)
def test_what_may_be_empty_is_taken(words: str, name: str) -> None:
    each = EVERY_COMMAND[tuple(words.split())]
    required = [
        "x" for parameter in each.params if isinstance(parameter, click.Argument) and parameter.required
    ]
    (option,) = (parameter.opts[0] for parameter in each.params if parameter.name == name)
    context = each.make_context(each.name, [*required, option, ""])
    assert context.params[name] == ""
